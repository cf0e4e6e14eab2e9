"""What Tracktor speaks of, read leniently and written strictly.

Reading accepts every form that the vendor's pages show or leave open: ids and prices as strings,
empty strings for null, times with or without an offset, objects keyed by status instead of lists,
and fields that this pack does not know yet (they are kept, and written out again).

Sources: [doc] the vendor's API reference, [vendor] its other public pages, [inferred] our choice.
"""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)


class ShipmentStatus(StrEnum):
    """The built-in shipment statuses [doc]. A shop's custom statuses stay plain strings.

    Example:
        >>> ShipmentStatus("in_transit").label
        'In transit'
    """

    ORDER_READY = "order_ready"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    DELIVERED = "delivered"

    @property
    def label(self) -> str:
        """The status in words, for people."""
        return self.value.replace("_", " ").capitalize()


class ExceptionStatus(StrEnum):
    """What can be wrong with a parcel [doc], with the names that the dashboard shows [vendor].

    Example:
        >>> ExceptionStatus.EXPIRED.label
        'Tracking Expired'
    """

    NOT_FOUND = "not_found"
    EXCEPTION = "exception"
    UNDELIVERED = "undelivered"
    PENDING = "pending"
    EXPIRED = "expired"

    @property
    def label(self) -> str:
        """The status as Tracktor's dashboard names it."""
        return _EXCEPTION_LABELS[self]


_EXCEPTION_LABELS = {
    ExceptionStatus.NOT_FOUND: "Needs Attention",
    ExceptionStatus.EXCEPTION: "Shipping Exception",
    ExceptionStatus.UNDELIVERED: "Failed Attempt",
    ExceptionStatus.PENDING: "Pending Details",
    ExceptionStatus.EXPIRED: "Tracking Expired",
}


class WebhookTopic(StrEnum):
    """The topics that a webhook can be created for [doc]. Others can be read.

    Example:
        >>> WebhookTopic("order/delivered").name
        'ORDER_DELIVERED'
    """

    ORDER_ALL = "order/all"
    ORDER_PRE_TRANSIT = "order/pre_transit"
    ORDER_IN_TRANSIT = "order/in_transit"
    ORDER_OUT_FOR_DELIVERY = "order/out_for_delivery"
    ORDER_DELIVERED = "order/delivered"
    FULFILLMENT_ALL = "fulfillment/all"
    FULFILLMENT_PRE_TRANSIT = "fulfillment/pre_transit"
    FULFILLMENT_IN_TRANSIT = "fulfillment/in_transit"
    FULFILLMENT_OUT_FOR_DELIVERY = "fulfillment/out_for_delivery"
    FULFILLMENT_DELIVERED = "fulfillment/delivered"


def status_key(status: str) -> str:
    """A status as a key, however it is written: by key or label, in any letter case.

    Args:
        status: Such as "In transit" or "in_transit".

    Returns:
        Its letters and digits in lower case, with one underscore for whatever is between them.

    Example:
        >>> status_key("In transit"), status_key("OUT_FOR-DELIVERY!")
        ('in_transit', 'out_for_delivery')
    """
    letters = "".join(c if c.isalnum() else "_" for c in status.lower())
    return "_".join(filter(None, letters.split("_")))


def _empty_as_none(value: Any) -> Any:
    """Empty strings, lists and objects stand for null in the answers of many web apps."""
    return None if value in ("", [], {}) else value


def _no_time_as_none(value: Any) -> Any:
    """Databases behind web apps write "never" as a date of zeros."""
    return None if isinstance(value, str) and value.startswith("0000-00-00") else value


def _as_list(value: Any) -> Any:
    """Null is an empty list; an object keyed by number or name is the list of its values."""
    if value is None or value == "":
        return []
    if isinstance(value, dict):
        return list(value.values())
    return value


def _as_list_of_strings(value: Any) -> Any:
    value = _as_list(value)
    return [entry for entry in value if entry] if isinstance(value, list) else value


def _in_utc_if_naive(value: dt.datetime | None) -> dt.datetime | None:
    return value.replace(tzinfo=dt.UTC) if value is not None and value.tzinfo is None else value


