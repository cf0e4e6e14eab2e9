"""Rows of the three tables: orders, their parcels, and the steps of each parcel."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from prefect_tracktor.conditions import Keys, RequestedConditions, conditions_of
from prefect_tracktor.errors import InvalidResponse
from prefect_tracktor.models import Fulfillment, Order, ShipmentStatus, TrackingStatus, status_key
from prefect_tracktor.storage.completed_orders import arrived_at
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Delay, Thresholds

Type = Literal["bigint", "text", "bool", "timestamp", "decimal", "double"]
Row = dict[str, Any]

_SECONDS_A_DAY = 86_400
_UNCLEAR = "unclear"
# statuses have columns of their own
_REQUESTED = RequestedConditions(exceptions=Keys(all=True), delays=frozenset(Delay))


@dataclass(frozen=True, slots=True)
class Table:
    """A table's columns with their types, in order.

    Attributes:
        columns: The type of each column, by name.
        key: The primary key's columns.
        personal: Further columns, with data of customers.
    """

    columns: Mapping[str, Type]
    key: tuple[str, ...]
    personal: Mapping[str, Type] = field(default_factory=dict)

    def all_columns(self, *, include_personal_data: bool = False) -> dict[str, Type]:
        """Return the type of each column, by name, with or without the personal ones."""
        return {**self.columns, **(self.personal if include_personal_data else {})}


# by a pattern of the column's name; the first match counts
_TYPES: Mapping[str, Type] = {
    r"is_.*": "bool",
    r".*_(at|since)": "timestamp",
    r"days_.*": "double",
    r".*_price": "decimal",
    r".*_(id|count)|step": "bigint",
    r".*": "text",
}


def _columns(names: str) -> dict[str, Type]:
    return {
        name: next(kind for form, kind in _TYPES.items() if re.fullmatch(form, name))
        for name in names.split()
    }


TABLES: Mapping[str, Table] = {
    "orders": Table(
        columns=_columns(
            "order_id order_name source ordered_at total_price financial_status country"
            " shipping_method line_item_count parcel_count statuses exceptions condition"
            " condition_since is_delivered is_cancelled delivered_at days_to_delivery"
            " unreadable_fields"
        ),
        key=("order_id",),
        personal=_columns(
            "customer_email customer_phone customer_first_name customer_last_name"
            " customer_full_name"
        ),
    ),
    "parcels": Table(
        columns=_columns(
            "order_id fulfillment_id carrier carrier_name fulfillment_status status exception"
            " condition condition_since is_automatic is_delivered is_cancelled item_count"
            " order_total_price ordered_at order_ready_at in_transit_at out_for_delivery_at"
            " delivered_at latest_step_at days_to_transit days_in_transit days_to_delivery"
        ),
        key=("fulfillment_id",),
        # a tracking number leads to the parcel's destination
        personal=_columns("tracking_number tracking_url"),
    ),
    "parcel_steps": Table(
        columns=_columns(
            "order_id fulfillment_id step status label reached_at days_since_previous_step"
        ),
        key=("fulfillment_id", "step"),
    ),
}


def tracking_rows(
    orders: Iterable[Order],
    *,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    now: datetime | None = None,
    include_personal_data: bool = False,
) -> Iterator[tuple[str, Row]]:
    """Yield the rows of orders, one order after another, for a pipeline of your own.

    Args:
        orders: The orders, such as the `found` of a batch, or a generator.
        thresholds: The days after which a parcel is delayed, for the column `condition`.
        now: The time for which delays are computed; the present if left out.
        include_personal_data: Also yield names, email addresses, phone numbers, tracking numbers
            and tracking addresses.

    Yields:
        The name of a table (`orders`, `parcels`, `parcel_steps`) and a row of it, with the columns
        that `prefect_tracktor.tracking.TABLES` lists. Times are aware and in UTC, prices are
        `Decimal`, and unknown values are `None`. The condition is the most urgent exception or
        delay, or `unclear` if the order contradicts itself. Parcels of other orders are left out.

    Example:
        >>> from prefect_tracktor import Order
        >>> parcel = {"fulfillment_id": 7, "shipment_status": "in_transit"}
        >>> order = Order.model_validate({"order_id": 1, "fulfillments": [parcel]})
        >>> [(table, row["order_id"]) for table, row in tracking_rows([order])]
        [('orders', 1), ('parcels', 1)]
    """
    names = {
        name: tuple(table.all_columns(include_personal_data=include_personal_data))
        for name, table in TABLES.items()
    }
    now = now or datetime.now(UTC)
    for order in orders:
        for name, row in _rows_of(order, _conditions(order, thresholds, now)):
            yield name, {column: row[column] for column in names[name]}


def _conditions(order: Order, thresholds: Thresholds, now: datetime) -> dict[int | None, Row]:
    """Return the columns of each parcel's most urgent condition by id; the order's by `None`."""
    found: dict[int | None, Row] = {}
    try:
        conditions = conditions_of(order, thresholds, now, requested=_REQUESTED)
    except InvalidResponse:
        ids = [None, *(parcel.fulfillment_id for parcel in order.undelivered)]
        return {id_: {"condition": _UNCLEAR, "condition_since": None} for id_ in ids}
    for condition in conditions:
        id_ = condition.parcel.fulfillment_id if condition.parcel else None
        row = {"condition": condition.name, "condition_since": _utc(condition.since)}
        found.setdefault(id_, row)
    return found


_NO_CONDITION: Row = {"condition": None, "condition_since": None}


def _rows_of(order: Order, conditions: Mapping[int | None, Row]) -> Iterator[tuple[str, Row]]:
    foreign = {id(parcel) for parcel in order.foreign_parcels}
    parcels = {
        parcel.fulfillment_id: parcel for parcel in order.fulfillments if id(parcel) not in foreign
    }
    yield "orders", _order_row(order, len(parcels)) | conditions.get(None, _NO_CONDITION)
    for id_, parcel in parcels.items():
        steps = _steps(parcel)
        yield "parcels", _parcel_row(order, parcel, steps) | conditions.get(id_, _NO_CONDITION)
        for row in _step_rows(order, parcel, steps):
            yield "parcel_steps", row


def _order_row(order: Order, parcel_count: int) -> Row:
    ordered, delivered = _utc(order.order_created_at), _utc(arrived_at(order))
    return {
        "order_id": order.order_id,
        "order_name": order.order_name,
        "source": order.order_source_name,
        "ordered_at": ordered,
        "total_price": order.total_price,
        "financial_status": order.facts.financial_status,
        "country": order.facts.country,
        "shipping_method": order.facts.shipping_method,
        "line_item_count": order.line_item_count,
        "parcel_count": parcel_count,
        "statuses": _joined(order.statuses),
        "exceptions": _joined(order.exception_statuses),
        "is_delivered": order.is_delivered,
        "is_cancelled": order.is_cancelled,
        "delivered_at": delivered,
        "days_to_delivery": _days(ordered, delivered),
        "unreadable_fields": _joined(sorted(order.unreadable_fields)),
        "customer_email": order.order_email,
        "customer_phone": order.order_phone,
        "customer_first_name": order.customer_first_name,
        "customer_last_name": order.customer_last_name,
        "customer_full_name": order.customer_full_name,
    }


def _parcel_row(
    order: Order, parcel: Fulfillment, steps: list[tuple[datetime | None, TrackingStatus]]
) -> Row:
    carrier = parcel.carrier
    ordered = _utc(order.order_created_at)
    times = [time for time, _ in steps if time]
    reached = {f"{status}_at": _first(steps, status) for status in ShipmentStatus}
    if parcel.is_delivered:
        reached["delivered_at"] = _utc(parcel.last_reached(ShipmentStatus.DELIVERED))
    in_transit, delivered = reached["in_transit_at"], reached["delivered_at"]
    return reached | {
        "order_id": order.order_id,
        "fulfillment_id": parcel.fulfillment_id,
        "carrier": carrier.slug if carrier and carrier.slug else parcel.shopify_carrier,
        "carrier_name": carrier.name if carrier else None,
        "fulfillment_status": parcel.fulfillment_status,
        "status": _text(parcel.shown_status),
        "exception": _text(parcel.exception_status),
        "is_automatic": parcel.is_automatic,
        "is_delivered": parcel.is_delivered,
        "is_cancelled": order.has_cancelled(parcel),
        "item_count": sum(item.quantity or 1 for item in parcel.line_items) or None,
        "order_total_price": order.total_price,
        "ordered_at": ordered,
        "latest_step_at": max(times, default=None),
        "days_to_transit": _days(ordered, in_transit),
        "days_in_transit": _days(in_transit, delivered),
        "days_to_delivery": _days(ordered, delivered),
        "tracking_number": parcel.tracking_number,
        "tracking_url": parcel.tracking_url,
    }


def _step_rows(
    order: Order, parcel: Fulfillment, steps: list[tuple[datetime | None, TrackingStatus]]
) -> Iterator[Row]:
    before: datetime | None = None
    for number, (time, step) in enumerate(steps, start=1):
        yield {
            "order_id": order.order_id,
            "fulfillment_id": parcel.fulfillment_id,
            "step": number,
            "status": _key(step),
            "label": step.label,
            "reached_at": time,
            "days_since_previous_step": _days(before, time),
        }
        before = time or before


def _steps(parcel: Fulfillment) -> list[tuple[datetime | None, TrackingStatus]]:
    """Return the steps by time, each once, without time first."""
    named = [(_utc(step.datetime), step) for step in parcel.all_steps if _key(step)]
    dated = {_key(step) for time, step in named if time}
    once = {
        (time, _key(step)): (time, step) for time, step in named if time or _key(step) not in dated
    }
    return [once[key] for key in sorted(once, key=lambda key: (key[0] or _LONG_AGO, key[1]))]


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def _key(step: TrackingStatus) -> str:
    return status_key(step.key or step.label or "")


def _first(steps: list[tuple[datetime | None, TrackingStatus]], status: str) -> datetime | None:
    names = ((time, {_key(step), status_key(step.label or "")}) for time, step in steps if time)
    return next((time for time, keys in names if status in keys), None)


def _utc(time: datetime | None) -> datetime | None:
    return time.astimezone(UTC) if time else None


def _days(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return round((end - start).total_seconds() / _SECONDS_A_DAY, 2)


def _text(value: str | None) -> str | None:
    return None if value is None else str(value)


def _joined(values: Iterable[str]) -> str | None:
    return ", ".join(map(str, values)) or None
