"""Command `prefect-tracktor ledger`."""

import csv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_tracktor import NotificationLedger
from prefect_tracktor.cli import main
from prefect_tracktor.history import COLUMNS
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState

Output = Callable[[], str]


def key(order_id: int, shop: str = "shop", reason: str = "exception:expired") -> NoticeKey:
    return NoticeKey(shop, order_id, 7, reason)


@pytest.fixture
def ledger(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[NotificationLedger]:
    """The ledger that the command uses, on a machine without a Prefect server."""
    monkeypatch.setenv("TRACKTOR_LEDGER_URL", database_url)
    ledger = NotificationLedger(url=database_url)
    ledger.complete([key(1)], NoticeState.SENT, run="first")
    ledger.complete([key(2)], NoticeState.REFUSED, run="second")
    with temporary_settings({PREFECT_API_URL: None}):
        yield ledger


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    return lambda: "".join(capsys.readouterr())


def claim_by_killed_run(ledger: NotificationLedger, order_id: int) -> None:
    ledger.claim([key(order_id)], run="killed")
    notices = ledger.tables[0]
    with ledger.transaction() as database:
        database.execute(
            notices.update()
            .where(notices.c.order_id == order_id)
            .values(claimed_at=datetime.now(UTC) - timedelta(hours=2))
        )


def test_ledger_history_prints_a_table_with_the_newest_first(
    ledger: NotificationLedger, output: Output
) -> None:
    assert main(["ledger", "history"]) == 0
    place, header, *rows = output().splitlines()
    assert place == f"The ledger is {ledger.place}."
    assert header.split() == list(COLUMNS)
    assert [(row.split()[1], row.split()[4], row.split()[-1]) for row in rows] == [
        ("2", "refused", "second"),
        ("1", "sent", "first"),
    ]


def test_ledger_history_lists_fifty_notices_by_default(
    ledger: NotificationLedger, output: Output
) -> None:
    ledger.claim([key(n) for n in range(3, 100)], run="third")
    main(["ledger", "history"])
    assert len(output().splitlines()) == 2 + 50
    main(["ledger", "history", "--limit", "98"])
    assert len(output().splitlines()) == 2 + 98


def test_ledger_history_can_be_limited_to_one_account(
    ledger: NotificationLedger, output: Output
) -> None:
    ledger.claim([key(5, shop="oslo")], run="third")
    main(["ledger", "history", "--account", "oslo"])
    assert [line.split()[1] for line in output().splitlines()[2:]] == ["5"]


def test_ledger_history_writes_all_notices_to_a_csv_file(
    ledger: NotificationLedger, output: Output, tmp_path: Path
) -> None:
    ledger.claim([key(n) for n in range(3, 1203)], run="third")
    file = tmp_path / "notices.csv"
    assert main(["ledger", "history", "--csv", str(file)]) == 0
    assert f"wrote 1,202 notices to {file}" in output()
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == list(COLUMNS)
    assert {int(row["order_id"]) for row in rows} == set(range(1, 1203))
    first = rows[-1]
    assert (first["account"], first["reason"], first["run"]) == (
        "shop",
        "exception:expired",
        "first",
    )
    assert datetime.fromisoformat(first["completed_at"]).utcoffset() == timedelta(0)


def test_formulas_in_a_reason_are_escaped_in_the_csv_file(
    ledger: NotificationLedger, tmp_path: Path
) -> None:
    ledger.claim([key(3, reason="=HYPERLINK(1)"), key(3, reason="status:x;=1+1")], run="third")
    main(["ledger", "history", "--csv", str(tmp_path / "notices.csv")])
    text = (tmp_path / "notices.csv").read_text()
    assert ",'=HYPERLINK(1)," in text
    assert "status:x;'=1+1," in text


def test_ledger_show_lists_the_notices_of_orders(
    ledger: NotificationLedger, output: Output
) -> None:
    assert main(["ledger", "show", "1", "404"]) == 0
    _, _, row = output().splitlines()
    assert row.split()[:5] == ["shop", "1", "7", "exception:expired", "sent"]
    assert main(["ledger", "show", "404"]) == 0
    _, none, hint = output().splitlines()
    assert none == "No notices."
    assert hint.endswith("not the order's number such as #1001.")


def test_ledger_uncertain_lists_messages_and_records_whether_they_arrived(
    ledger: NotificationLedger, output: Output
) -> None:
    for order_id in (3, 4, 5):
        claim_by_killed_run(ledger, order_id)
    assert main(["ledger", "uncertain"]) == 0
    printed = output()
    assert printed.count("claimed") == 1 + 3
    assert "add --arrived ORDER_ID or --not-arrived ORDER_ID" in printed
    assert main(["ledger", "uncertain", "--arrived", "3", "--not-arrived", "4"]) == 0
    assert "1 recorded as sent, 1 to be sent by the next run" in output()
    assert ledger.states([key(3), key(4), key(5)]) == {
        key(3): NoticeState.SENT,
        key(5): NoticeState.CLAIMED,
    }


def test_ledger_uncertain_rejects_an_order_without_an_uncertain_message(
    ledger: NotificationLedger, output: Output
) -> None:
    claim_by_killed_run(ledger, 3)
    ledger.claim([key(4)], run="a minute ago")
    assert main(["ledger", "uncertain", "--not-arrived", "3", "4"]) == 2
    assert "--not-arrived: no message of the order 4 is uncertain" in output()
    assert ledger.claim([key(3), key(4)], run="next") == set()


def test_ledger_uncertain_records_nothing_if_one_order_id_is_wrong(
    ledger: NotificationLedger, output: Output
) -> None:
    for order_id in (3, 4):
        claim_by_killed_run(ledger, order_id)
    for arguments, problem in [
        (["--arrived", "3", "--not-arrived", "404"], "no message of the order 404 is uncertain"),
        (["--arrived", "3", "--not-arrived", "#1001"], "--not-arrived 1 must be a positive whole"),
        (["--arrived", "3", "4", "--not-arrived", "4"], "order 4 is given to both --arrived"),
    ]:
        assert main(["ledger", "uncertain", *arguments]) == 2
        assert problem in output()
        assert set(ledger.states([key(3), key(4)]).values()) == {NoticeState.CLAIMED}


@pytest.mark.parametrize("days", ["1000000", "1000000000000"])
def test_ledger_forget_accepts_a_very_high_age(
    ledger: NotificationLedger, output: Output, days: str
) -> None:
    assert main(["ledger", "forget", "--older-than-days", days]) == 2
    assert "0 notices would be deleted" in output()
    assert main(["ledger", "forget", "--older-than-days", days, "--yes"]) == 0
    assert len(list(ledger.history())) == 2


def test_ledger_forget_deletes_only_with_yes(ledger: NotificationLedger, output: Output) -> None:
    ledger.claim([key(1, reason="status:delivered")], run="killed")
    assert main(["ledger", "forget", "1"]) == 2
    assert "1 notices would be deleted" in output()
    assert len(ledger.told([1])) == 2
    assert main(["ledger", "forget", "1", "--yes"]) == 0
    printed = output()
    assert "deleted 1 notices" in printed
    assert "status:delivered" in printed.partition("These stay")[2]
    assert [notice.key.reason for notice in ledger.told([1])] == ["status:delivered"]


def test_ledger_forget_counts_old_notices_before_deleting_them(
    ledger: NotificationLedger, output: Output
) -> None:
    notices = ledger.tables[0]
    with ledger.transaction() as database:
        database.execute(
            notices.update()
            .where(notices.c.order_id == 1)
            .values(completed_at=datetime.now(UTC) - timedelta(days=91))
        )
    assert main(["ledger", "forget", "--older-than-days", "90"]) == 2
    assert "1 notices would be deleted" in output()
    assert main(["ledger", "forget", "--older-than-days", "90", "--yes"]) == 0
    assert "deleted 1 notices" in output()
    assert [notice.key for notice in ledger.history()] == [key(2)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["show"], "name at least one order by its id"),
        (["show", "#1001"], "order id 1 must be a positive whole number"),
        (["forget"], "either orders (ORDER-IDS) or --older-than-days"),
        (["forget", "1", "--older-than-days", "9"], "one of the two"),
        (["forget", "--older-than-days", "0"], "--older-than-days must be a positive whole number"),
        (["forget", "--older-than-days", "0", "--yes"], "days must be a positive whole number"),
        (["forget", "1", "x", "--yes"], "order id 2 must be a positive whole number"),
        (["history", "--limit", "0"], "--limit must be a positive whole number"),
        (["history", "--limit", "-1"], "--limit must be a positive whole number"),
        (["history", "--csv", "notices.csv", "--limit", "-1"], "--limit must be a positive"),
        (["history", "--csv", "notices.xlsx"], "must end in .csv, such as notices.xlsx.csv"),
        (["history", "--csv", "/no/such/folder/notices.csv"], "there is no such folder; create it"),
    ],
)
def test_invalid_arguments_of_the_ledger_command_are_rejected(
    arguments: list[str], problem: str, ledger: NotificationLedger, output: Output
) -> None:
    assert main(["ledger", *arguments]) == 2
    assert problem in output()
    assert len(list(ledger.history())) == 2


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_ledger_forget_is_refused_while_a_run_is_at_work(
    ledger: NotificationLedger, output: Output
) -> None:
    with ledger.at_work("of 9 o'clock"):
        assert main(["ledger", "forget", "1", "--yes"]) == 2
    assert "the run of 9 o'clock is at work with this ledger" in output()


def test_the_ledger_command_without_a_ledger_names_the_settings(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRACKTOR_LEDGER_URL", raising=False)
    with temporary_settings({PREFECT_API_URL: None}):
        assert main(["ledger", "history"]) == 2
    assert "set PREFECT_API_URL" in output()


@pytest.mark.usefixtures("prefect_api")
def test_the_ledger_command_uses_the_saved_block(output: Output, tmp_path: Path) -> None:
    ledger = NotificationLedger(url=f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.save("of-oslo", overwrite=True)
    assert main(["ledger", "show", "1", "--block", "of-oslo"]) == 0
    assert f"The ledger is {ledger.place}." in output()
    assert main(["ledger", "show", "1", "--block", "of-rome"]) == 2
    assert "there is no block tracktor-notification-ledger/of-rome: save it with" in output()