_Empty = BeforeValidator(_empty_as_none)
Text = Annotated[str | None, _Empty]
Id = Annotated[int | None, _Empty]
Flag = Annotated[bool | None, _Empty]
# left to right: a known status becomes its enum member, any other stays the string it is
OpenShipmentStatus = Annotated[ShipmentStatus | str, Field(union_mode="left_to_right")]
OpenExceptionStatus = Annotated[ExceptionStatus | str, Field(union_mode="left_to_right")]
OpenTopic = Annotated[WebhookTopic | str, Field(union_mode="left_to_right")]


class TracktorModel(BaseModel):
    """What all objects of the API have in common: immutable, unknown fields kept.

    Example:
        >>> Carrier.model_validate({"slug": "ups", "colour": "brown"}).model_dump()
        {'slug': 'ups', 'name': None, 'colour': 'brown'}
    """

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        populate_by_name=True,
        coerce_numbers_to_str=True,
        # a validation error would otherwise quote the customer's data
        hide_input_in_errors=True,
    )

    # what a repr shows; the rest may be a customer's data
    _shown: ClassVar[frozenset[str]] = frozenset()

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Ids and statuses only: reprs end up in logs."""
        return ((name, value) for name, value in super().__repr_args__() if name in self._shown)


class Carrier(TracktorModel):
    """Who carries a parcel, after the shop's carrier mapping [doc].

    Example:
        >>> Carrier(slug="ups", name="UPS").name
        'UPS'
    """

    _shown = frozenset({"slug", "name"})

    slug: Text = None
    name: Text = None


class LineItem(TracktorModel):
    """One line of what a parcel contains [doc].

    Example:
        >>> LineItem(name="Blue mug", quantity=2).quantity
        2
    """

    _shown = frozenset({"id", "quantity"})

    name: Text = None
    quantity: Id = None
    requires_shipping: Flag = None
    id: Id = None
    product_id: Id = None
    variant_id: Id = None


class TrackingStatus(TracktorModel):
    """A step in a parcel's life: `key`, `label` and `datetime` [vendor]. The time is aware.

    A time without an offset is taken as UTC [inferred].

    Example:
        >>> TrackingStatus(key="delivered", datetime="2026-11-02T10:00:00").datetime.isoformat()
        '2026-11-02T10:00:00+00:00'
    """

    _shown = frozenset({"key", "datetime"})

    key: Text = None
    label: Text = None
    datetime: Annotated[dt.datetime | None, _Empty, BeforeValidator(_no_time_as_none)] = None

    _aware = field_validator("datetime")(_in_utc_if_naive)


class Fulfillment(TracktorModel):
    """A parcel: one fulfillment of an order, with its tracking [doc].

    Example:
        >>> parcel = Fulfillment(fulfillment_id=7, exception_status="expired")
        >>> parcel.exception_status.label, parcel.is_delivered
        ('Tracking Expired', False)
    """

    _shown = frozenset({"fulfillment_id", "shipment_status", "exception_status"})

    fulfillment_id: int
    order_id: Id = None
    order_name: Text = None
    shop_url: Text = None
    shopify_carrier: Text = None
    carrier: Annotated[Carrier | None, _Empty] = None
    tracking_number: Text = None
    tracking_url: Text = None
    fulfillment_status: Text = None
    shipment_status: Annotated[OpenShipmentStatus | None, _Empty] = None
    exception_status: Annotated[OpenExceptionStatus | None, _Empty] = None
    is_automatic: Flag = None
    line_items: Annotated[tuple[LineItem, ...], BeforeValidator(_as_list)] = ()
    latest_status: Annotated[TrackingStatus | None, _Empty] = None
    status: tuple[TrackingStatus, ...] = ()

    @field_validator("carrier", mode="before")
    @classmethod
    def _carrier_may_be_its_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) and value else value

    @field_validator("status", mode="before")
    @classmethod
    def _status_may_be_keyed(cls, value: Any) -> Any:
        """The reference says array, the vendor's templates read an object keyed by status."""
        if isinstance(value, dict):
            return list(_keyed_statuses(value))
        return _as_list(value)

    @property
    def is_delivered(self) -> bool:
        """Whether the parcel has arrived, by its shipment status or by its latest step."""
        latest = self.latest_status
        shown = [self.shipment_status, *((latest.key, latest.label) if latest else ())]
        return ShipmentStatus.DELIVERED in {status_key(status) for status in shown if status}

    @property
    def current_status(self) -> str:
        """The key of the status that the parcel is in; empty if it has none."""
        return status_key(self.shown_status or "")

    @property
    def shown_status(self) -> str | None:
        """The status that the parcel is in, as Tracktor writes it; `None` if it has none.

        It is that of the latest step where the parcel itself names none, and wherever the latest
        step is the delivery.
        """
        if self.is_delivered:
            return str(ShipmentStatus.DELIVERED)
        latest = self.latest_status
        return self.shipment_status or ((latest.key or latest.label) if latest else None)

    @property
    def reached_at(self) -> dt.datetime | None:
        """When the parcel got into its current status; `None` if that is not known."""
        return self.last_reached(self.current_status)

    def last_reached(self, status: str) -> dt.datetime | None:
        """When the parcel last got into a status, which its steps call by key or by label.

        Args:
            status: The status, in any spelling.

        Returns:
            The time; `None` if it is not known.

        Example:
            >>> step = TrackingStatus(label="In transit", datetime="2026-11-24T08:00:00Z")
            >>> str(Fulfillment(fulfillment_id=7, status=[step]).last_reached("in_transit"))
            '2026-11-24 08:00:00+00:00'
        """
        steps = [*self.status, *([self.latest_status] if self.latest_status else [])]
        times = [
            step.datetime
            for step in steps
            if step.datetime
            and status_key(status) in {status_key(name) for name in (step.key, step.label) if name}
        ]
        return max(times, default=None)


