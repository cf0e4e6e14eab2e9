"""Events from a flow straight to Prefect, with the certainty that Prefect has taken them.

`prefect.events.emit_event` hands an event to a background thread, which loses it where the API
cannot be reached; whoever remembers what was told has to know better.
"""

from collections.abc import Sequence

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event

from prefect_tracktor.errors import ConnectionTrouble

_AT_ONCE = 50


def send_events(events: Sequence[Event]) -> None:
    """Send events to the Prefect API of the settings.

    Args:
        events: The events, in the order in which they occurred.

    Raises:
        ConnectionTrouble: Prefect did not take them, or some of them; to send all again does no
            harm while Prefect recognises their ids.

    Example:
        >>> import datetime as dt
        >>> from prefect_tracktor import Fulfillment
        >>> from prefect_tracktor.events import exception_event
        >>> parcel = Fulfillment(fulfillment_id=7, exception_status="expired")
        >>> now = dt.datetime.now(dt.UTC)
        >>> send_events([exception_event(parcel, account=credentials.account, received=now)])
    """
    try:
        with get_client(sync_client=True) as client:
            for start in range(0, len(events), _AT_ONCE):
                some = events[start : start + _AT_ONCE]
                body = f"[{','.join(event.model_dump_json() for event in some)}]"
                client.request(
                    "POST",
                    "/events",
                    content=body.encode(),
                    headers={"content-type": "application/json"},
                )
    except httpx.HTTPError as error:
        reason = type(error).__name__
    else:
        return
    # raised outside of the handler, whose error repeats what was sent
    raise ConnectionTrouble(
        f"POST events: Prefect did not take the events ({reason}); the next run sends them again."
    )
