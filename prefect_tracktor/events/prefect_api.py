"""Sending of events to Prefect's API, and reading them back until they are stored.

A successful response means that the server has the event in memory; a server that is killed in the
next seconds loses it. `prefect.events.emit_event` does not even wait for the response. So the flows
and the receiver post events here and look for them in Prefect's database.
"""

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from enum import Enum, auto
from http import HTTPStatus
from uuid import UUID

import anyio
import httpx
from anyio.from_thread import start_blocking_portal
from prefect.client.orchestration import PrefectClient, get_client
from prefect.events import Event
from prefect.events.filters import EventFilter, EventIDFilter, EventOccurredFilter

# the limit of Prefect's API for one page
BATCH_SIZE = 50
# Prefect Cloud refuses a query that spans more than 14 days
WINDOW = timedelta(days=13)
# of several events with one id, Prefect keeps the first, which may have occurred earlier
EARLIER_WINDOWS = range(1, 8)
_CLOCK_SKEW = timedelta(hours=1)
_STORED_WITHIN_SECONDS = 60
_POLL_SECONDS = 0.5

_log = logging.getLogger(__name__)


class PostResult(Enum):
    SENT = auto()  # Prefect accepted the event, or may have it
    REFUSED = auto()
    NOT_SENT = auto()
    FAILED = auto()  # the server failed, and may have the event


_RESULTS: dict[int, PostResult] = {
    HTTPStatus.BAD_REQUEST: PostResult.REFUSED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: PostResult.REFUSED,
    HTTPStatus.UNPROCESSABLE_ENTITY: PostResult.REFUSED,
    HTTPStatus.UNAUTHORIZED: PostResult.NOT_SENT,
    HTTPStatus.FORBIDDEN: PostResult.NOT_SENT,
    HTTPStatus.NOT_FOUND: PostResult.NOT_SENT,
    HTTPStatus.METHOD_NOT_ALLOWED: PostResult.NOT_SENT,
    HTTPStatus.TOO_MANY_REQUESTS: PostResult.NOT_SENT,
    HTTPStatus.SERVICE_UNAVAILABLE: PostResult.NOT_SENT,
    HTTPStatus.INTERNAL_SERVER_ERROR: PostResult.FAILED,
}


def send_events(events: Sequence[Event]) -> set[UUID]:
    """Send events in order to Prefect's API, and wait until they are stored.

    Returns:
        The ids of the events that Prefect has stored. The others can be sent again.

    Example:
        >>> import datetime as dt
        >>> from prefect_tracktor import Fulfillment
        >>> from prefect_tracktor.events import fulfillment_event
        >>> parcel = Fulfillment(fulfillment_id=7, shipment_status="delivered")
        >>> now = dt.datetime.now(dt.UTC)
        >>> event = fulfillment_event(parcel, account=credentials.account, received=now)
        >>> send_events([event]) == {event.id}
        True
    """
    # in another thread, because a flow may be called where an event loop is running
    with start_blocking_portal() as portal:
        return portal.call(_send_and_wait, events)


async def post_events(client: PrefectClient, events: Sequence[Event]) -> dict[UUID, PostResult]:
    result = await _post(client, events)
    if len(events) == 1 or result not in {PostResult.REFUSED, PostResult.FAILED}:
        return {event.id: result for event in events}
    # A single event may be the reason, and must not delay the others. Posting the others again does
    # no harm: triggers ignore an event id that the server saw in the last half hour.
    results = {event.id: PostResult.NOT_SENT for event in events}
    for event in events:
        results[event.id] = await _post(client, [event])
        if results[event.id] is PostResult.NOT_SENT:
            break
    return results


async def find_stored(
    client: PrefectClient, events: Sequence[Event], *, earlier: bool = False
) -> set[UUID]:
    """Return the ids of the stored events; `earlier` also searches months before they occurred."""
    stored: set[UUID] = set()
    for window in (0, *EARLIER_WINDOWS) if earlier else (0,):
        for query in _queries(_without(events, stored), window):
            page = await client.read_events(query, limit=BATCH_SIZE)
            stored |= {event.id for event in page.events}
    return stored


async def _send_and_wait(events: Sequence[Event]) -> set[UUID]:
    stored: set[UUID] = set()
    try:
        async with get_client() as client:
            posted = await _post_all(client, events)
            with anyio.move_on_after(_STORED_WITHIN_SECONDS):
                while missing := _without(posted, stored):
                    await anyio.sleep(_POLL_SECONDS)
                    stored |= await find_stored(client, missing)
            stored |= await find_stored(client, _without(posted, stored), earlier=True)
    except (httpx.HTTPError, OSError) as error:
        _log.warning("events cannot be read back from Prefect: %s", reason_of(error))
    return stored


async def _post_all(client: PrefectClient, events: Sequence[Event]) -> list[Event]:
    """Post events in batches, and return those that Prefect may have."""
    results: dict[UUID, PostResult] = {}
    for start in range(0, len(events), BATCH_SIZE):
        results |= await post_events(client, events[start : start + BATCH_SIZE])
        if PostResult.NOT_SENT in results.values():
            break
    not_stored = {PostResult.NOT_SENT, PostResult.REFUSED, None}
    return [event for event in events if results.get(event.id) not in not_stored]


async def _post(client: PrefectClient, events: Sequence[Event]) -> PostResult:
    body = f"[{','.join(event.model_dump_json() for event in events)}]"
    headers = {"content-type": "application/json"}
    try:
        await client.request("POST", "/events", content=body.encode(), headers=headers)
    except (httpx.HTTPError, OSError) as error:
        _log.warning("Prefect did not accept %d events: %s", len(events), reason_of(error))
        return _result_of(error)
    return PostResult.SENT


def _result_of(error: Exception) -> PostResult:
    if isinstance(error, httpx.HTTPStatusError):
        return _RESULTS.get(error.response.status_code, PostResult.SENT)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return PostResult.NOT_SENT
    return PostResult.SENT


def reason_of(error: Exception) -> str:
    """Describe an error without its message, because Prefect's messages repeat the content."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"it answered {error.response.status_code}"
    return type(error).__name__


def _queries(events: Sequence[Event], window: int) -> Iterator[EventFilter]:
    """Yield queries for events by id, in windows that end just after the events occurred."""
    rest = sorted(events, key=lambda event: event.occurred, reverse=True)
    while rest:
        until = rest[0].occurred + _CLOCK_SKEW
        within = [event for event in rest if event.occurred > until - WINDOW][:BATCH_SIZE]
        rest = rest[len(within) :]
        until -= window * WINDOW
        occurred = {"since": until - WINDOW, "until": until}
        yield EventFilter(
            id=EventIDFilter(id=[event.id for event in within]),
            occurred=EventOccurredFilter.model_validate(occurred),
        )


def _without(events: Sequence[Event], stored: set[UUID]) -> list[Event]:
    return [event for event in events if event.id not in stored]
