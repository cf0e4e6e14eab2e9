"""Runs that are killed: nobody gets two messages, and nobody is forgotten without a word."""

import os
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL

from prefect_tracktor import IncompleteRun, NotificationLedger, TracktorCredentials
from prefect_tracktor.flows import MailReport, WatchReport, report_exceptions
from prefect_tracktor.runs.cases import Outcome
from prefect_tracktor.sandbox import MailFaults, MailServer, Sandbox, Shop
from tests.support.digests import new_in
from tests.support.http_service import HttpService
from tests.system.flows.conftest import Run, written_to
from tests.system.flows.interrupted import (
    TEAM,
    Elsewhere,
    kill_after,
    kill_while_sending,
    notify,
    report,
    run_there,
    send_all,
    start,
    watch,
)

KILLS = int(os.environ.get("TRACKTOR_TEST_KILLS", "2"))


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A mail server that takes its time, so that there is a middle to be killed in."""
    with MailServer(faults=MailFaults(delay_seconds=0.01)) as server:
        yield server


@pytest.fixture
def killed_runs_are_soon_dead(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Take the claims of killed runs for theirs after a second from now on, and not 15.

    Only for a run that has no other beside it: no heartbeat can be late.
    """
    soon = timedelta(seconds=1)
    return lambda: monkeypatch.setattr("prefect_tracktor.storage.ledger._HEARTBEAT_TIMEOUT", soon)


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"


def test_twenty_kills_while_sending_give_nobody_two_messages(
    mail: MailServer, ledger_url: str, killed_runs_are_soon_dead: Callable[[], None]
) -> None:
    chance = random.Random(20)
    killed = [
        kill_while_sending(
            start(send_all, ledger_url, mail.port, 100, f"run-{number}"), mail, chance=chance
        )
        for number in range(20)
    ]
    assert all(killed)
    killed_runs_are_soon_dead()
    last = send_all(ledger_url, mail.port, 100, "last")

    recipients = written_to(mail)
    assert len(recipients) == len(set(recipients))
    without = {f"c{number}@example.com" for number in range(1, 101)} - set(recipients)
    uncertain = {
        f"c{notice.id}@example.com"
        for notice in last.notices
        if notice.outcome is Outcome.UNCERTAIN
    }
    assert without <= uncertain
    assert len(uncertain) <= 20
    assert len(NotificationLedger(url=ledger_url).uncertain(older_than=timedelta(0))) == len(
        uncertain
    )


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    with Sandbox(Shop(orders=60, expired=16)) as sandbox:
        yield sandbox


def report_of(run: Run) -> Any:
    try:
        return run()
    except IncompleteRun as incomplete:
        return incomplete.report


@pytest.fixture
def service() -> Iterator[HttpService]:
    with HttpService(delay_seconds=0.01).serving() as serving:
        yield serving


@pytest.fixture
def shop(
    prefect_api: None,
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    mail: MailServer,
    ledger: NotificationLedger,
    service: HttpService,
) -> Elsewhere:
    """The shop, for runs in processes of their own and in this one."""
    account = {"uuid": tracktor.uuid, "api_key": tracktor.api_key}
    return Elsewhere(
        str(PREFECT_API_URL.value()),
        account | {"base_url": credentials.base_url},
        list(tracktor.shop.order_ids),
        ledger.url.get_secret_value(),
        mail.port,
        service.address,
    )


@pytest.mark.parametrize("flow", [notify, watch])
def test_runs_with_two_channels_that_are_killed_tell_nothing_twice_and_lose_nothing_in_silence(
    flow: Callable[[Elsewhere], MailReport | WatchReport],
    shop: Elsewhere,
    tracktor: Sandbox,
    mail: MailServer,
    ledger: NotificationLedger,
    service: HttpService,
    killed_runs_are_soon_dead: Callable[[], None],
) -> None:
    chance = random.Random(KILLS)
    spread = max(4, 48 // KILLS)

    def told() -> int:
        return len(mail.messages) + len(service.posted)

    killed = [
        kill_after(start(run_there, flow, shop), told, chance.randrange(spread), chance=chance)
        for _ in range(KILLS)
    ]
    assert any(killed)
    killed_runs_are_soon_dead()
    found = report_of(lambda: flow(shop))
    last = found.customers if isinstance(found, WatchReport) else found
    assert last is not None

    customers = tracktor.shop.customers_to_write_to()
    numbers = {email: order_id for order_id, email in customers.items()}
    mailed = [numbers[email] for email in written_to(mail) if email in numbers]
    posted = [request.json["order_id"] for request in service.posted]
    uncertain = ledger.uncertain(older_than=timedelta(0))
    for name, reached in (("mail", mailed), ("post", posted)):
        assert len(reached) == len(set(reached))
        of_channel = {one.key.order_id for one in uncertain if one.key.reason.startswith(name)}
        assert customers.keys() - set(reached) <= of_channel
        assert of_channel <= set(last.uncertain)
    assert set(last.sent) | set(last.already_told) | set(last.uncertain) == set(customers)


@pytest.mark.parametrize("flow", [report, watch])
def test_what_the_team_was_to_be_told_by_runs_that_are_killed_is_new_until_it_was_told(
    flow: Callable[[Elsewhere], object],
    shop: Elsewhere,
    tracktor: Sandbox,
    mail: MailServer,
    killed_runs_are_soon_dead: Callable[[], None],
) -> None:
    chance = random.Random(KILLS)
    look: dict[str, Any] = {"mailer": shop.mailer, "dry_run": True}
    due = report_exceptions(shop.credentials, shop.order_ids, TEAM, **look).new

    def asked() -> int:
        return len(tracktor.calls)

    reads = len(shop.order_ids)
    for _ in range(KILLS):
        further = reads - chance.randrange(reads // 4)
        kill_after(start(run_there, flow, shop), asked, further, chance=chance)
    killed_runs_are_soon_dead()
    report_of(lambda: flow(shop))

    digests = [
        new_in(received) for received in mail.messages if TEAM.mail_to == received.recipients
    ]
    assert set().union(*digests) == set(due)
    # sent before it is recorded: rather twice than never, and as a whole
    assert all(digest == set(due) for digest in digests)
    assert len(digests) <= KILLS + 1
    told = len(digests)
    report_of(lambda: flow(shop))
    assert [new_in(r) for r in mail.messages if TEAM.mail_to == r.recipients][told:] == []
