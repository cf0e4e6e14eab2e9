"""Two weeks of a shop of 2,000 orders, and an audit of every notice and status.

Flows run on schedules, from events and concurrently. Tracktor, the mail server and the service of
the channels fail now and then. The audit then checks the servers' records.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
import time_machine

from prefect_tracktor import (
    NotificationLedger,
    ShopifyCredentials,
    TracktorCredentials,
    TransportLimits,
)
from prefect_tracktor.sandbox import (
    Faults,
    MailFaults,
    MailServer,
    Sandbox,
    Shop,
    ShopifyRules,
)
from prefect_tracktor.webhooks import WebhookQueue
from tests.support.http_service import HttpService, Instead
from tests.support.mailers import mailer_of
from tests.support.webhooks import TOKEN, Listening, listening, queue
from tests.system.audit import rules
from tests.system.audit.records import Due, ReceivedNotice, digests
from tests.system.audit.simulation import Simulation
from tests.system.audit.world import World

__all__ = ["listening", "queue"]

pytestmark = [pytest.mark.audit, pytest.mark.usefixtures("prefect_api")]

ORDERS = int(os.environ.get("TRACKTOR_AUDIT_ORDERS", "2000"))
DAYS = int(os.environ.get("TRACKTOR_AUDIT_DAYS", "14"))
# the shop has orders before the first day
PLACED_BEFORE = timedelta(days=6)
HOUR = timedelta(hours=1)


@pytest.fixture
def start() -> datetime:
    """Return a midnight in the future, so that the process's clock never goes back."""
    return (datetime.now(UTC) + timedelta(days=1)).replace(
        hour=0, minute=0, second=0, microsecond=0
    )


@pytest.fixture
def tracktor(start: datetime) -> Iterator[Sandbox]:
    shop = Shop(orders=ORDERS, expired=0, just_ready=ORDERS, now=start)
    unhurried = ShopifyRules(bucket_points=1e9, restored_per_second=1e9)
    with Sandbox(shop, shopify=unhurried) as sandbox:
        yield sandbox


