"""Events are read back although Prefect Cloud refuses queries of more than 14 days."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.events import Event
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_tracktor.events import Kind, Subject, prefect_api, send_events
from prefect_tracktor.events.prefect_api import EARLIER_WINDOWS, WINDOW
from prefect_tracktor.webhooks import WebhookQueue
from prefect_tracktor.webhooks.emitter import Emitter
from prefect_tracktor.webhooks.queue import ReadResult
from prefect_tracktor.webhooks.worker import SingleWriter
from tests.support.webhooks import eventually

pytestmark = pytest.mark.usefixtures("prefect_api")

NOW = datetime.now(UTC)
LONGEST = timedelta(days=14)


class LikeCloud(BaseHTTPRequestHandler):
    """A proxy of a Prefect server that refuses queries of more than 14 days."""

    protocol_version = "HTTP/1.1"
    behind: ClassVar[str]
    spans: ClassVar[list[timedelta]]

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.endswith("/events/filter") and self._span(body) > LONGEST:
            self._send(422, b'{"detail": "more than 14 days"}')
            return
        headers = {"content-type": self.headers.get("content-type") or "application/json"}
        response = httpx.request(
            self.command, f"{self.behind}{self.path}", content=body, headers=headers
        )
        self._send(response.status_code, response.content)

    def _span(self, body: bytes) -> timedelta:
        occurred = json.loads(body)["filter"]["occurred"]
        since, until = (datetime.fromisoformat(occurred[end]) for end in ("since", "until"))
        self.spans.append(until - since)
        return until - since

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def spans() -> Iterator[list[timedelta]]:
    """Connect to a Prefect like Cloud; return the time spans of the queries."""
    with like_cloud(PREFECT_API_URL.value() or "") as spans:
        yield spans


@contextmanager
def like_cloud(url: str) -> Iterator[list[timedelta]]:
    spans: list[timedelta] = []
    fields = {"behind": url.removesuffix("/api"), "spans": spans}
    methods = {"do_GET": LikeCloud.respond, "do_POST": LikeCloud.respond}
    handler = type("Handler", (LikeCloud,), fields | methods)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/api"
        with temporary_settings(updates={PREFECT_API_URL: address}):
            yield spans
        server.shutdown()


def event(*, days_ago: float, event_id: UUID | None = None) -> Event:
    subject = Subject(Kind.FULFILLMENT, uuid4().int % 10**15)
    return Event(
        id=event_id or uuid4(),
        event="tracktor.fulfillment.delivered",
        resource={"prefect.resource.id": subject.resource_id},
        occurred=NOW - timedelta(days=days_ago),
    )


def test_events_years_apart_are_all_confirmed(spans: list[timedelta]) -> None:
    events = [event(days_ago=days) for days in (0, 0.5, 12, 13, 14, 15, 40, 400, 5000)]
    assert send_events(events) == {one.id for one in events}
    assert max(spans) <= WINDOW


def test_an_event_stored_months_ago_is_found_by_its_id(
    spans: list[timedelta], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = event(days_ago=60)
    assert send_events([first]) == {first.id}
    monkeypatch.setattr(prefect_api, "_STORED_WITHIN_SECONDS", 0)
    assert send_events([event(days_ago=0, event_id=first.id)]) == {first.id}
    assert max(spans) <= WINDOW


def test_the_emitter_confirms_new_and_old_events(
    spans: list[timedelta], queue: WebhookQueue
) -> None:
    first = event(days_ago=30)
    assert send_events([first]) == {first.id}
    events = [event(days_ago=days) for days in (0, 20, 300)]
    events.append(event(days_ago=0, event_id=first.id))
    for number, one in enumerate(events, start=1):
        queue.add("shop", Subject(Kind.FULFILLMENT, number))
        [waiting] = queue.due("shop", new=10)
        queue.complete("shop", [ReadResult(waiting, event=one)])
    emitter = Emitter(
        "shop",
        queue,
        SingleWriter(),
        confirm_after=timedelta(0),
        resend_after=timedelta(0),
        keep_for=timedelta(days=30),
    )

    async def until_all_are_confirmed() -> None:
        async with get_client() as client:
            await emitter.send(client)
            for attempt in eventually():
                with attempt:
                    await emitter.confirm(client)
                    await emitter.send(client)
                    assert queue.waiting("shop") == (0, 0)

    anyio.run(until_all_are_confirmed)
    assert max(spans) <= WINDOW
    assert len(EARLIER_WINDOWS) * WINDOW > timedelta(days=90)
