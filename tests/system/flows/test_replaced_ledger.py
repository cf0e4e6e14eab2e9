"""A ledger that is new, replaced or emptied stops a run before its first message."""

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import run as run_program

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from pydantic import ValidationError
from sqlalchemy import create_engine

from prefect_tracktor import CompletedOrders, IncompleteRun, NotificationLedger, TracktorCredentials
from prefect_tracktor.errors import LedgerReplaced
from prefect_tracktor.flows import announce_exceptions
from prefect_tracktor.sandbox import MailFaults, MailServer, Sandbox, Shop
from prefect_tracktor.saved_blocks import shared_ledger
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState
from prefect_tracktor.storage.ledger_memory import LedgerMemory, LedgerStanding
from tests.system.flows.conftest import Run, written_to

pytestmark = pytest.mark.usefixtures("prefect_api")

REHEARSAL = {"mode": "rehearsal", "rehearsal_address": "me@shop.example"}


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A smaller shop, in which six customers are due an email."""
    with Sandbox(Shop(orders=20, expired=6)) as sandbox:
        yield sandbox


def path_of(ledger: NotificationLedger) -> Path:
    return Path(ledger.place)


def another(ledger: NotificationLedger) -> NotificationLedger:
    """A ledger in another file, as after a typing error."""
    return NotificationLedger(url=f"sqlite:///{path_of(ledger).with_name('legder.sqlite3')}")


def deleted(ledger: NotificationLedger) -> NotificationLedger:
    for file in path_of(ledger).parent.glob("ledger.sqlite3*"):
        file.unlink()
    return ledger


def emptied(ledger: NotificationLedger) -> NotificationLedger:
    with create_engine(ledger.url.get_secret_value()).begin() as database:
        database.exec_driver_sql("DELETE FROM tracktor_notifications")
    return ledger


def older(ledger: NotificationLedger) -> NotificationLedger:
    """A copy without the last notices, as if made without the -wal file."""
    copy = path_of(ledger).with_name("copy.sqlite3")
    with create_engine(ledger.url.get_secret_value()).begin() as database:
        database.exec_driver_sql(f"VACUUM INTO '{copy}'")
    with create_engine(f"sqlite:///{copy}").begin() as database:
        database.exec_driver_sql(
            "DELETE FROM tracktor_notifications WHERE order_id ="
            " (SELECT max(order_id) FROM tracktor_notifications)"
        )
    return NotificationLedger(url=f"sqlite:///{copy}")


LOSSES = (another, older, emptied, deleted)


def test_a_ledger_without_earlier_notices_stops_the_run_before_its_first_message(
    run: Run, mail: MailServer, ledger: NotificationLedger
) -> None:
    before = written_to(mail) if run().sent else []

    def problem_with(forgetful: NotificationLedger) -> str:
        try:
            run(ledger=forgetful)
        except LedgerReplaced as replaced:
            return str(replaced)
        return "none"

    # the last two change the ledger itself
    problems = {lose.__name__: problem_with(lose(ledger)) for lose in LOSSES}
    advice = re.compile(r"Nothing was sent.*prefect variable set")
    assert [name for name, text in problems.items() if not advice.search(text)] == []
    assert written_to(mail) == before


def test_a_run_does_not_fall_back_to_the_default_ledger_silently(
    run: Run,
    mail: MailServer,
    ledger: NotificationLedger,
    monkeypatch: pytest.MonkeyPatch,
    prefect_home: Path,
) -> None:
    monkeypatch.setattr("prefect_tracktor.saved_blocks.SHARED", "deleted-later")
    ledger.save("deleted-later", overwrite=True)
    before = written_to(mail) if run(ledger=None).sent else []
    NotificationLedger.delete("deleted-later")
    assert Path(shared_ledger().place).parent == prefect_home
    with pytest.raises(LedgerReplaced, match=str(prefect_home)):
        run(ledger=None)
    assert written_to(mail) == before


def test_only_one_of_two_simultaneous_first_runs_with_different_ledgers_sends(
    run: Run, mail: MailServer, ledger: NotificationLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = another(ledger)
    keep = LedgerMemory.keep

    def after_the_other(self: LedgerMemory, standing: LedgerStanding) -> None:
        monkeypatch.setattr(LedgerMemory, "keep", keep)
        assert run(ledger=other).sent
        keep(self, standing)

    monkeypatch.setattr(LedgerMemory, "keep", after_the_other)
    with pytest.raises(LedgerReplaced):
        run()
    assert len(written_to(mail)) == len(set(written_to(mail)))


def test_another_ledger_is_used_once_accepted_in_code_or_by_command(
    run: Run, ledger: NotificationLedger, credentials: TracktorCredentials
) -> None:
    first = run()
    in_code = another(ledger)
    in_code.accept(credentials.account)
    assert run(ledger=in_code).sent == first.sent
    with pytest.raises(LedgerReplaced):
        run(ledger=ledger)
    by_command = NotificationLedger(url=f"sqlite:///{path_of(ledger).with_name('third.sqlite3')}")
    name = f"tracktor_ledger_{credentials.account}"
    run_program(
        [sys.executable, "-m", "prefect", "variable", "set", name, "accept", "--overwrite"],
        check=True,
        env={"PREFECT_API_URL": str(PREFECT_API_URL.value())},
    )
    assert run(ledger=by_command).sent == first.sent
    with pytest.raises(LedgerReplaced):
        run(ledger=in_code)


def test_a_dry_run_or_rehearsal_with_another_ledger_only_warns(
    run: Run,
    credentials: TracktorCredentials,
    ledger: NotificationLedger,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        first = run().sent
        sent = ledger.standing(credentials.account).sent
        new = another(ledger)
        assert run(ledger=new, dry_run=True).due == first
        assert run(ledger=new, **REHEARSAL).rehearsed == first
        assert run().already_told == first
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    found = [record for record in warnings if "A run that sends would stop" in record.getMessage()]
    assert len(found) == 2
    assert sent >= len(first)
    assert f"The ledger is {ledger.place}; it holds 0 notices" in caplog.text
    assert f"The ledger is {ledger.place}; it holds {sent} notices" in caplog.text


def test_an_account_with_a_new_uuid_sends_no_message_again(
    run: Run, tracktor: Sandbox, mail: MailServer, ledger: NotificationLedger
) -> None:
    sent = run().sent
    before = written_to(mail)
    with Sandbox(tracktor.shop, uuid="00000000-0000-4000-8000-00000000000b") as moved:
        new = TracktorCredentials(uuid=moved.uuid, api_key=moved.api_key, base_url=moved.base_url)
        with pytest.raises(LedgerReplaced, match=r"another account.*take_over\('") as stopped:
            run(credentials=new)
        old = str(stopped.value).split("take_over('")[1].split("'")[0]
        assert ledger.take_over(old, new.account) >= len(before)
        assert run(credentials=new).already_told == sent
    assert written_to(mail) == before


def test_a_new_ledger_does_not_repeat_events(
    tracktor: Sandbox, credentials: TracktorCredentials, ledger: NotificationLedger
) -> None:
    ids = list(tracktor.shop.order_ids)
    assert announce_exceptions(credentials, ids, ledger=ledger).announced
    with pytest.raises(LedgerReplaced):
        announce_exceptions(credentials, ids, ledger=another(ledger))


@pytest.mark.parametrize(
    "url", ["sqlite:///ledger.sqlite3", "sqlite:///../x/ledger.sqlite3", "sqlite:///~/ledger.db"]
)
def test_a_ledger_with_a_relative_path_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="whole path with four slashes"):
        NotificationLedger(url=url)


def test_a_rehearsal_and_a_dry_run_record_no_completed_orders(
    run: Run, tracktor: Sandbox, tmp_path: Path
) -> None:
    run()
    completed = CompletedOrders(url=f"sqlite:///{tmp_path / 'completed.sqlite3'}")
    assert not run(completed_orders=completed, **REHEARSAL).rehearsed
    for dry_run in ({"dry_run": True}, {"mode": "dry_run"}):
        assert run(completed_orders=completed, **dry_run).completed == ()
    assert len(run(completed_orders=completed).read) == 20
    assert run(completed_orders=completed).completed


def test_a_refused_notice_is_listed_and_cleared(
    run: Run, mail: MailServer, ledger: NotificationLedger
) -> None:
    sent = run().sent
    key = NoticeKey("shop", 1, 7, "exception:expired")
    ledger.complete([key], NoticeState.REFUSED, run="first")
    assert [notice.key for notice in ledger.refused()] == [key]
    assert ledger.clear_refused([key]) == 1
    assert ledger.refused() == []
    assert run().already_told == sent


def test_messages_beyond_the_time_limit_for_sending_are_deferred(
    run: Run, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_tracktor.runs.sending._SECONDS_TO_BEGIN", 1)
    monkeypatch.setattr("prefect_tracktor.runs.sending._SECONDS_A_MESSAGE", 0)
    mail.faults = MailFaults(delay_seconds=0.6)
    with pytest.raises(IncompleteRun) as stopped:
        run()
    report = stopped.value.report
    assert 1 <= len(report.sent) < 6
    assert len(report.sent) + len(report.deferred) == 6
    mail.faults = MailFaults()
    monkeypatch.undo()
    assert set(run().sent) == set(report.deferred)


@pytest.fixture
def prefect_home(tmp_path: Path) -> Iterator[Path]:
    with temporary_settings(updates={PREFECT_HOME: tmp_path / "home"}):
        yield tmp_path / "home"
