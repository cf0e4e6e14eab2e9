"""The emitter: events reach a Prefect server once, despite faults."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from prefect.client.orchestration import PrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.events import Kind, Subject, fulfillment_event
from prefect_tracktor.models import Fulfillment
from prefect_tracktor.sandbox import Sandbox
from prefect_tracktor.webhooks import WebhookQueue
from prefect_tracktor.webhooks.emitter import Emitter
from prefect_tracktor.webhooks.queue import ReadResult
from prefect_tracktor.webhooks.worker import RetryLater, SingleWriter
from tests.support.webhooks import TOKEN, Listening, events_at_prefect, eventually

pytestmark = pytest.mark.usefixtures("prefect_api")

AT_ONCE = timedelta(0)


class Bench:
    """The outbox of an account, processed step by step."""

    def __init__(
        self, queue: WebhookQueue, account: str, *, resend_after: timedelta = timedelta(hours=1)
    ) -> None:
        self.queue = queue
        self.account = account
        self.emitter = Emitter(
            account,
            queue,
            SingleWriter(),
            confirm_after=AT_ONCE,
            resend_after=resend_after,
            keep_for=timedelta(days=30),
        )

    def add_event(self, fulfillment_id: int, status: str = "delivered", *, name: str = "") -> None:
        """Put an event into the outbox."""
        self.queue.add(self.account, Subject(Kind.FULFILLMENT, fulfillment_id))
        [waiting] = self.queue.due(self.account, known=10, new=10)
        parcel = Fulfillment(fulfillment_id=fulfillment_id, shipment_status=status)
        event = fulfillment_event(parcel, account=self.account, received=waiting.received)
        event.event = name or event.event
        self.queue.complete(self.account, [ReadResult(waiting, event=event)])

    def do(self, action: Callable[[PrefectClient], Awaitable[object]]) -> None:
        async def act() -> None:
            async with get_client() as client:
                await action(client)

        anyio.run(act)

    def send(self) -> None:
        self.do(self.emitter.send)

    def confirm(self) -> None:
        self.do(self.emitter.confirm)

    @property
    def outbox(self) -> int:
        return self.queue.waiting(self.account)[1]


ids = iter(range(10_001, 20_000))


@pytest.fixture
def fulfillment_id() -> int:
    """Return an id for one test, because the server is shared."""
    return next(ids)


@pytest.fixture
def bench(queue: WebhookQueue, fulfillment_id: int) -> Bench:
    """An emitter with an empty outbox."""
    return Bench(queue, f"shop-{fulfillment_id}")


def names_at_prefect(fulfillment_id: int) -> list[str]:
    return [event.event for event in events_at_prefect(f"tracktor.fulfillment.{fulfillment_id}")]


def test_an_event_is_kept_until_prefect_has_stored_it(bench: Bench, fulfillment_id: int) -> None:
    bench.add_event(fulfillment_id)
    bench.send()
    assert bench.outbox == 1
    for attempt in eventually():
        with attempt:
            bench.confirm()
            assert bench.outbox == 0
    [event] = events_at_prefect(f"tracktor.fulfillment.{fulfillment_id}")
    assert event.event == "tracktor.fulfillment.delivered"
    assert event.payload["fulfillment_id"] == fulfillment_id


def test_a_lost_event_is_sent_again(
    bench: Bench, fulfillment_id: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench.add_event(fulfillment_id)
    bench.queue.claim(bench.account, limit=10)  # killed before sending
    bench.send()
    assert names_at_prefect(fulfillment_id) == []
    bench.confirm()  # too early to know
    assert bench.outbox == 1
    bench = Bench(bench.queue, bench.account, resend_after=AT_ONCE)
    bench.confirm()
    assert "1 events did not reach Prefect and are sent again" in caplog.text
    bench.send()
    for attempt in eventually():
        with attempt:
            assert names_at_prefect(fulfillment_id) == ["tracktor.fulfillment.delivered"]


def test_an_event_stored_before_a_crash_is_not_sent_again(
    bench: Bench, fulfillment_id: int
) -> None:
    bench.add_event(fulfillment_id)
    bench.send()  # killed before confirming
    for attempt in eventually():
        with attempt:
            assert len(names_at_prefect(fulfillment_id)) == 1
    restarted = Bench(bench.queue, bench.account)
    restarted.send()
    restarted.confirm()
    assert restarted.outbox == 0
    restarted.add_event(fulfillment_id)  # Tracktor delivers it again
    assert restarted.outbox == 0


def test_prefect_stores_an_event_once_if_it_is_sent_twice(
    bench: Bench, fulfillment_id: int
) -> None:
    bench.add_event(fulfillment_id)
    bench.send()
    soon = datetime.now(UTC) + timedelta(hours=1)
    sent = bench.queue.sent(bench.account, before=soon, limit=10)
    bench.queue.release(event.id for event, _ in sent)
    bench.send()
    bench.add_event(fulfillment_id, "in_transit")
    bench.send()
    for attempt in eventually():
        with attempt:
            assert sorted(names_at_prefect(fulfillment_id)) == [
                "tracktor.fulfillment.delivered",
                "tracktor.fulfillment.in_transit",
            ]


def test_events_keep_their_order_while_prefect_is_unreachable(
    bench: Bench, fulfillment_id: int
) -> None:
    statuses = ["Cutting", "Sewing", "in_transit"]
    for status in statuses:
        bench.add_event(fulfillment_id, status)
    with (
        temporary_settings(updates={PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(RetryLater, match="3 events could not be sent"),
    ):
        bench.send()
    events = bench.queue.claim(bench.account, limit=10)
    assert [event.payload["shipment_status"] for event in events] == statuses


def test_one_refused_event_does_not_block_the_others(
    bench: Bench, fulfillment_id: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench.add_event(fulfillment_id, "in_transit")
    bench.add_event(fulfillment_id, "delivered", name="x" * 5000)
    bench.add_event(fulfillment_id, "out_for_delivery")
    bench.send()
    assert caplog.text.count("Prefect does not accept event") == 1
    assert bench.outbox == 2
    for attempt in eventually():
        with attempt:
            assert sorted(names_at_prefect(fulfillment_id)) == [
                "tracktor.fulfillment.in_transit",
                "tracktor.fulfillment.out_for_delivery",
            ]


def test_one_event_that_causes_server_errors_does_not_block_the_others(
    queue: WebhookQueue, fulfillment_id: int
) -> None:
    bench = Bench(queue, f"shop-{fulfillment_id}")
    statuses = [f"status {number}" for number in range(12)]
    for status in statuses:
        bench.add_event(fulfillment_id, status)

    class FailingOnOneEvent(PrefectClient):
        """A Prefect client whose server always fails on one event."""

        async def request(self, method: Any, path: Any, *args: Any, **options: Any) -> Any:
            if path == "/events" and b"status_0" in options.get("content", b""):
                request = httpx.Request(method, "http://127.0.0.1/events")
                response = httpx.Response(500, request=request)
                raise httpx.HTTPStatusError("failed", request=request, response=response)
            return await super().request(method, path, *args, **options)

    async def send() -> None:
        async with FailingOnOneEvent(str(PREFECT_API_URL.value())) as client:
            await bench.emitter.send(client)

    anyio.run(send)
    for attempt in eventually():
        with attempt:
            bench.confirm()
            assert bench.outbox == 1
    assert len(names_at_prefect(fulfillment_id)) == len(statuses) - 1


def test_no_event_is_discarded_if_prefect_refuses_all(bench: Bench, fulfillment_id: int) -> None:
    for status in ("in_transit", "delivered"):
        bench.add_event(fulfillment_id, status, name="x" * 5000 + status)
    with pytest.raises(RetryLater):
        bench.send()
    assert len(bench.queue.claim(bench.account, limit=10)) == 2


def test_a_status_change_in_the_shop_becomes_a_prefect_event(
    listening: Listening,
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    queue: WebhookQueue,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="prefect_tracktor")
    order_id = tracktor.shop.order_ids[0]
    with listening(confirm_after_seconds=0) as address:
        for topic in ("order/all", "fulfillment/all", "order/delivered"):
            tracktor.shop.create_webhook(topic=topic, address=f"{address}/{TOKEN}")
        on_their_way = [
            parcel["fulfillment_id"]
            for parcel in tracktor.shop.order(order_id)["fulfillments"]
            if parcel["status"][-1]["datetime"] is None
        ]
        assert on_their_way
        tracktor.shop.set_status(order_id, status="delivered")
        tracktor.wait_for_deliveries()
        assert {delivery.status for delivery in tracktor.deliveries} == {200}
        for attempt in eventually():
            with attempt:
                assert queue.waiting(credentials.account) == (0, 0)
    [event] = events_at_prefect(f"tracktor.order.{order_id}")
    assert event.event == "tracktor.order.delivered"
    for parcel in on_their_way:
        events = events_at_prefect(f"tracktor.fulfillment.{parcel}")
        # other tests announce exceptions of a shop with the same ids
        [event] = [one for one in events if one.event == "tracktor.fulfillment.delivered"]
        assert event.related[0].id == f"tracktor.order.{order_id}"


def test_deliveries_become_events_after_an_outage_of_prefect(
    listening: Listening,
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    queue: WebhookQueue,
    caplog: pytest.LogCaptureFixture,
) -> None:
    order_id = tracktor.shop.order_ids[1]
    real = urlsplit(PREFECT_API_URL.value() or "")
    with start_blocking_portal() as portal:
        gate = Gate(real.hostname or "", real.port or 0)
        elsewhere = {PREFECT_API_URL: f"http://127.0.0.1:{gate.port}/api"}
        with temporary_settings(updates=elsewhere), listening(confirm_after_seconds=0) as address:
            response = httpx.post(f"{address}/{TOKEN}", json={"order_id": order_id})
            assert response.status_code == 200
            for attempt in eventually():
                with attempt:
                    assert "1 events could not be sent" in caplog.text
            assert queue.waiting(credentials.account) == (0, 1)
            with portal.wrap_async_context_manager(gate.open()):
                for attempt in eventually():
                    with attempt:
                        assert queue.waiting(credentials.account) == (0, 0)
    assert len(events_at_prefect(f"tracktor.order.{order_id}")) == 1


class Gate:
    """A port that forwards to Prefect's server while it is open."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            self.port: int = reserved.getsockname()[1]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._lead, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
