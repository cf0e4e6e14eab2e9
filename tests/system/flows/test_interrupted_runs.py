"""Killed runs: no message is sent twice, and each missing one is reported."""

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
    RunParameters,
    kill_after,
    kill_while_sending,
    notify,
    report,
    run_in_child,
    send_all,
    start,
    watch,
)

KILLS = int(os.environ.get("TRACKTOR_TEST_KILLS", "2"))


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A slow mail server, so that runs are killed while they send."""
    with MailServer(faults=MailFaults(delay_seconds=0.01)) as server:
        yield server


@pytest.fixture
def short_heartbeat_limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that lowers the heartbeat limit from 15 seconds to one.

    Only for a run without another beside it, whose heartbeat might be late.
    """
    soon = timedelta(seconds=1)
    return lambda: monkeypatch.setattr("prefect_tracktor.storage.ledger._HEARTBEAT_TIMEOUT", soon)


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"


def test_no_customer_gets_two_messages_from_twenty_killed_runs(
    mail: MailServer, ledger_url: str, short_heartbeat_limit: Callable[[], None]
) -> None:
    chance = random.Random(20)
    killed = [
        kill_while_sending(
            start(send_all, ledger_url, mail.port, 100, f"run-{number}"), mail, chance=chance
        )
        for number in range(20)
    ]
    assert all(killed)
    short_heartbeat_limit()
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
) -> RunParameters:
    """The shop, for runs in child processes and in this one."""
    account = {"uuid": tracktor.uuid, "api_key": tracktor.api_key}
    return RunParameters(
        str(PREFECT_API_URL.value()),
        account | {"base_url": credentials.base_url},
        list(tracktor.shop.order_ids),
        ledger.url.get_secret_value(),
        mail.port,
        service.address,
    )


@pytest.mark.parametrize("flow", [notify, watch])
def test_killed_runs_with_two_channels_send_nothing_twice_and_report_the_rest(
    flow: Callable[[RunParameters], MailReport | WatchReport],
    shop: RunParameters,
    tracktor: Sandbox,
    mail: MailServer,
    ledger: NotificationLedger,
    service: HttpService,
    short_heartbeat_limit: Callable[[], None],
) -> None:
    chance = random.Random(KILLS)
    spread = max(4, 48 // KILLS)

    def count_messages() -> int:
        return len(mail.messages) + len(service.posted)

    killed = [
        kill_after(
            start(run_in_child, flow, shop), count_messages, chance.randrange(spread), chance=chance
        )
        for _ in range(KILLS)
    ]
    assert any(killed)
    short_heartbeat_limit()
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
def test_orders_of_a_killed_runs_digest_stay_new_until_a_digest_is_sent(
    flow: Callable[[RunParameters], object],
    shop: RunParameters,
    tracktor: Sandbox,
    mail: MailServer,
    short_heartbeat_limit: Callable[[], None],
) -> None:
    chance = random.Random(KILLS)
    preview: dict[str, Any] = {"mailer": shop.mailer, "dry_run": True}
    due = report_exceptions(shop.credentials, shop.order_ids, TEAM, **preview).new

    def count_calls() -> int:
        return len(tracktor.calls)

    reads = len(shop.order_ids)
    for _ in range(KILLS):
        further = reads - chance.randrange(reads // 4)
        kill_after(start(run_in_child, flow, shop), count_calls, further, chance=chance)
    short_heartbeat_limit()
    report_of(lambda: flow(shop))

    digests = [
        new_in(received) for received in mail.messages if TEAM.mail_to == received.recipients
    ]
    assert set().union(*digests) == set(due)
    # a digest is sent before it is recorded: better twice than never
    assert all(digest == set(due) for digest in digests)
    assert len(digests) <= KILLS + 1
    sent = len(digests)
    report_of(lambda: flow(shop))
    assert [new_in(r) for r in mail.messages if TEAM.mail_to == r.recipients][sent:] == []
