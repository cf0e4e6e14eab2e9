"""Conditions of orders and parcels: exceptions, statuses and delays, and when each began."""

from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches

from prefect_tracktor.errors import InvalidInput, InvalidResponse
from prefect_tracktor.models import (
    CARRIER_STATUSES,
    NEEDS_ATTENTION,
    ExceptionStatus,
    Fulfillment,
    Order,
    ShipmentStatus,
    exception_key,
    exception_label,
    status_key,
)
from prefect_tracktor.thresholds import Delay, Thresholds

_ALL = "all"
_SIMILAR = 0.85
_CLOCKS_DIFFER_BY = timedelta(hours=1)

# Shopify's fulfillment statuses of orders that are not late: sent, planned, or taken back
_NOT_AWAITED = frozenset({"fulfilled", "partially_fulfilled", "scheduled", "on_hold", "restocked"})
# if one of these is unreadable, the parcel may have moved after its readable steps
_TIMES = frozenset({"latest_status", "latest_status.datetime", "status", "status.datetime"})

# the most urgent first; an unknown exception comes after the others
_URGENCY = {
    name: place
    for place, name in enumerate(
        (
            *(f"exception:{key}" for key in ("expired", "undelivered", "exception", "not_found")),
            *("exception:needs_attention", "exception:cancelled", "exception:pending"),
            "exception",
            *Delay,
            "status",
        )
    )
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of a parcel, or of an order as a whole.

    Attributes:
        name: `exception:` or `status:` with a key, as in `exception:expired` or `status:delivered`;
            or `stalled`, `in_transit_too_long`, `label_only`, `not_shipped`.
        parcel: The parcel; `None` if the condition is about the order as a whole.
        since: When it began; `None` if that is not known.
        cancelled: Whether the parcel or the order is cancelled, voided or refunded. Do not write to
            the customer about it.

    Example:
        >>> Condition("exception:expired").label
        'Tracking Expired'
    """

    name: str
    parcel: Fulfillment | None = None
    since: datetime | None = None
    cancelled: bool = False

    @property
    def kind(self) -> str:
        """The part of the name before the colon."""
        return self.name.partition(":")[0]

    @property
    def key(self) -> str:
        """The exception or status; empty for other kinds."""
        return self.name.partition(":")[2]

    @property
    def label(self) -> str:
        """The condition in words, for people."""
        if self.kind == "exception":
            return exception_label(self.key)
        shown = self.parcel and self.key and self.parcel.shown_status
        if shown and status_key(shown) == self.key != shown:
            return shown
        return (self.key or self.kind).replace("_", " ").capitalize()

    @property
    def urgency(self) -> int:
        """Its rank: the lower, the more urgent."""
        return _URGENCY.get(self.name, _URGENCY[self.kind])


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of exceptions or statuses, or all of them."""

    keys: frozenset[str] = frozenset()
    all: bool = False

    def __contains__(self, key: object) -> bool:
        return bool(key) and (self.all or key in self.keys)


@dataclass(frozen=True, slots=True)
class RequestedConditions:
    """The conditions to look for, by name."""

    exceptions: Keys = Keys()
    statuses: Keys = Keys()
    delays: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        kind, _, key = str(name).partition(":")
        by_kind = {"exception": self.exceptions, "status": self.statuses}
        return key in by_kind[kind] if kind in by_kind else name in self.delays


EVERY_CONDITION = RequestedConditions(Keys(all=True), Keys(all=True), frozenset(Delay))


def requested_conditions(names: Collection[str], *, field: str = "when") -> RequestedConditions:
    """Parse a parameter that names conditions, such as `exception:expired` or `status:all`."""
    exceptions: list[str] = []
    statuses: list[str] = []
    delays: list[str] = []
    for name in names:
        kind, colon, key = (part.strip() for part in name.partition(":"))
        match status_key(kind):
            case "exception" if colon:
                exceptions += _requested_exception(key, field)
            case "status" if status_key(key):
                statuses.append(status_key(key))
            case delay if delay in set(Delay) and not colon:
                delays.append(delay)
            case _:
                raise InvalidInput(
                    f"{field}: {name[:40]!r} is not a condition; use exception:expired,"
                    " exception:all, status:delivered or another exception or status,"
                    f" {', '.join(Delay)}"
                )
    if not names:
        raise InvalidInput(f"{field} is empty: name at least one")
    return RequestedConditions(_keys(exceptions), _keys(statuses), frozenset(delays))


def probable_typos(requested: RequestedConditions) -> Iterator[str]:
    """Yield a note for each exception that resembles one that Tracktor documents.

    Others are accepted: Tracktor may have more than it documents.
    """
    known = [*ExceptionStatus, NEEDS_ATTENTION, _ALL]
    for key in sorted(requested.exceptions.keys.difference(known)):
        if similar := get_close_matches(key, known, n=1, cutoff=_SIMILAR):
            yield (
                f"exception:{key} is not an exception that Tracktor documents, and no parcel may"
                f" ever have it: did you mean {similar[0]}?"
            )


def _keys(names: Iterable[str]) -> Keys:
    keys = frozenset(names)
    return Keys(keys, all=_ALL in keys)


def _requested_exception(name: str, field: str) -> Collection[str]:
    key = exception_key(name)
    if not key:
        raise InvalidInput(
            f"{field}: {name[:40]!r} is not an exception; use a key or label, such as"
            " 'expired' or 'Tracking Expired', or 'all'"
        )
    if key in {ExceptionStatus.NOT_FOUND, NEEDS_ATTENTION}:
        return (ExceptionStatus.NOT_FOUND, NEEDS_ATTENTION)
    return (key,)


def conditions_of(
    order: Order,
    thresholds: Thresholds,
    now: datetime,
    *,
    requested: RequestedConditions = EVERY_CONDITION,
) -> tuple[Condition, ...]:
    """Find all conditions of an order and its parcels.

    A parcel can have several, such as a status and an exception; `most_urgent` keeps one of each.
    If a time is unknown, no delay is found.

    Args:
        order: The order.
        thresholds: When a delay begins.
        now: The time; it must be aware.
        requested: Which conditions to look for; all by default. An order is unreadable only if it
            contradicts itself about one of these.

    Returns:
        The conditions, the most urgent first.

    Raises:
        InvalidInput: `now` has no time zone.
        InvalidResponse: The order's fields contradict each other, so its conditions are unclear.

    Example:
        >>> latest = {"key": "in_transit", "datetime": "2026-11-02T10:00Z"}
        >>> parcel = {"fulfillment_id": 7, "shipment_status": "in_transit", "latest_status": latest}
        >>> order = Order(order_id=1, fulfillments=[parcel])
        >>> now = datetime.fromisoformat("2026-11-12T10:00Z")
        >>> [condition.name for condition in conditions_of(order, Thresholds(), now)]
        ['stalled', 'status:in_transit']
    """
    if now.tzinfo is None:
        raise InvalidInput("now must be an aware time: give it a tzinfo such as datetime.UTC")
    found = [
        *_exceptions(order, now, requested.exceptions),
        *_delays(order, thresholds, now, requested.delays),
        *_statuses(order, now, requested.statuses),
    ]
    return tuple(sorted(found, key=lambda condition: condition.urgency))


def most_urgent(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Keep the most urgent condition of each parcel, or a more urgent one of the whole order.

    Args:
        conditions: The conditions of one order, the most urgent first.

    Returns:
        One condition for each parcel that has any, or a single one about the order.

    Example:
        >>> [kept] = most_urgent([Condition("not_shipped"), Condition("status:sewing")])
        >>> kept.name
        'not_shipped'
    """
    kept: dict[int | None, Condition] = {}
    for condition in conditions:
        kept.setdefault(condition.parcel.fulfillment_id if condition.parcel else None, condition)
        if None in kept and len(kept) == 1:
            break
    if len(kept) > 1:
        kept.pop(None, None)
    return tuple(kept.values())


def _exceptions(order: Order, now: datetime, requested: Keys) -> Iterator[Condition]:
    for parcel in parcels_in_exception(order, requested):
        key = str(parcel.exception_status)
        yield Condition(
            f"exception:{key}",
            parcel,
            _past(parcel.last_reached(key), now),
            cancelled=order.has_cancelled(parcel),
        )


def _statuses(order: Order, now: datetime, requested: Keys) -> Iterator[Condition]:
    if not order.fulfillments and CARRIER_STATUSES.isdisjoint(order.status_keys):
        # a made-to-order status such as "Sewing", before there is a parcel
        for key in dict.fromkeys(key for key in order.status_keys if key in requested):
            yield Condition(f"status:{key}", cancelled=order.is_cancelled)
        return
    for parcel in parcels_in_status(order, requested):
        name, since = f"status:{parcel.current_status}", _past(parcel.reached_at, now)
        yield Condition(name, parcel, since, cancelled=order.has_cancelled(parcel))
    if order.is_delivered and ShipmentStatus.DELIVERED in requested:
        for parcel in order.fulfillments:
            if not parcel.is_delivered:  # by the order's own statuses only
                yield Condition("status:delivered", parcel, cancelled=order.has_cancelled(parcel))


def _delays(
    order: Order, thresholds: Thresholds, now: datetime, requested: Collection[str]
) -> Iterator[Condition]:
    for delay, parcel, started in _starts(order) if requested else ():
        begins = thresholds.begins(delay, started, order, parcel) if delay in requested else None
        if begins is not None and begins <= now:
            if parcel is not None:
                _refuse_contradiction(order)
            yield Condition(str(delay), parcel, begins)


def _starts(order: Order) -> Iterator[tuple[Delay, Fulfillment | None, datetime]]:
    """Yield the possible delays, with their parcel and the time from which the days count."""
    placed_at = order.order_created_at or order.facts.created_at
    if placed_at and _is_awaited(order):
        yield Delay.NOT_SHIPPED, None, placed_at
    for parcel in order.undelivered:
        # without the time of the present status, there may be a later update
        known = parcel.reached_at and not parcel.unreadable_fields & _TIMES
        if known and not order.has_cancelled(parcel):
            yield from ((delay, parcel, time) for delay, time in _starts_of(parcel) if time)


def _starts_of(parcel: Fulfillment) -> Iterator[tuple[Delay, datetime | None]]:
    if _is_moving(parcel):
        yield Delay.STALLED, parcel.last_news_at
        yield Delay.IN_TRANSIT_TOO_LONG, parcel.moved_at
    elif parcel.current_status == ShipmentStatus.ORDER_READY and parcel.was_handed_over:
        yield Delay.LABEL_ONLY, parcel.reached_at


def _is_awaited(order: Order) -> bool:
    """Whether nothing of the order has left the shop, and it should have."""
    has_left = order.has_shipped or order.is_partly_delivered or order.exception_statuses
    return not (has_left or order.is_cancelled or order.facts.fulfillment_status in _NOT_AWAITED)


def _is_moving(parcel: Fulfillment) -> bool:
    """Whether the carrier has the parcel, and the shop has set no other status since."""
    is_carriers = parcel.current_status in CARRIER_STATUSES or parcel.is_automatic
    return bool(parcel.carrier_statuses and is_carriers)


def parcels_in_exception(order: Order, requested: Container[str]) -> tuple[Fulfillment, ...]:
    """Return the parcels that have a requested exception and are not delivered."""
    explained = {parcel.exception_status for parcel in order.fulfillments}
    unexplained = set(order.exception_statuses) - explained
    if any(name in requested for name in unexplained) and _is_open(order):
        raise InvalidResponse(
            "the order names an exception that none of its parcels has: the response lacks parcels,"
            " or a field of them has changed"
        )
    for parcel in order.undelivered:
        _refuse_ambiguous(parcel, requested)
    found = tuple(p for p in order.undelivered if p.exception_status in requested)
    if found:
        _refuse_contradiction(order)
    return found


def _is_open(order: Order) -> bool:
    """Whether a part of the order may still arrive."""
    if order.is_delivered or order.is_cancelled:
        return False
    return not order.fulfillments or not all(map(order.has_cancelled, order.undelivered))


def _refuse_ambiguous(parcel: Fulfillment, requested: Container[str]) -> None:
    may_be_expired = parcel.exception_status == NEEDS_ATTENTION
    if may_be_expired and NEEDS_ATTENTION not in requested and ExceptionStatus.EXPIRED in requested:
        raise InvalidResponse(
            "Tracktor calls a parcel's exception 'Needs Attention', which its vendor uses for"
            " not_found and expired alike: look at the order in Tracktor's dashboard"
        )


def _refuse_contradiction(order: Order) -> None:
    if order.contradicts_its_parcels:
        raise InvalidResponse(
            "the order's statuses name more deliveries than its parcels do, so it is unknown which"
            " parcels arrived"
        )


def parcels_in_status(order: Order, requested: Container[str]) -> list[Fulfillment]:
    """Return the parcels in a requested status, by their own fields and the order's."""
    named = {key for key in order.status_keys if key in requested}
    shown = set().union(*(parcel.status_keys for parcel in order.fulfillments))
    silent = not all(parcel.current_status for parcel in order.fulfillments)
    if named - shown and (silent or not order.fulfillments):
        raise InvalidResponse("the order names a status that none of its parcels has")
    found = [parcel for parcel in order.fulfillments if parcel.current_status in requested]
    if not all(parcel.is_delivered for parcel in found):
        _refuse_contradiction(order)
    return [p for p in found if p.is_delivered] if order.is_delivered else found


def is_undated(parcel: Fulfillment, now: datetime) -> bool:
    """Whether it is unknown how long the parcel has been in its status."""
    return _past(parcel.reached_at, now) is None


def _past(reached: datetime | None, now: datetime) -> datetime | None:
    """Return a time, or `None` if it is in the future, beyond the difference of clocks."""
    return reached if reached and reached <= now + _CLOCKS_DIFFER_BY else None
