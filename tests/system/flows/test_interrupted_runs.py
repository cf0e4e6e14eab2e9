"""Runs that are killed, and runs that start at the same moment: nobody gets two messages."""

import os
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL

from prefect_tracktor import IncompleteRun, NotificationLedger, TracktorCredentials
from prefect_tracktor.flows import MailReport, notify_customers
from prefect_tracktor.runs.cases import Outcome
from prefect_tracktor.sandbox import MailFaults, MailServer, Sandbox, Shop
from tests.support.http_service import HttpService
from tests.support.mailers import mailer_of
from tests.system.flows.conftest import Run, written_to
from tests.system.flows.interrupted import (
    kill_after,
    kill_while_sending,
    rules_of_both,
    run_both_channels,
    run_flow,
    send_all,
    start,
)

KILLS = int(os.environ.get("TRACKTOR_TEST_KILLS", "2"))


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A mail server that takes its time, so that there is a middle to be killed in."""
    with MailServer(faults=MailFaults(delay_seconds=0.01)) as server:
        yield server


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"


def test_twenty_kills_while_sending_give_nobody_two_messages(
    mail: MailServer, ledger_url: str
) -> None:
    chance = random.Random(20)
    killed = [
        kill_while_sending(
            start(send_all, ledger_url, mail.port, 100, f"run-{number}"), mail, chance=chance
        )
        for number in range(20)
    ]
    assert all(killed)
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


def test_two_processes_that_send_the_same_letters_share_them(
    mail: MailServer, ledger_url: str
) -> None:
    both = [start(send_all, ledger_url, mail.port, 60, run) for run in "ab"]
    for process in both:
        process.join()
    assert sorted(written_to(mail)) == sorted(f"c{number}@example.com" for number in range(1, 61))


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    with Sandbox(Shop(orders=100, expired=20)) as sandbox:
        yield sandbox


@pytest.fixture
def elsewhere(
    prefect_api: None,
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    mail: MailServer,
    ledger: NotificationLedger,
) -> Callable[[], Any]:
    """Start the flow in a process of its own."""
    base = {
        "uuid": tracktor.uuid,
        "api_key": tracktor.api_key,
        "base_url": credentials.base_url,
    }
    ids = list(tracktor.shop.order_ids)
    api_url = PREFECT_API_URL.value()
    url = ledger.url.get_secret_value()
    return lambda: start(run_flow, api_url, base, ids, url, mail.port)


def report_of(run: Run) -> MailReport:
    try:
        return run()  # type: ignore[no-any-return]
    except IncompleteRun as incomplete:
        report: MailReport = incomplete.report
        return report


def test_flow_runs_that_are_killed_lose_nobody_in_silence(
    elsewhere: Callable[[], Any], run: Run, mail: MailServer, tracktor: Sandbox
) -> None:
    chance = random.Random(KILLS)
    killed = [kill_while_sending(elsewhere(), mail, chance=chance) for _ in range(KILLS)]
    assert any(killed)
    last = report_of(run)

    customers = tracktor.shop.customers_to_write_to()
    recipients = written_to(mail)
    assert len(recipients) == len(set(recipients))
    without = {order_id for order_id, email in customers.items() if email not in recipients}
    assert without <= set(last.uncertain)
    assert set(last.sent) | set(last.already_told) | set(last.uncertain) == set(customers)


def test_two_flow_runs_at_the_same_moment_write_once(
    elsewhere: Callable[[], Any], run: Run, mail: MailServer, tracktor: Sandbox
) -> None:
    both = [elsewhere(), elsewhere()]
    for process in both:
        process.join()
    right = sorted(tracktor.shop.customers_to_write_to().values())
    assert sorted(written_to(mail)) == right
    assert run().complete
    assert sorted(written_to(mail)) == right


def test_runs_with_two_channels_that_are_killed_tell_nothing_twice_and_lose_nothing_in_silence(
    prefect_api: None,
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    mail: MailServer,
    ledger: NotificationLedger,
) -> None:
    chance = random.Random(KILLS)
    base = {"uuid": tracktor.uuid, "api_key": tracktor.api_key, "base_url": credentials.base_url}
    ids = list(tracktor.shop.order_ids)
    with HttpService(delay_seconds=0.01).serving() as service:
        url = ledger.url.get_secret_value()
        where = (PREFECT_API_URL.value(), base, ids, url, mail.port, service.address)

        def told() -> int:
            return len(mail.messages) + len(service.posted)

        spread = max(4, 48 // KILLS)
        killed = [
            kill_after(
                start(run_both_channels, *where), told, chance.randrange(spread), chance=chance
            )
            for _ in range(KILLS)
        ]
        mailer = mailer_of(mail, ledger=ledger)
        rules = rules_of_both(service.address)
        last = report_of(lambda: notify_customers(credentials, ids, rules, mailer))
    customers = tracktor.shop.customers_to_write_to()
    numbers = {email: order_id for order_id, email in customers.items()}
    mailed = [numbers[email] for email in written_to(mail)]
    posted = [request.json["order_id"] for request in service.posted]
    assert any(killed)
    uncertain = ledger.uncertain(older_than=timedelta(0))
    for name, reached in (("mail", mailed), ("post", posted)):
        assert len(reached) == len(set(reached))
        of_channel = {one.key.order_id for one in uncertain if one.key.reason.startswith(name)}
        assert customers.keys() - set(reached) <= of_channel
        assert of_channel <= set(last.uncertain)
    assert set(last.sent) | set(last.already_told) | set(last.uncertain) == set(customers)
