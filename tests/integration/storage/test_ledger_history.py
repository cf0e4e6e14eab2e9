"""Ledger history and deletion in SQLite and PostgreSQL, and the record of the ledger in use."""

import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from prefect.variables import Variable
from sqlalchemy import create_engine, make_url, text

from prefect_tracktor import InvalidInput, NotificationLedger
from prefect_tracktor.errors import LedgerInUse, LedgerReplaced
from prefect_tracktor.storage.ledger import Notice, NoticeKey, NoticeState
from prefect_tracktor.storage.ledger_memory import LedgerMemory

NOW = timedelta(0)


def key(order_id: int, reason: str = "exception:expired", shop: str = "shop") -> NoticeKey:
    return NoticeKey(shop, order_id, 10 * order_id, reason)


def keys(*order_ids: int) -> list[NoticeKey]:
    return [key(order_id) for order_id in order_ids]


@pytest.fixture
def ledger(database_url: str) -> NotificationLedger:
    return NotificationLedger(url=database_url)


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect_tracktor.storage.ledger._PAGE_SIZE", 100)


def sent(ledger: NotificationLedger, *order_ids: int, run: str = "first") -> None:
    ledger.claim(keys(*order_ids), run=run)
    ledger.complete(keys(*order_ids), NoticeState.SENT, run=run)


def aged(ledger: NotificationLedger, order_ids: list[int], by: timedelta) -> None:
    notices = ledger.tables[0]
    then = datetime.now(UTC) - by
    with ledger.transaction() as database:
        database.execute(
            notices.update()
            .where(notices.c.order_id.in_(order_ids))
            .values(claimed_at=then, completed_at=then)
        )


# ---- notices of orders


def test_notices_of_orders_are_listed_with_times_and_run(ledger: NotificationLedger) -> None:
    before = datetime.now(UTC)
    sent(ledger, 1, 2, run="first")
    ledger.claim([key(1, "status:delivered")], run="killed")
    ledger.complete([key(1, "exception:pending")], NoticeState.REFUSED, run="third")
    notices = ledger.told([1, "404"])  # type: ignore[list-item]
    assert [(notice.key, notice.state.value, notice.run) for notice in notices] == [
        (key(1), "sent", "first"),
        (key(1, "status:delivered"), "claimed", "killed"),
        (key(1, "exception:pending"), "refused", "third"),
    ]
    assert all(before <= notice.claimed_at <= datetime.now(UTC) for notice in notices)
    assert [notice.completed_at is None for notice in notices] == [False, True, False]


def test_an_order_lists_the_notices_of_all_accounts(ledger: NotificationLedger) -> None:
    ledger.complete([key(1, shop="oslo"), key(1, shop="rome")], NoticeState.SENT, run="first")
    assert {notice.key.shop for notice in ledger.told([1])} == {"oslo", "rome"}


def test_notices_of_thousands_of_orders_are_listed_together(ledger: NotificationLedger) -> None:
    some = range(1, 3000, 100)
    sent(ledger, *some)
    assert [notice.key.order_id for notice in ledger.told(range(1, 3000))] == list(some)


@pytest.mark.parametrize("method", ["told", "forget"])
def test_an_invalid_order_id_is_reported_with_its_position(
    ledger: NotificationLedger, method: str
) -> None:
    sent(ledger, 1)
    for wrong in ("#1001", -1, 0, 2**63, 1.5, True, None):
        with pytest.raises(InvalidInput, match=r"order_ids\[1\] must be a positive whole number"):
            pytest.fail(f"{wrong!r} is an id: {getattr(ledger, method)([1, wrong])}")
    assert len(ledger.told([1])) == 1


@pytest.mark.parametrize("one", [12, "12"])
def test_one_order_id_is_accepted_instead_of_a_list(ledger: NotificationLedger, one: Any) -> None:
    sent(ledger, 1, 2, 12)
    assert [notice.key for notice in ledger.told(one)] == keys(12)
    assert ledger.forget(one) == 1
    assert [notice.key for notice in ledger.told([1, 2, 12])] == keys(1, 2)