def _keyed_statuses(statuses: dict[str, Any]) -> Iterator[Any]:
    for key, value in statuses.items():
        details = value if isinstance(value, dict) else {"label": value}
        yield {"key": key} | details


class Order(TracktorModel):
    """An order with its customer and its parcels [doc].

    `total_price` includes taxes and shipping, in the shop's currency. `days_since_ordered` counts
    from the order to its delivery.

    Example:
        >>> order = Order.model_validate({"order_id": "1001", "total_price": "59.90"})
        >>> order.order_id, order.total_price
        (1001, Decimal('59.90'))
    """

    _shown = frozenset({"order_id", "order_name", "statuses"})

    order_id: int
    order_name: Text = None
    order_email: Text = None
    order_phone: Text = None
    order_source_name: Text = None
    order_created_at: Annotated[dt.datetime | None, _Empty, BeforeValidator(_no_time_as_none)] = (
        None
    )
    customer_first_name: Text = None
    customer_last_name: Text = None
    customer_full_name: Text = None
    total_price: Annotated[Decimal | None, _Empty] = None
    line_item_count: Id = None
    statuses: Annotated[tuple[OpenShipmentStatus, ...], BeforeValidator(_as_list_of_strings)] = ()
    exception_statuses: Annotated[
        tuple[OpenExceptionStatus, ...], BeforeValidator(_as_list_of_strings)
    ] = ()
    days_since_ordered: Id = None
    automatic_carrier_updates: Flag = None
    fulfillments: Annotated[tuple[Fulfillment, ...], BeforeValidator(_as_list)] = ()

    _aware = field_validator("order_created_at")(_in_utc_if_naive)


class StatusOption(TracktorModel):
    """A tracking status that the shop can set, built in or its own; shape [inferred].

    Example:
        >>> StatusOption.model_validate("Preparing your order").matches("preparing your ORDER")
        True
    """

    _shown = frozenset({"key", "label"})

    key: Text = None
    label: Annotated[str, StringConstraints(strip_whitespace=True)]

    @model_validator(mode="before")
    @classmethod
    def _may_be_named_otherwise(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"label": value}
        if isinstance(value, dict) and not value.get("label"):
            label = value.get("name") or value.get("key")
            return value | {"label": label} if label else value
        return value

    def matches(self, status: str) -> bool:
        """Whether `status` means this option, by label or by key.

        Letter case does not matter, nor whether words are joined by blanks or by underscores: a
        built-in status is listed as "In transit" and shown by orders as "in_transit".
        """
        return status_key(status) in {status_key(name) for name in (self.key, self.label) if name}


class Webhook(TracktorModel):
    """A subscription: Tracktor posts to `address` whenever `topic` happens; shape [inferred].

    Example:
        >>> Webhook.model_validate({"id": 3, "topic": "order/all", "url": "https://a.example"}).address
        'https://a.example'
    """

    _shown = frozenset({"id", "topic"})

    id: int = Field(validation_alias=AliasChoices("id", "webhook_id"))
    topic: OpenTopic
    address: str = Field(validation_alias=AliasChoices("address", "url"))
