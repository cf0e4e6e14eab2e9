"""What the tests run in processes of their own, to kill them or to race them."""

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
    """Run a function of this module in a process of its own."""
    process = processes.Process(target=target, args=arguments)
    process.start()
    return process


def kill_while_sending(
    process: ForkServerProcess, mail: MailServer, *, chance: random.Random
) -> bool:
    """Kill -9 at a random moment after some further messages; whether it was still at work."""
    return kill_after(process, lambda: len(mail.messages), chance.randrange(4), chance=chance)


def kill_after(
    process: ForkServerProcess, count: Callable[[], int], further: int, *, chance: random.Random
) -> bool:
    """Kill -9 a moment after some further messages; whether it was still at work."""
    enough = count() + further
    while process.is_alive() and count() < enough:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.02))
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def send_all(ledger_url: str, mail_port: int, count: int, run: str) -> Sent:
    """Write to `count` customers, each about one parcel."""
    return send(mailer_at(mail_port), NotificationLedger(url=ledger_url), count, run=run)


def run_flow_to_a_good_end(
    api_url: str, base: dict[str, str], order_ids: list[int], ledger_url: str, mail_port: int
) -> None:
    """Run the flow; the process fails if anything is left."""
    settings: dict[Any, Any] = {PREFECT_API_URL: api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(updates=settings):
        email_expired_exceptions(
            TracktorCredentials.model_validate(base),
            order_ids,
            mailer_at(mail_port, ledger=NotificationLedger(url=ledger_url)),
        )


def reconcile_all(api_url: str, base: dict[str, str], order_ids: list[int]) -> None:
    """Have all orders show "Sewing"."""
    settings: dict[Any, Any] = {PREFECT_API_URL: api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    limits = TransportLimits(max_concurrency=1)
    with temporary_settings(updates=settings):
        reconcile_manual_statuses(
            TracktorCredentials.model_validate({**base, "limits": limits}),
            [DesiredStatus(order_id, "Sewing") for order_id in order_ids],
        )


class Elsewhere(NamedTuple):
    """What a run in another process needs, as plain values."""

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


def notify(shop: Elsewhere) -> MailReport:
    """Tell by email and by HTTP request of each order."""
    rules = rules_of_both(shop.service)
    return notify_customers(shop.credentials, shop.order_ids, rules, shop.mailer)


def watch(shop: Elsewhere) -> WatchReport:
    """The same among all that one reading can do."""
    return watch_shop(
        shop.credentials,
        shop.order_ids,
        rules_of_both(shop.service),
        shop.mailer,
        TEAM,
        announce=frozenset({"exception:all"}),
    )


def report(shop: Elsewhere) -> DigestReport:
    """Tell the team."""
    return report_exceptions(shop.credentials, shop.order_ids, TEAM, mailer=shop.mailer)


def run_there(flow: Callable[[Elsewhere], Any], shop: Elsewhere) -> None:
    """Run one of these in a process of its own, whatever it leaves to be done."""
    settings: dict[Any, Any] = {
        PREFECT_API_URL: shop.api_url,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with temporary_settings(updates=settings), suppress(IncompleteRun):
        flow(shop)


def rules_of_both(address: str) -> list[NotificationRule]:
    """Each expired tracking is told by email, and posted."""
    body = '{"order_id": {{ order.order_id }}}'
    channel = {"address": address, "body": body, "mode": "live"}
    channel["recipient"] = "{{ order.order_email }}"
    when = ["exception:expired"]
    return [
        NotificationRule(name="mail", when=when),
        NotificationRule(name="post", when=when, channel=HttpChannel.model_validate(channel)),
    ]
