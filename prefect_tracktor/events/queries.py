"""Queries for events by id, in windows of time that Prefect Cloud accepts."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from prefect.events import Event
from prefect.events.filters import EventFilter, EventIDFilter, EventOccurredFilter

# Prefect Cloud refuses a query that spans more than 14 days
WINDOW = timedelta(days=13)
# Prefect keeps the first of several events with one id, which may have occurred earlier
EARLIER_WINDOWS = range(1, 8)
_CLOCKS_DIFFER_BY = timedelta(hours=1)


def queries_for(events: Sequence[Event], *, earlier: int = 0) -> Iterator[EventFilter]:
    """Queries that find events by id, in windows that end just after they occurred."""
    rest = sorted(events, key=lambda event: event.occurred, reverse=True)
    while rest:
        until = rest[0].occurred + _CLOCKS_DIFFER_BY
        since = until - WINDOW
        within = [event for event in rest if event.occurred > since]
        rest = rest[len(within) :]
        window = {"since": since - earlier * WINDOW, "until": until - earlier * WINDOW}
        yield EventFilter(
            id=EventIDFilter(id=[event.id for event in within]),
            occurred=EventOccurredFilter.model_validate(window),
        )
