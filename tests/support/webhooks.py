"""A queue, a listening receiver, and the events stored in Prefect."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stamina
from anyio.from_thread import start_blocking_portal
from prefect.client.orchestration import get_client
from prefect.events import ReceivedEvent
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.sandbox import Sandbox, Shop
from prefect_tracktor.webhooks import WebhookQueue
from prefect_tracktor.webhooks.receiver import ReceiverOptions, serve

TOKEN = "t0ken-drawn-by-chance-0123456789"

Listening = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A small shop."""
    with Sandbox(Shop(orders=40, expired=6)) as sandbox:
        yield sandbox


@pytest.fixture
def queue(tmp_path: Path) -> WebhookQueue:
    """An empty queue."""
    queue = WebhookQueue(url=f"sqlite:///{tmp_path / 'queue.sqlite3'}")
    queue.verify()
    return queue


@pytest.fixture
def no_prefect() -> Iterator[None]:
    """Prefect's API is unavailable: nothing listens at its address."""
    with temporary_settings(updates={PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


@pytest.fixture
def listening(credentials: TracktorCredentials, queue: WebhookQueue) -> Listening:
    """Start a receiver and return its address without the token."""

    @contextmanager
    def listening(**options: Any) -> Iterator[str]:
        settings = ReceiverOptions(**({"port": 0} | options))
        with start_blocking_portal() as portal:
            future, (server, port) = portal.start_task(serve, credentials, queue, TOKEN, settings)
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                server.should_exit = True
                future.result(timeout=30)

    return listening


def eventually() -> Any:
    """Repeat an assertion about another process until it holds."""
    return stamina.retry_context(
        on=AssertionError, attempts=None, timeout=30, wait_initial=0.05, wait_max=0.2
    )


def events_at_prefect(resource_id: str) -> list[ReceivedEvent]:
    """Return all events of a resource that Prefect has stored, in order."""
    ours = EventFilter(
        event=EventNameFilter(prefix=["tracktor."]),
        occurred=EventOccurredFilter.model_validate(
            {
                "since": datetime(2000, 1, 1, tzinfo=UTC),
                "until": datetime.now(UTC) + timedelta(days=1),
            }
        ),
        order="ASC",
    )
    with get_client(sync_client=True) as client:
        page = client.read_events(ours, limit=50)
        events = list(page.events)
        while page.next_page:
            page = client.read_events_page(str(page.next_page))
            events += page.events
    return [event for event in events if event.resource.id == resource_id]