@pytest.fixture
def weeks(
    start: datetime,
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    queue: WebhookQueue,
    listening: Listening,
    tmp_path: Path,
) -> Iterator[Simulation]:
    """Set up the simulation, before its first day."""
    with (
        time_machine.travel(start - PLACED_BEFORE - HOUR) as clock,
        MailServer() as mail,
        HttpService().serving() as service,
        listening(confirm_after_seconds=0, misses_per_hour=10_000) as address,
    ):
        for topic in ("fulfillment/out_for_delivery", "fulfillment/delivered"):
            tracktor.shop.create_webhook(topic=topic, address=f"{address}/{TOKEN}")
        world = World(tracktor)
        chance = Random(1)
        for order_id in tracktor.shop.order_ids:
            seconds = chance.randrange(int((PLACED_BEFORE + timedelta(days=DAYS)).total_seconds()))
            world.plan_order(order_id, start - PLACED_BEFORE + timedelta(seconds=seconds))
        ledger = NotificationLedger(url=f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
        yield Simulation(
            world,
            mail,
            service,
            credentials.model_copy(update={"limits": TransportLimits(retry_budget_seconds=5)}),
            ShopifyCredentials.model_validate(
                {
                    "shop": "your-store",
                    "access_token": tracktor.shopify_access_token,
                    "base_url": tracktor.shopify_url,
                }
            ),
            ledger,
            mailer_of(mail, ledger=ledger),
            tmp_path,
            clock,
        )


Outage = Callable[[Simulation], AbstractContextManager[object]]


@contextmanager
def tracktor_fails(weeks: Simulation) -> Iterator[None]:
    """Make every call to Tracktor fail."""
    usual, weeks.world.sandbox.faults = weeks.world.sandbox.faults, Faults(server_error=1)
    yield
    weeks.world.sandbox.faults = usual


@contextmanager
def service_fails(weeks: Simulation) -> Iterator[None]:
    """Make the service refuse every request."""
    usual, weeks.service.every = weeks.service.every, {1: Instead(503)}
    yield
    weeks.service.every = usual


@contextmanager
def sender_is_refused(weeks: Simulation) -> Iterator[None]:
    """Make the mail server refuse the shop as sender."""
    usual = weeks.mail.faults
    weeks.mail.faults = usual.model_copy(update={"sender_refused": True})
    yield
    weeks.mail.faults = usual


OUTAGES: dict[int, Outage] = {1: sender_is_refused, 3: service_fails, 5: tracktor_fails}


def run_a_day(weeks: Simulation, midnight: datetime, outage: Outage = nullcontext) -> None:
    """Run the scheduled flows and those that events start, and resolve claims as a person does."""
    weeks.advance(midnight + 7 * HOUR)
    weeks.advance_statuses()
    weeks.advance(midnight + 8 * HOUR)
    with outage(weeks):
        weeks.watch(everything=True)
    weeks.advance(midnight + 9 * HOUR)
    weeks.resolve_claims()
    weeks.advance(midnight + 12 * HOUR)
    weeks.notify_from_events()
    weeks.notify_each(latest_parcels(weeks))
    weeks.advance(midnight + 15 * HOUR)
    weeks.advance_statuses()
    weeks.advance(midnight + 18 * HOUR)
    weeks.run_concurrently(midnight + 19 * HOUR, lambda: time.sleep(0.02))
    weeks.advance(midnight + 22 * HOUR)
    weeks.notify_from_events()


def latest_parcels(weeks: Simulation) -> list[tuple[int, str]]:
    """Return the parcels of the latest webhook deliveries."""
    deliveries = weeks.world.sandbox.deliveries[-3:]
    return [(one.fulfillment_id, one.status_key) for one in deliveries if one.fulfillment_id]


def test_all_notices_and_statuses_of_two_weeks_are_correct(
    weeks: Simulation, start: datetime, pytestconfig: pytest.Config
) -> None:
    world, sandbox = weeks.world, weeks.world.sandbox
    addresses = {i: str(sandbox.shop.order(i)["order_email"]) for i in sandbox.shop.order_ids}
    refused, deferred = (
        sample_of(addresses.values(), one_in=100),
        sample_of(addresses.values(), one_in=30),
    )
    unreachable = {order_id for order_id, address in addresses.items() if address in refused}
    inject_faults(weeks, refused, deferred - refused)
    for number in range(DAYS):
        run_a_day(weeks, start + timedelta(days=number), OUTAGES.get(number, nullcontext))
    remove_faults(weeks, refused)
    weeks.resolve_claims()
    weeks.watch()

    received, due = weeks.received(), all_due(weeks)
    made = [run for run in weeks.runs if run.name == "advance_custom_statuses"]
    team = list(digests(weeks.mail.messages))
    pytestconfig.get_terminal_writer().line(f"\n{figures(weeks, received)}")
    assert (
        problems(
            {
                "sent too often": rules.sent_too_often(received, due),
                "sent without a reason": rules.sent_without_reason(received, due, weeks.runs),
                "reminded too soon": rules.reminded_too_soon(received, due),
                "not sent": rules.not_sent(due, received, weeks.runs, unreachable),
                "an earlier stage after a later one": rules.earlier_stage_after_later(received),
                "sent although cancelled": rules.sent_to_cancelled(
                    received, world.history, weeks.runs
                ),
                "sent to others": rules.sent_to_others(received, world.history),
                "too many a day": rules.too_many_a_day(received),
                "missing in digests": rules.missing_in_digests(due, team, weeks.runs),
                "invalid status updates": rules.invalid_updates(world.updates, world.tags),
                "missing status updates": rules.missing_updates(world.history, world.tags, made),
            }
        )
        == {}
    )
    assert {one.notice.rule for one in received} == rules.BY_MAIL | rules.BY_POST
    assert {one.status for one in world.updates} == {stage.casefold() for stage, _ in rules.STAGES}
    assert sandbox.faults_met
    assert calls_of(weeks, weeks.watch) <= 1.1 * calls_of(weeks, weeks.notify_in_dry_run)


def sample_of(addresses: Iterable[str], *, one_in: int) -> frozenset[str]:
    """Return a sample of the customers."""
    of_all = sorted(set(addresses))
    return frozenset(Random(one_in).sample(of_all, len(of_all) // one_in))


def inject_faults(weeks: Simulation, refused: frozenset[str], deferred: frozenset[str]) -> None:
    """Inject the faults of all days."""
    weeks.mail.faults = MailFaults(
        refused=refused, deferred=deferred, drop_every=97, drop_in_data=331, drop_after_data=277
    )
    weeks.service.every = {
        29: Instead(503),
        83: Instead(429),
        211: Instead(504, taken=True),
        307: Instead(0),
    }
    weeks.world.sandbox.faults = Faults.everything(
        0.02, retry_after_seconds=0, duplicated=0.05, reordered=0.05, lost=0.05
    )


def remove_faults(weeks: Simulation, refused: frozenset[str]) -> None:
    """Remove all faults but the addresses that do not exist."""
    weeks.mail.faults = MailFaults(refused=refused)
    weeks.service.every = {}
    weeks.world.sandbox.faults = Faults()


def all_due(weeks: Simulation) -> list[Due]:
    """Return the notices that were due at any time."""
    return [
        due
        for order_id, history in weeks.world.history.items()
        for due in rules.due_of(order_id, history, weeks.world.tags[order_id])
    ]


def problems(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the first problems of each kind, with their number."""
    return {name: [f"{len(some)}:", *some[:5]] for name, some in found.items() if some}


def calls_of(weeks: Simulation, flow: Callable[[], object]) -> int:
    """Count the calls to Tracktor in a run."""
    weeks.world.sandbox.reset_calls()
    flow()
    return sum(not path.startswith("admin/") for _, path in weeks.world.sandbox.calls)


def figures(weeks: Simulation, received: Sequence[ReceivedNotice]) -> str:
    """Summarize the simulation in numbers."""
    counts = {
        "orders": len(weeks.world.history),
        "runs": len(weeks.runs),
        **Counter(run.name for run in weeks.runs),
        "runs that left something": sum(bool(run.left) or run.failed for run in weeks.runs),
        "open claims that a person cleared": weeks.cleared,
        "notices": len(received),
        **Counter(f"notices of {one.notice.rule}" for one in received),
        "messages": len({one.message for one in received}),
        "status updates": len(weeks.world.updates),
        "cancelled": sum(history[-1].is_cancelled for history in weeks.world.history.values()),
        **weeks.world.sandbox.faults_met,
    }
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())
