"""Order source: the orders of recent tracking events."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.events import EventPage
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventRelatedFilter,
)
from pydantic import AwareDatetime, BaseModel, Field

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.events.schema import Kind, shop_resource_id
from prefect_tracktor.forms import FORM
from prefect_tracktor.sources.found_orders import FoundOrder, FoundOrders
from prefect_tracktor.validation import checked_id

_PREFIXES = [f"tracktor.{kind}." for kind in Kind]
# events of flows: a run must not read the orders that another run has just announced
_FROM_FLOWS = [f"{prefix}{reason}." for prefix in _PREFIXES for reason in ("exception", "delay")]
# the maximum of Prefect's API
_PAGE = 50
_CLOCK_SKEW = timedelta(hours=1)
# Prefect does not always evaluate the events of a burst in the order in which it received them
_OUT_OF_ORDER = timedelta(minutes=1)


class EventOrders(BaseModel):
    """The orders of recent tracking events, so that a run reads only these.

    For a deployment that one event of a burst starts: the run reads the orders of all of them. The
    events are those that `prefect-tracktor receive` or a webhook of Prefect Cloud emits. Events
    from flows, about exceptions and delays, do not count.

    Attributes:
        since: When Prefect received the first event, with a time zone. In a trigger:
            `{{ event.received.isoformat() }}`. Events of the minute before count as well.
        account: Only events of this account, as `TracktorCredentials.account` names it; empty for
            all.
        occurred_within_hours: How long before that a parcel may have reached its status. Prefect is
            asked for the events of this time.

    Example:
        >>> from datetime import UTC, datetime
        >>> orders = EventOrders(since=datetime.now(UTC), account="0123456789abcdef0123")
        >>> [found.order_id for found in orders.find_orders()]
        []
    """

    model_config = FORM

    since: AwareDatetime
    account: str = ""
    occurred_within_hours: float = Field(default=24, gt=0, le=24 * 6)

    def find_orders(self) -> FoundOrders:
        """Find the orders, each once, the latest event first.

        Returns:
            The orders, read as you iterate.
        """
        return FoundOrders(
            map(FoundOrder, dict.fromkeys(self._order_ids())),
            why_none=lambda: f"no tracking event has named an order since {self.since}",
        )

    def _order_ids(self) -> Iterator[int]:
        since = self.since - _OUT_OF_ORDER
        for page in self._pages():
            for event in page.events:
                if event.received >= since and (order_id := _order_id(event.payload)):
                    yield order_id

    def _pages(self) -> Iterator[EventPage]:
        with get_client(sync_client=True) as client:
            page = client.read_events(self._query(), limit=_PAGE)
            yield page
            while page.next_page:
                page = client.read_events_page(str(page.next_page))
                yield page

    def _query(self) -> EventFilter:
        occurred = {
            "since": self.since - timedelta(hours=self.occurred_within_hours),
            "until": datetime.now(UTC) + _CLOCK_SKEW,
        }
        return EventFilter(
            occurred=EventOccurredFilter.model_validate(occurred),
            event=EventNameFilter(prefix=_PREFIXES, exclude_prefix=_FROM_FLOWS),
            related=EventRelatedFilter(id=[shop_resource_id(self.account)])
            if self.account
            else None,
        )


def _order_id(payload: dict[str, Any]) -> int | None:
    try:
        return checked_id(payload.get("order_id"), field="order_id")
    except InvalidInput:
        return None  # any program can emit an event with this name
