"""News of parcels' statuses: which parcels have some, and the words for each status."""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby

from prefect_tracktor.errors import InvalidInput, InvalidResponse
from prefect_tracktor.messages.template import EmailTemplate, status_template
from prefect_tracktor.models import Fulfillment, Order, ShipmentStatus, status_key
from prefect_tracktor.runs.cases import Outcome
from prefect_tracktor.runs.notify import Notification

_HOURS_AT_MOST = 24 * 366
_CLOCKS_DIFFER_BY = timedelta(hours=1)

WITH_DEFAULT_TEMPLATE = frozenset({"in_transit", "out_for_delivery", "delivered"})


def templates_for(
    statuses: Collection[str], templates: Mapping[str, EmailTemplate] | None
) -> dict[str, EmailTemplate]:
    """The template for each status; none may be without."""
    given = {status_key(status): template for status, template in (templates or {}).items()}
    known = dict.fromkeys(WITH_DEFAULT_TEMPLATE, status_template()) | given
    keys = {status_key(status) for status in statuses}
    if not keys or "" in keys:
        raise InvalidInput("name at least one status, such as 'delivered'; none may be blank")
    if without := sorted(keys - known.keys()):
        raise InvalidInput(
            f"there is no template for {', '.join(map(repr, without))}: give `templates` an"
            " EmailTemplate for each"
        )
    return {status: known[status] for status in keys}


def since(within_hours: float) -> datetime:
    """The time before which a status is no news any more."""
    if not 0 < within_hours <= _HOURS_AT_MOST:
        raise InvalidInput(
            f"within_hours must be more than 0 and at most {_HOURS_AT_MOST}, not {within_hours}"
        )
    return datetime.now(UTC) - timedelta(hours=within_hours)


def recent_changes(
    templates: Mapping[str, EmailTemplate], begin: datetime
) -> Callable[[Order], Iterator[Notification | Outcome]]:
    """Choose the parcels that reached one of some statuses since a time."""

    def choose(order: Order) -> Iterator[Notification | Outcome]:
        parcels = parcels_in(order, templates)
        if any(is_undated(parcel) for parcel in parcels) or _arrived_unseen(order, templates):
            yield Outcome.UNDATED
        recent = sorted((p for p in parcels if is_recent(p, begin)), key=_current_status)
        for status, same in groupby(recent, key=_current_status):
            yield Notification(templates[status], [(parcel, reason(status)) for parcel in same])

    return choose


def is_undated(parcel: Fulfillment) -> bool:
    """Whether it cannot be said how long ago the parcel got into its status."""
    return parcel.reached_at is None or parcel.reached_at > datetime.now(UTC) + _CLOCKS_DIFFER_BY


def is_recent(parcel: Fulfillment, begin: datetime) -> bool:
    """Whether the parcel is known to have reached its status since then."""
    return not is_undated(parcel) and parcel.reached_at is not None and parcel.reached_at >= begin


def parcels_in(order: Order, statuses: Collection[str]) -> list[Fulfillment]:
    """The parcels in one of the statuses, by their own fields and by the order's."""
    named = set(order.status_keys) & set(statuses)
    shown = set().union(*(parcel.status_keys for parcel in order.fulfillments))
    silent = not all(parcel.current_status for parcel in order.fulfillments)
    if named - shown and (silent or not order.fulfillments):
        raise InvalidResponse("the order names a status that none of its parcels has")
    found = [parcel for parcel in order.fulfillments if parcel.current_status in statuses]
    on_their_way = [parcel for parcel in found if not parcel.is_delivered]
    if on_their_way and order.contradicts_its_parcels:
        raise InvalidResponse(
            "the order's statuses name more deliveries than its parcels do: which of them arrived"
            " cannot be told"
        )
    return [p for p in found if p.is_delivered] if order.is_delivered else found


def _arrived_unseen(order: Order, statuses: Collection[str]) -> bool:
    """Whether a delivery is news that only the order tells of, and so without its time."""
    parcels = order.fulfillments
    unseen = order.is_delivered and not all(parcel.is_delivered for parcel in parcels)
    return unseen and ShipmentStatus.DELIVERED in statuses


def _current_status(parcel: Fulfillment) -> str:
    return parcel.current_status


def reason(status: str) -> str:
    """What the ledger remembers a status by."""
    return f"status:{status}"
