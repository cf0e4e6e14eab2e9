"""Events from a flow straight to Prefect, with the certainty that Prefect has them.

`prefect.events.emit_event` hands an event to a background thread, which loses it where the API
cannot be reached, and a server that is killed forgets what it has just taken. Whoever remembers
what was told has to know better: so events are read back.
"""

import time
from collections.abc import Sequence
from http import HTTPStatus
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import Event

from prefect_tracktor.events.queries import EARLIER_WINDOWS, queries_for

# the most that Prefect's API gives back at once
_AT_ONCE = 50
_STORED_WITHIN_SECONDS = 60
_LOOK_AGAIN_SECONDS = 0.5


def send_events(events: Sequence[Event]) -> set[UUID]:
    """Send events to the Prefect API of the settings, and wait until they are stored.

    Args:
        events: The events, in the order in which they occurred.

    Returns:
        The ids of those that Prefect has. To send the others again does no harm.

    Example:
        >>> import datetime as dt
        >>> from prefect_tracktor import Fulfillment
        >>> from prefect_tracktor.events import exception_event
        >>> parcel = Fulfillment(fulfillment_id=7, exception_status="expired")
        >>> now = dt.datetime.now(dt.UTC)
        >>> event = exception_event(parcel, account=credentials.account, received=now)
        >>> send_events([event]) == {event.id}
        True
    """
    stored: set[UUID] = set()
    try:
        with get_client(sync_client=True) as client:
            sent = [event for some in _parts(events) for event in _sent(client, some)]
            for some in _parts(sent):
                stored |= _stored(client, some)
    except httpx.HTTPError:
        return stored
    return stored


def _parts(events: Sequence[Event]) -> list[Sequence[Event]]:
    return [events[start : start + _AT_ONCE] for start in range(0, len(events), _AT_ONCE)]


def _sent(client: SyncPrefectClient, events: Sequence[Event]) -> Sequence[Event]:
    """Those that were taken; one that is refused does not keep the others from it."""
    body = f"[{','.join(event.model_dump_json() for event in events)}]"
    headers = {"content-type": "application/json"}
    try:
        client.request("POST", "/events", content=body.encode(), headers=headers)
    except httpx.HTTPStatusError as refusal:
        if refusal.response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or len(events) == 1:
            return []
        return [event for alone in events for event in _sent(client, [alone])]
    return events


def _stored(client: SyncPrefectClient, events: Sequence[Event]) -> set[UUID]:
    """Those that Prefect has in its database, where they get within seconds."""
    give_up_at = time.monotonic() + _STORED_WITHIN_SECONDS
    stored = _found(client, events)
    while (missing := _missing(events, stored)) and time.monotonic() < give_up_at:
        time.sleep(_LOOK_AGAIN_SECONDS)
        stored |= _found(client, missing)
    for earlier in EARLIER_WINDOWS:
        stored |= _found(client, _missing(events, stored), earlier=earlier)
    return stored


def _found(client: SyncPrefectClient, events: Sequence[Event], *, earlier: int = 0) -> set[UUID]:
    pages = [
        client.read_events(query, limit=_AT_ONCE) for query in queries_for(events, earlier=earlier)
    ]
    return {event.id for page in pages for event in page.events}


def _missing(events: Sequence[Event], stored: set[UUID]) -> list[Event]:
    return [event for event in events if event.id not in stored]