@pytest.mark.parametrize("unusable", [None, 1.5, {12: "Sewing"}, b"12", NotificationLedger])
def test_order_ids_that_are_no_list_are_rejected(ledger: NotificationLedger, unusable: Any) -> None:
    with pytest.raises(InvalidInput, match="order_ids must be a list of Shopify order ids, not"):
        ledger.told(unusable)
    with pytest.raises(InvalidInput, match="order_ids must be a list of Shopify order ids, not"):
        ledger.forget(unusable)


# ---- history


def test_the_ledger_history_starts_with_the_newest_notice(ledger: NotificationLedger) -> None:
    for order_id in (1, 2, 3):
        sent(ledger, order_id, run=f"run {order_id}")
    assert [notice.run for notice in ledger.history()] == ["run 3", "run 2", "run 1"]


def test_the_ledger_history_can_be_limited_to_one_account(ledger: NotificationLedger) -> None:
    ledger.complete([key(1, shop="oslo"), key(2, shop="rome")], NoticeState.SENT, run="first")
    assert [notice.key.order_id for notice in ledger.history(account="oslo")] == [1]
    assert list(ledger.history(account="")) == []


@pytest.mark.usefixtures("short_pages")
def test_history_pages_split_notices_of_the_same_time_without_loss(
    ledger: NotificationLedger,
) -> None:
    # all claims of a statement have the same time
    sent(ledger, *range(1, 251))
    history = list(ledger.history())
    assert sorted(notice.key.order_id for notice in history) == list(range(1, 251))
    assert all(first.claimed_at >= second.claimed_at for first, second in pairwise(history))


@pytest.mark.usefixtures("short_pages")
def test_notices_can_be_recorded_while_the_history_is_read(
    ledger: NotificationLedger,
) -> None:
    sent(ledger, *range(1, 121))
    history = ledger.history()
    first = [next(history).key.order_id]
    sent(ledger, *range(201, 211))
    rest = [notice.key.order_id for notice in history]
    assert sorted(first + rest) == list(range(1, 121))


@pytest.mark.usefixtures("short_pages")
def test_a_long_history_is_read_page_by_page(ledger: NotificationLedger) -> None:
    sent(ledger, *range(1, 1001))

    def peak(notices: Iterator[Notice]) -> int:
        tracemalloc.start()
        for _ in notices:
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    list(islice(ledger.history(), 1))  # imports and compiles once
    assert peak(ledger.history()) < 2 * peak(islice(ledger.history(), 200))


# ---- forget


def test_a_forgotten_notice_can_be_sent_again(ledger: NotificationLedger) -> None:
    sent(ledger, 1, 2)
    assert ledger.forget([1, 3]) == 1
    assert [notice.key for notice in ledger.history()] == keys(2)
    assert ledger.claim(keys(1, 2), run="next") == set(keys(1))


def test_forget_keeps_open_claims(ledger: NotificationLedger) -> None:
    ledger.claim(keys(1), run="killed")
    ledger.complete([key(1, "status:delivered")], NoticeState.REFUSED, run="first")
    assert ledger.forget([1]) == 1
    assert [notice.key for notice in ledger.told([1])] == keys(1)
    assert ledger.claim(keys(1), run="next") == set()


@pytest.mark.parametrize("state", ["claimed", "sent"])
def test_forget_is_refused_while_a_run_is_at_work(ledger: NotificationLedger, state: str) -> None:
    with ledger.at_work("working"):
        ledger.claim(keys(1), run="other")
        if state == "sent":
            ledger.complete(keys(1), NoticeState.SENT, run="other")
            aged(ledger, [1], timedelta(days=500))
        with pytest.raises(LedgerInUse, match=r"the run working is at work .* and try again"):
            ledger.forget([1])
        with pytest.raises(LedgerInUse):
            ledger.forget_older_than(30)
        assert ledger.claim(keys(1), run="working") == set()
    assert ledger.forget([1]) == (state == "sent")


