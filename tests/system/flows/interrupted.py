"""Runs in child processes, to be killed or to race each other."""

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from typing import Any, NamedTuple

from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from prefect_tracktor import (
    DesiredStatus,
    HttpChannel,
    Mailer,
    NotificationLedger,
    NotificationRule,
    TracktorCredentials,
    TransportLimits,
)
from prefect_tracktor.errors import IncompleteRun
from prefect_tracktor.flows import (
    DigestReport,
    MailReport,
    TeamDigest,
    WatchReport,
    email_expired_exceptions,
    notify_customers,
    reconcile_manual_statuses,
    report_exceptions,
    watch_shop,
)
from prefect_tracktor.sandbox import MailServer
from tests.support.mailers import mailer_at
from tests.support.sending import Sent, send

TEAM = TeamDigest(mail_to=("team@sandbox-shop.example",))

# children are forked from a process that has imported this module and runs no threads
processes = get_context("forkserver")
processes.set_forkserver_preload([__name__])


def start(target: Any, *arguments: Any) -> ForkServerProcess:
    """Run a function of this module in a child process."""
    process = processes.Process(target=target, args=arguments)
    process.start()
    return process


def kill_while_sending(
    process: ForkServerProcess, mail: MailServer, *, chance: random.Random
) -> bool:
    """Kill -9 at a random moment after some more messages; return whether it was still running."""
    return kill_after(process, lambda: len(mail.messages), chance.randrange(4), chance=chance)


def kill_after(
    process: ForkServerProcess, count: Callable[[], int], further: int, *, chance: random.Random
) -> bool:
    """Kill -9 soon after some more are counted; return whether it was still running."""
    enough = count() + further
    while process.is_alive() and count() < enough:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.02))
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def send_all(ledger_url: str, mail_port: int, count: int, run: str) -> Sent:
    """Email `count` customers, each about one parcel."""
    return send(mailer_at(mail_port), NotificationLedger(url=ledger_url), count, run=run)


def run_flow_to_completion(
    api_url: str, base: dict[str, str], order_ids: list[int], ledger_url: str, mail_port: int
) -> None:
    """Run the flow; the process fails if the run is incomplete."""
    settings: dict[Any, Any] = {PREFECT_API_URL: api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(updates=settings):
        email_expired_exceptions(
            TracktorCredentials.model_validate(base),
            order_ids,
            mailer_at(mail_port, ledger=NotificationLedger(url=ledger_url)),
        )


def reconcile_all(api_url: str, base: dict[str, str], order_ids: list[int]) -> None:
    """Set all orders to "Sewing"."""
    settings: dict[Any, Any] = {PREFECT_API_URL: api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    limits = TransportLimits(max_concurrency=1)
    with temporary_settings(updates=settings):
        reconcile_manual_statuses(
            TracktorCredentials.model_validate({**base, "limits": limits}),
            [DesiredStatus(order_id, "Sewing") for order_id in order_ids],
        )


class RunParameters(NamedTuple):
    """The parameters of a run in another process, as plain values."""

    api_url: str
    account: dict[str, str]
    order_ids: list[int]
    ledger_url: str
    mail_port: int
    service: str

    @property
    def credentials(self) -> TracktorCredentials:
        return TracktorCredentials.model_validate(self.account)

    @property
    def mailer(self) -> Mailer:
        return mailer_at(self.mail_port, ledger=NotificationLedger(url=self.ledger_url))


def notify(shop: RunParameters) -> MailReport:
    """Notify about each order by email and by HTTP request."""
    rules = rules_by_email_and_post(shop.service)
    return notify_customers(shop.credentials, shop.order_ids, rules, shop.mailer)


def watch(shop: RunParameters) -> WatchReport:
    """Do the same with `watch_shop`, with a digest and events."""
    return watch_shop(
        shop.credentials,
        shop.order_ids,
        rules_by_email_and_post(shop.service),
        shop.mailer,
        TEAM,
        announce=frozenset({"exception:all"}),
    )


def report(shop: RunParameters) -> DigestReport:
    """Send the team's digest."""
    return report_exceptions(shop.credentials, shop.order_ids, TEAM, mailer=shop.mailer)


def run_in_child(flow: Callable[[RunParameters], Any], shop: RunParameters) -> None:
    """Run one of these in a child process; it may be incomplete."""
    settings: dict[Any, Any] = {
        PREFECT_API_URL: shop.api_url,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with temporary_settings(updates=settings), suppress(IncompleteRun):
        flow(shop)


def rules_by_email_and_post(address: str) -> list[NotificationRule]:
    """Rules that email and post about each expired tracking."""
    body = '{"order_id": {{ order.order_id }}}'
    channel = {"address": address, "body": body, "mode": "live"}
    channel["recipient"] = "{{ order.order_email }}"
    when = ["exception:expired"]
    return [
        NotificationRule(name="mail", when=when),
        NotificationRule(name="post", when=when, channel=HttpChannel.model_validate(channel)),
    ]
