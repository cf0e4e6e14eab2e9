"""The fields that a flow needs, and the check that Tracktor's responses have them.

A field that is missing from one response may be empty. A field that is missing from every response
was renamed or removed: a flow that needs it would find nothing to do and succeed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Self

from prefect_tracktor.api import DECISIVE_FIELDS
from prefect_tracktor.errors import InvalidResponse
from prefect_tracktor.models import ExceptionStatus, Fulfillment, Order, exception_label
from prefect_tracktor.reporting.words import in_list

_EXCEPTION = "fulfillments.exception_status"
_LONGEST_EXCEPTION = 40
# the reference has the one "only set when there is an issue", and does not name the other
_MAY_BE_ABSENT = {_EXCEPTION, "fulfillments.tracking_url"}
_DOCUMENTED = {
    *Order.model_fields,
    *(f"fulfillments.{name}" for name in Fulfillment.model_fields),
} - _MAY_BE_ABSENT


@dataclass(frozen=True, slots=True)
class Needs:
    """The fields that a flow needs to decide; a parcel's begin with `fulfillments.`.

    `in_each` must be readable in every response; of each group of `in_some`, one field must be in
    one response at least.
    """

    in_each: frozenset[str] = DECISIVE_FIELDS
    in_some: tuple[tuple[str, ...], ...] = ()

    def __or__(self, other: "Needs") -> "Needs":
        """Return the needs of two flows that share a reading."""
        in_some = dict.fromkeys((*self.in_some, *other.in_some))
        return Needs(self.in_each | other.in_each, tuple(in_some))

    @property
    def of_each_order(self) -> Self:
        """The needs of reading a few of the orders again."""
        return replace(self, in_some=())

    @property
    def of_each_parcel(self) -> frozenset[str]:
        """The needs of a parcel's look-up."""
        parts = (name.partition(".") for name in self.in_each)
        return frozenset(name for whole, _, name in parts if whole == "fulfillments" and name)


_EXCEPTIONS = frozenset({"exception_statuses", _EXCEPTION})
_CARRIER_UPDATES = frozenset({"automatic_carrier_updates", "fulfillments.is_automatic"})
_PARCELS = (
    ("fulfillments",),
    ("fulfillments.shipment_status", "fulfillments.latest_status"),
)
_TIMES = ("fulfillments.latest_status.datetime", "fulfillments.status.datetime")
# they show whether an order has all of its parcels
_LINES = frozenset({"line_item_count", "fulfillments.line_items"})

TO_FIND_EXCEPTIONS = Needs(
    DECISIVE_FIELDS - _CARRIER_UPDATES, (*_PARCELS, (_EXCEPTION, "exception_statuses"))
)
TO_NOTIFY_OF_EXCEPTIONS = Needs(
    TO_FIND_EXCEPTIONS.in_each | {"order_email"}, (*TO_FIND_EXCEPTIONS.in_some, ("order_email",))
)
# exceptions and delays
TO_WATCH = replace(TO_FIND_EXCEPTIONS, in_some=(*TO_FIND_EXCEPTIONS.in_some, _TIMES))
TO_NOTIFY_OF_ONE_STATUS = Needs(
    TO_NOTIFY_OF_EXCEPTIONS.in_each - _EXCEPTIONS, (*_PARCELS, ("order_email",))
)
TO_NOTIFY_OF_STATUSES = replace(
    TO_NOTIFY_OF_ONE_STATUS, in_some=(*TO_NOTIFY_OF_ONE_STATUS.in_some, _TIMES)
)
TO_SET_STATUSES = Needs(
    DECISIVE_FIELDS - _EXCEPTIONS,
    (
        ("fulfillments",),
        ("fulfillments.shipment_status",),
        ("statuses", "fulfillments.shipment_status"),
    ),
)
TO_SET_STATUSES_BY_AGE = Needs(
    TO_SET_STATUSES.in_each | _LINES, (*TO_SET_STATUSES.in_some, ("order_created_at",))
)


def needs_of(conditions: Iterable[str], *, of_whole_orders: bool = False) -> Needs:
    """Return the needs of notifying customers about conditions."""
    if of_whole_orders:
        return needs_of(conditions) | Needs(_LINES, tuple((name,) for name in sorted(_LINES)))
    kinds = {name.partition(":")[0].strip().casefold() for name in conditions}
    if kinds == {"exception"}:
        return TO_NOTIFY_OF_EXCEPTIONS
    if "exception" not in kinds:
        return TO_NOTIFY_OF_STATUSES
    return TO_NOTIFY_OF_STATUSES | TO_NOTIFY_OF_EXCEPTIONS


@dataclass(slots=True)
class ResponseCheck:
    """Check of all responses of a run: missing, unreadable and unknown values."""

    needs: Needs
    orders: int = 0
    _read: set[str] = field(default_factory=set)
    _unreadable: Counter[str] = field(default_factory=Counter)
    _unknown: Counter[str] = field(default_factory=Counter)

    def take(self, orders: Iterable[Order]) -> None:
        """Add orders, each once."""
        for order in orders:
            self.orders += 1
            if not self._read >= _DOCUMENTED.union(*self.needs.in_some):
                self._read |= order.fields_read
            self._unreadable.update(order.unreadable_fields)
            self._unknown.update(
                str(parcel.exception_status)[:_LONGEST_EXCEPTION]
                for parcel in order.fulfillments
                if parcel.exception_status
                and not isinstance(parcel.exception_status, ExceptionStatus)
                and not parcel.is_delivered
            )

    def refuse_missing(self) -> None:
        """Raise `InvalidResponse` if no response has a field that the flow needs."""
        missing = [" or ".join(group) for group in self.needs.in_some if self._is_missing(group)]
        if missing:
            raise InvalidResponse(
                f"none of the {self.orders:,} responses has {in_list(missing)}, which this flow"
                " needs: nothing was sent or changed. Tracktor's API has changed: look at a"
                " response with the task call, and open an issue."
            )

    def notes(self) -> Iterator[str]:
        """Describe what is unusual in the responses, a sentence each; no value of a field."""
        missing = [name for name in sorted(_DOCUMENTED) if self._is_missing([name])]
        if missing:
            yield (
                f"None of the {self.orders:,} responses has {in_list(missing)}: Tracktor's API"
                " documents this and may have changed."
            )
        for name, count in sorted(self._unreadable.items()):
            yield f"{name} could not be read in {count:,} of {self.orders:,} orders."
        if self._unknown and _EXCEPTION in self.needs.in_each:
            found = [f"{exception_label(e)} ({n:,})" for e, n in self._unknown.most_common(10)]
            yield (
                "Parcels have exceptions that this version does not know:"
                f" {in_list(found)}. To act on them, name them in the flow's parameters."
            )

    def _is_missing(self, group: Iterable[str]) -> bool:
        """Whether no response has any of the fields, though some have what contains them."""
        names = list(group)
        return any(map(self._could_be_there, names)) and self._read.isdisjoint(names)

    def _could_be_there(self, name: str) -> bool:
        whole, _, _ = name.rpartition(".")
        if not whole:
            return self.orders > 0
        return any(seen.startswith(f"{whole}.") for seen in (*self._read, *self._unreadable))
