"""Delivery processor: events with Tracktor's values, from few calls."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from prefect.events import Event
from sqlalchemy import create_engine

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.events import Kind, Subject
from prefect_tracktor.events.schema import read_delivery
from prefect_tracktor.sandbox import Faults, Sandbox
from prefect_tracktor.webhooks import WebhookQueue
from prefect_tracktor.webhooks.processor import DeliveryProcessor
from prefect_tracktor.webhooks.worker import RetryLater, SingleWriter

MISSES_PER_HOUR = 50


class Bench:
    """The processor of an account, one batch at a time."""

    def __init__(self, credentials: TracktorCredentials, queue: WebhookQueue) -> None:
        self.account = credentials.account
        self.credentials = credentials
        self.queue = queue
        self.processor = DeliveryProcessor(
            credentials, queue, SingleWriter(), misses_per_hour=MISSES_PER_HOUR
        )

    def deliver(self, *bodies: dict[str, Any]) -> None:
        for body in bodies:
            self.queue.add(self.account, read_delivery(json.dumps(body).encode()))

    def make_due(self) -> None:
        """End all pauses."""
        with create_engine(self.queue.url.get_secret_value()).begin() as database:
            database.exec_driver_sql("UPDATE tracktor_inbox SET due_at = '2026-01-01 00:00:00'")

    def read(self, rounds: int = 1) -> list[Event]:
        async def read() -> None:
            async with self.processor.credentials.get_async_client() as client:
                for _ in range(rounds):
                    with suppress(RetryLater):
                        await self.processor.process(client)

        anyio.run(read)
        return self.queue.claim(self.account, limit=1000)


@pytest.fixture
def bench(credentials: TracktorCredentials, queue: WebhookQueue) -> Bench:
    """A processor that reads from the sandbox."""
    return Bench(credentials, queue)


def names(events: list[Event]) -> list[str]:
    return [event.event for event in events]


def a_parcel(tracktor: Sandbox) -> dict[str, Any]:
    orders = map(tracktor.shop.order, tracktor.shop.order_ids)
    parcel: dict[str, Any] = next(
        order["fulfillments"][0] for order in orders if order["fulfillments"]
    )
    return parcel


def test_an_event_has_the_values_of_tracktor_and_not_of_the_delivery(
    bench: Bench, tracktor: Sandbox
) -> None:
    parcel = tracktor.shop.set_parcel(
        a_parcel(tracktor)["fulfillment_id"], shipment_status="Sewing"
    )
    bench.deliver(parcel | {"shipment_status": "delivered", "order_id": 1, "order_name": "forged"})
    [event] = bench.read()
    assert event.event == "tracktor.fulfillment.sewing"
    assert event.payload["order_id"] == parcel["order_id"]


def test_a_late_delivery_does_not_restore_an_earlier_status(
    bench: Bench, tracktor: Sandbox
) -> None:
    fulfillment_id = a_parcel(tracktor)["fulfillment_id"]
    early = tracktor.shop.set_parcel(fulfillment_id, shipment_status="out_for_delivery")
    late = tracktor.shop.set_parcel(fulfillment_id, shipment_status="delivered")
    bench.deliver(late)
    assert names(bench.read()) == ["tracktor.fulfillment.delivered"]
    bench.deliver(early)
    assert bench.read() == []


def test_each_status_that_is_read_gives_an_event(bench: Bench, tracktor: Sandbox) -> None:
    fulfillment_id = a_parcel(tracktor)["fulfillment_id"]
    found = []
    for status in ("Cutting", "out_for_delivery", "delivered"):
        bench.deliver(tracktor.shop.set_parcel(fulfillment_id, shipment_status=status))
        found += names(bench.read())
    assert found == [
        "tracktor.fulfillment.cutting",
        "tracktor.fulfillment.out_for_delivery",
        "tracktor.fulfillment.delivered",
    ]


def test_queued_deliveries_of_one_order_cost_one_call(bench: Bench, tracktor: Sandbox) -> None:
    order = tracktor.shop.order(tracktor.shop.order_ids[0])
    bench.deliver(*[order] * 30)
    assert len(bench.read()) == 1
    assert tracktor.calls == [("GET", f"orders/{order['order_id']}.json")]


def test_an_unknown_id_is_retried_a_few_times_and_gives_no_event(
    bench: Bench, tracktor: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    bench.deliver({"fulfillment_id": 77})
    for _ in range(4):
        bench.make_due()
        assert bench.read() == []
    assert len(tracktor.calls) == 4
    assert "fulfillment 77: Tracktor does not know it, so there is no event" in caplog.text
    assert bench.queue.waiting(bench.account) == (0, 0)


def test_a_parcel_unknown_to_tracktor_waits_before_the_next_read(
    bench: Bench, tracktor: Sandbox
) -> None:
    bench.deliver({"fulfillment_id": 77})
    for _ in range(3):
        assert bench.read() == []
    assert len(tracktor.calls) == 1
    assert bench.queue.waiting(bench.account) == (1, 0)


def forged(count: int) -> list[dict[str, Any]]:
    """Return deliveries with ids that the shop does not have."""
    return [{"fulfillment_id": number} for number in range(1, count + 1)]


@pytest.mark.parametrize("count", [40, 100])
def test_forged_ids_do_not_delay_a_new_parcel(bench: Bench, tracktor: Sandbox, count: int) -> None:
    parcels = [
        parcel
        for order in map(tracktor.shop.order, tracktor.shop.order_ids)
        for parcel in order["fulfillments"]
    ]
    bench.deliver(*forged(count))
    bench.deliver(parcels[0])
    assert len(bench.read()) == 1
    bench.read(rounds=30)
    bench.make_due()
    bench.read(rounds=30)  # retried, within the limit
    bench.processor._new_ids._left += 1  # noqa: SLF001 (the budget grows within seconds)
    bench.deliver(parcels[1])
    assert len(bench.read()) == 1


def test_a_parcel_delivered_before_a_flood_of_forged_ids_is_read(
    bench: Bench, tracktor: Sandbox
) -> None:
    bench.deliver(a_parcel(tracktor))
    bench.deliver(*forged(150))
    assert len(bench.read()) == 1


def test_forged_ids_use_up_only_their_own_budget(
    bench: Bench, tracktor: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    own = tracktor.shop.order_ids[0]
    bench.deliver({"order_id": own})
    bench.queue.confirm(event.id for event in bench.read())
    bench.deliver(*forged(110))
    bench.read(rounds=20)
    assert 50 <= len(tracktor.calls) <= 52
    assert caplog.text.count("change its token") == 1
    bench.make_due()
    bench.read(rounds=100)
    assert 100 <= len(tracktor.calls) <= 104
    tracktor.shop.set_status(own, status="Sewing")
    bench.deliver({"order_id": own})
    assert names(bench.read()) == ["tracktor.order.sewing"]


def test_an_order_that_cannot_be_read_is_retried_later(
    bench: Bench, tracktor: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    tracktor.faults = Faults(server_error=1)
    bench.deliver({"order_id": tracktor.shop.order_ids[0]})
    assert bench.read() == []
    assert bench.queue.waiting(bench.account) == (1, 0)
    assert "1 orders or parcels could not be read" in caplog.text
    tracktor.faults = Faults()
    assert bench.read() == []  # after a pause of a second
    assert len(tracktor.calls) == 1


def test_the_processor_waits_as_long_as_retry_after_requests(
    bench: Bench, tracktor: Sandbox
) -> None:
    tracktor.faults = Faults(too_many_requests=1, retry_after_seconds=300)
    bench.deliver({"order_id": tracktor.shop.order_ids[0]})
    before = datetime.now(UTC)
    bench.read()
    with create_engine(bench.queue.url.get_secret_value()).connect() as database:
        due_at = database.exec_driver_sql("SELECT due_at FROM tracktor_inbox").scalar_one()
    assert datetime.fromisoformat(f"{due_at}+00:00") >= before + timedelta(seconds=300)


def test_refused_credentials_lose_no_delivery(bench: Bench, tracktor: Sandbox) -> None:
    wrong = bench.credentials.model_copy(update={"uuid": "0" * 32})
    stranger = Bench(wrong, bench.queue)
    stranger.deliver({"order_id": tracktor.shop.order_ids[0]}, {"order_id": 77})

    async def process() -> None:
        async with stranger.processor.credentials.get_async_client() as client:
            await stranger.processor.process(client)

    with pytest.raises(RetryLater, match="Tracktor refused the credentials"):
        anyio.run(process)
    assert stranger.queue.waiting(stranger.account) == (2, 0)


def test_an_order_and_a_parcel_with_the_same_id_are_separate(bench: Bench) -> None:
    bench.queue.add(bench.account, Subject(Kind.ORDER, 7))
    bench.queue.add(bench.account, Subject(Kind.FULFILLMENT, 7))
    assert bench.queue.waiting(bench.account) == (2, 0)