def test_forget_ignores_a_killed_run(
    ledger: NotificationLedger,
) -> None:
    sent(ledger, 1)
    with ledger.at_work("killed"):
        with ledger.transaction() as database:
            runs = ledger.tables[2]
            database.execute(
                runs.update().values(heartbeat_at=datetime.now(UTC) - timedelta(hours=1))
            )
        assert ledger.forget([1]) == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_run_that_starts_during_forget_waits_for_it(database_url: str) -> None:
    ledger = NotificationLedger(url=database_url)
    sent(ledger, 1)
    notices, runs = ledger.tables[0], ledger.tables[2].name
    locked = text(
        "SELECT count(*) FROM pg_locks WHERE mode = 'ShareLock' AND relation = to_regclass(:table)"
    )
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as blocking, ExitStack() as work:
        blocking.execute(notices.select().with_for_update())
        forgetting = threading.Thread(target=ledger.forget, args=([1],))
        forgetting.start()
        while not blocking.scalar(locked, {"table": runs}):
            assert forgetting.is_alive()
        starting = threading.Thread(target=work.enter_context, args=[ledger.at_work("starting")])
        starting.start()
        starting.join(0.5)
        assert starting.is_alive()
        blocking.rollback()
        forgetting.join()
        starting.join()
        assert ledger.told([1]) == []
    engine.dispose()


def test_forget_older_than_deletes_old_notices_only(ledger: NotificationLedger) -> None:
    sent(ledger, 1, 2, 3)
    aged(ledger, [1, 2], timedelta(days=31))
    aged(ledger, [3], timedelta(days=29))
    ledger.claim(keys(4), run="killed")
    assert ledger.forget_older_than(30) == 2
    assert {notice.key for notice in ledger.history()} == set(keys(3, 4))


def test_many_notices_are_forgotten_in_batches(
    ledger: NotificationLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_tracktor.storage.ledger._DELETE_BATCH_SIZE", 10)
    sent(ledger, *range(1, 26))
    aged(ledger, list(range(1, 26)), timedelta(days=31))
    assert ledger.forget_older_than(30) == 25
    assert ledger.standing("shop").sent == 25


def test_forget_older_than_rejects_invalid_days(ledger: NotificationLedger) -> None:
    sent(ledger, 1)
    for days in (0, -1, "many", 1.5, True):
        with pytest.raises(InvalidInput, match="days must be a positive whole number"):
            pytest.fail(f"{days!r} forgot {ledger.forget_older_than(days)}")  # type: ignore[arg-type]
    assert ledger.forget_older_than(10**12) == 0
    assert len(ledger.told([1])) == 1


@pytest.mark.usefixtures("prefect_api")
def test_forgotten_notices_do_not_count_as_lost(
    ledger: NotificationLedger,
) -> None:
    memory = LedgerMemory.of("shop")
    sent(ledger, 1, 2, 3)
    memory.keep(ledger.standing("shop"))
    assert ledger.forget([1, 2]) == 2
    memory.check(ledger.standing("shop"))
    with ledger.transaction() as database:
        database.execute(ledger.tables[0].delete())
    with pytest.raises(LedgerReplaced, match="has lost notices"):
        memory.check(ledger.standing("shop"))


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("value", [True, 7, ["accept"], {"accept": True}, None, "accepted"])
def test_only_the_word_accept_in_the_variable_accepts_a_replaced_ledger(
    tmp_path: Path, value: Any
) -> None:
    ledger = NotificationLedger(url=f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    memory = LedgerMemory.of("shop")
    Variable.set(memory.variable, value, overwrite=True)
    with pytest.raises(LedgerReplaced, match="is not the one"):
        memory.check(ledger.standing("shop"))
    with pytest.raises(LedgerReplaced, match="is not the one"):
        memory.keep(ledger.standing("shop"))
    Variable.set(memory.variable, "accept", overwrite=True)
    assert memory.check(ledger.standing("shop"))
    Variable.unset(memory.variable)
