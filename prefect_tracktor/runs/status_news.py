"""News of parcels' statuses: which parcels have some, and the words for each status."""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby

from prefect_tracktor.conditions import arrived_unseen, is_undated, parcels_in_status
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.messages.template import EmailTemplate, status_template
from prefect_tracktor.models import Fulfillment, Order, status_key
from prefect_tracktor.runs.cases import Outcome
from prefect_tracktor.runs.notify import Notification

_HOURS_AT_MOST = 24 * 366

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
        parcels, now = parcels_in_status(order, templates), datetime.now(UTC)
        if any(is_undated(p, now) for p in parcels) or arrived_unseen(order, templates):
            yield Outcome.UNDATED
        recent = sorted((p for p in parcels if is_recent(p, begin)), key=_current_status)
        for status, same in groupby(recent, key=_current_status):
            yield Notification(templates[status], [(parcel, reason(status)) for parcel in same])

    return choose


def is_recent(parcel: Fulfillment, begin: datetime) -> bool:
    """Whether the parcel is known to have reached its status since then."""
    undated = is_undated(parcel, datetime.now(UTC))
    return not undated and parcel.reached_at is not None and parcel.reached_at >= begin


def _current_status(parcel: Fulfillment) -> str:
    return parcel.current_status


def reason(status: str) -> str:
    """What the ledger remembers a status by."""
    return f"status:{status}"
