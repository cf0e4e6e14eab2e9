"""Objects of Tracktor's API, parsed leniently.

All forms are accepted that the vendor's pages show or leave open: ids and prices as strings, empty
strings for null, times with or without an offset, objects keyed by status instead of lists, and
unknown fields, which are kept. If an object has its id, a field that cannot be read is `None` and
named in `unreadable_fields`: code that needs it must stop.

Sources: [doc] the vendor's API reference, [vendor] its other public pages, [inferred] our choice.
"""

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from prefect_tracktor.parsing import (
    is_nothing,
    parse_any_id,
    parse_flag,
    parse_id,
    parse_list,
    parse_price,
    parse_status,
    parse_statuses,
    parse_text,
    parse_texts,
    parse_whole_number,
)
from prefect_tracktor.times import parse_time


class ShipmentStatus(StrEnum):
    """The built-in shipment statuses [doc]. A shop's custom statuses are plain strings.

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


# statuses that only a carrier reports
CARRIER_STATUSES: frozenset[str] = frozenset(ShipmentStatus) - {ShipmentStatus.ORDER_READY}


class ExceptionStatus(StrEnum):
    """The exceptions of a parcel [doc], with the labels of Tracktor's dashboard [vendor].

    `cancelled` is an alert of the dashboard whose key is [inferred]. There may be more: an unknown
    exception is a plain string, its key.

    Example:
        >>> ExceptionStatus.EXPIRED.label
        'Tracking Expired'
    """

    NOT_FOUND = "not_found"
    EXCEPTION = "exception"
    UNDELIVERED = "undelivered"
    PENDING = "pending"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

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
    ExceptionStatus.CANCELLED: "Cancelled",
}

# The vendor's API page gives this label to both `expired` and `not_found`, the dashboard only to
# `not_found`: in a response it may mean either.
NEEDS_ATTENTION = "needs_attention"

# by their letters alone, since the spelling of keys varies
_EXCEPTIONS: dict[str, ExceptionStatus | None] = (
    {str(status).replace("_", ""): status for status in ExceptionStatus}
    | {
        label.replace(" ", "").lower(): status
        for status, label in _EXCEPTION_LABELS.items()
        if status is not ExceptionStatus.NOT_FOUND
    }
    | {
        "canceled": ExceptionStatus.CANCELLED,
        "trackingcancelled": ExceptionStatus.CANCELLED,
        "trackingcanceled": ExceptionStatus.CANCELLED,
        "trackingnotfound": ExceptionStatus.NOT_FOUND,
        "expiredtracking": ExceptionStatus.EXPIRED,
    }
    | dict.fromkeys(("none", "null", "false", "no", "na", "noexception", "0"))
)


def exception_key(exception: str) -> str | None:
    """Return the key of an exception, given by key or by one of the vendor's labels."""
    key = status_key(exception)
    return _EXCEPTIONS.get(key.replace("_", ""), key or exception.strip() or None)


def exception_label(exception: str) -> str:
    """Return the label of an exception, for people."""
    known = _EXCEPTION_LABELS.get(exception)  # type: ignore[call-overload]  # equal to its text
    return known or exception.replace("_", " ").capitalize()


class WebhookTopic(StrEnum):
    """The topics for which a webhook can be created [doc]. Responses may have others.

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


@lru_cache(maxsize=4096)  # called for every status of every order, and these are few
def status_key(status: str) -> str:
    """Return the key of a status, given by key or label in any letter case."""
    letters = "".join(c if c.isalnum() else "_" for c in status.lower())
    return "_".join(filter(None, letters.split("_")))


def _exception_of(value: Any) -> str | None:
    exception = parse_status(value)
    return exception_key(exception) if exception else None


def _exceptions_of(value: Any) -> list[str]:
    return list(filter(None, map(exception_key, parse_statuses(value))))


# words of Shopify and shops for an order or a parcel that ends here [inferred]
_CANCELLED_WORDS = frozenset(
    {"cancelled", "canceled", "void", "voided", "refunded", "restocked", "annulled"}
)
_CANCELLATION_WORDS = frozenset({"cancel", "cancellation"})
_WORDS_BESIDE = frozenset(
    {"is", "was", "has", "been", "fully", "at", "on", "by", "date", "time", "datetime", "timestamp"}
    | {"reason", "order", "fulfillment", "shipment", "parcel"}
)
_NO = frozenset({"", "0", "false", "no", "n", "none", "null", "never"})
# the vendor documents the first two; the others are Shopify's words [inferred]
_SHIPPED_FULFILLMENTS = frozenset(
    {"fulfilled", "partial", "partially_fulfilled", "success", "shipped"}
)


def says_cancelled(status: str) -> bool:
    """Whether a status means cancelled, voided or refunded in full."""
    words = status_key(status).split("_")
    in_part = any(word.startswith("partial") or word == "not" for word in words)
    return not (in_part or _CANCELLED_WORDS.isdisjoint(words))


def _any_field_says_cancelled(model: "TracktorModel", *, except_in: Collection[str]) -> bool:
    """Whether a status, or a flag, time or reason such as `cancelled_at`, says cancelled."""
    for name, value in model:  # unknown fields, too
        kind = "" if name in except_in else _kind_of_field(name)
        if kind == "status":
            if _all_say_cancelled(value):
                return True
        elif kind and _is_yes(value, dated=kind == "time"):
            return True
    return False


@lru_cache(maxsize=1024)  # called for every field of every order
def _kind_of_field(name: str) -> str:
    """Return how a field of this name would show a cancellation; empty if it would not."""
    words = frozenset(status_key(_CAMEL.sub("_", name)).split("_"))
    if words & {"status", "statuses", "state"}:
        return "status"
    is_dated = bool(words & {"at", "date"})
    is_reason = bool(words & _CANCELLATION_WORDS) and (is_dated or "reason" in words)
    others = words - _CANCELLED_WORDS - _CANCELLATION_WORDS - _WORDS_BESIDE
    if others or not (words & _CANCELLED_WORDS or is_reason):
        return ""
    return "time" if is_dated else "flag"


def _all_say_cancelled(value: Any) -> bool:
    texts = list(value.values()) if isinstance(value, dict) else value
    texts = texts if isinstance(texts, list | tuple) else [texts]
    given = [text for text in texts if text]
    return bool(given) and all(isinstance(text, str) and says_cancelled(text) for text in given)


def _is_yes(value: Any, *, dated: bool) -> bool:
    """Whether a flag is set or a time given; other numbers may be amounts of money."""
    if not isinstance(value, str | int | float):
        return bool(value)
    text = str(value).strip().lower()
    if text in _NO or text.startswith(("0000-00-00", "partial", "not ")):
        return False
    is_number = re.fullmatch(r"[0-9]+(\.[0-9]*)?", text)
    return dated or not is_number or float(text) == 1


_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


_Empty = BeforeValidator(lambda value: None if value is False or is_nothing(value) else value)
Text = Annotated[str | None, BeforeValidator(parse_text)]
Texts = Annotated[str | None, BeforeValidator(parse_texts)]
Id = Annotated[int | None, BeforeValidator(parse_id)]
RequiredId = Annotated[int, BeforeValidator(parse_id)]
Count = Annotated[int | None, BeforeValidator(parse_whole_number)]
Flag = Annotated[bool | None, BeforeValidator(parse_flag)]
Price = Annotated[Decimal | None, BeforeValidator(parse_price)]
Time = Annotated[dt.datetime | None, BeforeValidator(parse_time)]
# left to right: a known status becomes its enum member, any other stays a string
OpenShipmentStatus = Annotated[ShipmentStatus | str, Field(union_mode="left_to_right")]
OpenExceptionStatus = Annotated[ExceptionStatus | str, Field(union_mode="left_to_right")]
WebhookId = int | str
OpenTopic = Annotated[WebhookTopic | str, Field(union_mode="left_to_right")]


class TracktorModel(BaseModel):
    """The base of all objects of the API: immutable, with unknown fields kept."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        populate_by_name=True,
        coerce_numbers_to_str=True,
        # a validation error would otherwise quote the customer's data
        hide_input_in_errors=True,
    )

    # the fields that a repr shows; others may be a customer's data
    _shown: ClassVar[frozenset[str]] = frozenset()

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show ids and statuses only: reprs end up in logs."""
        return ((name, value) for name, value in super().__repr_args__() if name in self._shown)


class LenientModel(TracktorModel):
    """An object with defaults for the optional fields that cannot be read."""

    _unreadable: frozenset[str] = PrivateAttr()  # unset if all could be read

    @model_validator(mode="wrap")
    @classmethod
    def _without_unreadable_fields(cls, value: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return read(value)
        except ValidationError as invalid:
            if not isinstance(value, dict):
                raise
            unreadable = frozenset(str(error["loc"][0]) for error in invalid.errors())
            if any(cls.model_fields[name].is_required() for name in unreadable):
                raise
        model = read({name: entry for name, entry in value.items() if name not in unreadable})
        model._unreadable = unreadable  # noqa: SLF001 - our own, of another instance
        return model

    @property
    def unreadable_fields(self) -> frozenset[str]:
        """The fields that could not be read; fields of parts have a dot, as in `carrier.name`."""
        return frozenset(_fields(self, lambda model: getattr(model, "_unreadable", ())))

    @property
    def fields_read(self) -> frozenset[str]:
        """The fields that were there and could be read; fields of parts have a dot."""
        return frozenset(_fields(self, lambda model: model.model_fields_set))


def _fields(
    model: LenientModel, fields_of: Callable[[LenientModel], Iterable[str]]
) -> Iterator[str]:
    yield from fields_of(model)
    for name, value in vars(model).items():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, LenientModel):
                yield from (f"{name}.{field}" for field in _fields(part, fields_of))


class Carrier(LenientModel):
    """The carrier of a parcel, after the shop's carrier mapping [doc].

    Example:
        >>> Carrier(slug="ups", name="UPS").name
        'UPS'
    """

    _shown = frozenset({"slug", "name"})

    slug: Text = None
    name: Text = None


class LineItem(LenientModel):
    """A line of a parcel's contents [doc].

    Example:
        >>> LineItem(name="Blue mug", quantity=2).quantity
        2
    """

    _shown = frozenset({"id", "quantity"})

    name: Text = None
    quantity: Count = None
    requires_shipping: Flag = None
    id: Id = None
    product_id: Id = None
    variant_id: Id = None


class TrackingStatus(LenientModel):
    """A step of a parcel's tracking: `key`, `label` and `datetime` [vendor]. The time is aware.

    A time without an offset is in the `time_zone` of the credentials, UTC by default [inferred].

    Example:
        >>> TrackingStatus(key="delivered", datetime="2026-11-02T10:00:00").datetime.isoformat()
        '2026-11-02T10:00:00+00:00'
    """

    _shown = frozenset({"key", "datetime"})

    key: Annotated[str | None, BeforeValidator(parse_status)] = None
    label: Annotated[str | None, BeforeValidator(parse_status)] = None
    datetime: Time = None


def _carrier(value: Any) -> Any:
    # a carrier may be given by its name
    return {"name": value} if isinstance(value, str) and value else value


def _step(value: Any) -> Any:
    # a step may be given by its label
    return {"label": value} if isinstance(value, str) and value.strip() else value


def _steps(value: Any) -> list[Any]:
    # the reference says array, the vendor's templates read an object keyed by status
    if not isinstance(value, dict):
        return [_step(step) for step in parse_list(value)]
    steps = {k: step if isinstance(step, dict) else {"label": step} for k, step in value.items()}
    return [{"key": key} | step for key, step in steps.items()]


class Fulfillment(LenientModel):
    """A parcel: one fulfillment of an order, with its tracking [doc].

    Example:
        >>> parcel = Fulfillment(fulfillment_id=7, exception_status="expired")
        >>> parcel.exception_status.label, parcel.is_delivered
        ('Tracking Expired', False)
    """

    _shown = frozenset({"fulfillment_id", "shipment_status", "exception_status"})

    fulfillment_id: RequiredId
    order_id: Id = None
    order_name: Text = None
    shop_url: Text = None
    shopify_carrier: Text = None
    carrier: Annotated[Carrier | None, _Empty, BeforeValidator(_carrier)] = None
    tracking_number: Texts = None
    tracking_url: Texts = None
    fulfillment_status: Annotated[str | None, BeforeValidator(parse_status)] = None
    shipment_status: Annotated[OpenShipmentStatus | None, BeforeValidator(parse_status)] = None
    exception_status: Annotated[OpenExceptionStatus | None, BeforeValidator(_exception_of)] = None
    is_automatic: Flag = None
    line_items: Annotated[tuple[LineItem, ...], BeforeValidator(parse_list)] = ()
    latest_status: Annotated[TrackingStatus | None, _Empty, BeforeValidator(_step)] = None
    status: Annotated[tuple[TrackingStatus, ...], BeforeValidator(_steps)] = ()

    @property
    def is_delivered(self) -> bool:
        """Whether the parcel has arrived, by its shipment status or by its latest step."""
        latest = self.latest_status
        shown = [self.shipment_status, *((latest.key, latest.label) if latest else ())]
        return ShipmentStatus.DELIVERED in {status_key(status) for status in shown if status}

    @property
    def is_cancelled(self) -> bool:
        """Whether the parcel was cancelled, voided or refunded, by any field that says so.

        The alert *Cancelled* is not one: the carrier ended the tracking, and the parcel may arrive.
        """
        if _any_field_says_cancelled(self, except_in=_CARRIER_FIELDS):
            return True
        alert = status_key(self.exception_status or "")
        return says_cancelled(self.current_status) and not says_cancelled(alert)

    @property
    def has_shipped(self) -> bool:
        """Whether the parcel was handed to a carrier, with any manual status."""
        return self.was_handed_over or bool(self.carrier_statuses)

    @property
    def was_handed_over(self) -> bool:
        """Whether the shop fulfilled the parcel, by its fulfillment status or tracking number."""
        fulfilled = status_key(self.fulfillment_status or "") in _SHIPPED_FULFILLMENTS
        return (fulfilled or bool(self.tracking_number)) and not self.is_cancelled

    @property
    def carrier_statuses(self) -> set[str]:
        """The statuses of the parcel, past and present, that only carriers report."""
        if self.is_cancelled:
            return set()
        steps = [step for step in self.status if step.datetime]
        latest = [self.latest_status] if self.latest_status else []
        return {self.current_status, *self._keys_of([*steps, *latest])} & CARRIER_STATUSES

    @property
    def status_keys(self) -> set[str]:
        """The keys of all its statuses: its own, and those of its steps."""
        own = {status_key(self.shipment_status)} if self.shipment_status else set()
        return own | self._keys_of(self.all_steps)

    @staticmethod
    def _keys_of(steps: Iterable[TrackingStatus]) -> set[str]:
        return {status_key(name) for step in steps for name in (step.key, step.label) if name}

    @property
    def current_status(self) -> str:
        """The key of the status that the parcel is in; empty if it has none."""
        return status_key(self.shown_status or "")

    @property
    def shown_status(self) -> str | None:
        """The status that the parcel is in, as Tracktor writes it; `None` if it has none.

        The latest step's status counts if the parcel itself has none, or if it is the delivery.
        """
        if self.is_delivered:
            return str(ShipmentStatus.DELIVERED)
        latest = self.latest_status
        return self.shipment_status or ((latest.key or latest.label) if latest else None)

    @property
    def reached_at(self) -> dt.datetime | None:
        """When the parcel got into its current status; `None` if that is not known."""
        return self.last_reached(self.current_status)

    @property
    def last_news_at(self) -> dt.datetime | None:
        """The time of the parcel's latest step, whichever it is; `None` if no step has a time."""
        return max((step.datetime for step in self.all_steps if step.datetime), default=None)

    @property
    def all_steps(self) -> list[TrackingStatus]:
        """The steps of its tracking, and the latest one, which may be among them."""
        return [*self.status, *([self.latest_status] if self.latest_status else [])]

    def last_reached(self, status: str) -> dt.datetime | None:
        """When the parcel last got into a status, in any spelling; `None` if it is not known."""
        return max(self.times_of({status_key(status)}), default=None)

    @property
    def moved_at(self) -> dt.datetime | None:
        """When the carrier first reported a step; `None` if no such step has a time."""
        return min(self.times_of(CARRIER_STATUSES), default=None)

    def times_of(self, statuses: Collection[str]) -> Iterator[dt.datetime]:
        """Yield each known time at which the parcel got into one of these statuses."""
        for step in self.all_steps:
            if step.datetime and not self._keys_of([step]).isdisjoint(statuses):
                yield step.datetime


# fields about the tracking, not about the shop's actions
_CARRIER_FIELDS = frozenset({"shipment_status", "exception_status", "latest_status", "status"})


def _fulfillments_of(value: Any) -> Any:
    # a single one may be given without a list
    single = isinstance(value, dict) and "fulfillment_id" in value
    return [value] if single else parse_list(value)


def _each_once(parcels: "tuple[Fulfillment, ...]") -> "tuple[Fulfillment, ...]":
    if len({parcel.fulfillment_id for parcel in parcels}) == len(parcels):
        return parcels
    return tuple(parcel for n, parcel in enumerate(parcels) if parcel not in parcels[:n])


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """Facts about an order from its source, beside its id. Each may be unknown.

    `ShopifyOrders` provides all of them, an export those of its columns. Statuses are keys, such as
    `partially_refunded`; the country has two letters; a locale is like `en` or `pt-BR`.

    Example:
        >>> OrderFacts(financial_status="refunded").is_cancelled
        True
    """

    created_at: dt.datetime | None = None
    cancelled: bool | None = None
    financial_status: str | None = None
    fulfillment_status: str | None = None
    country: str | None = None
    shipping_method: str | None = None
    tags: frozenset[str] = field(default=frozenset(), repr=False)
    locale: str | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the order is known to be cancelled, voided or refunded in full."""
        return bool(self.cancelled) or says_cancelled(self.financial_status or "")

    def __or__(self, others: "OrderFacts") -> "OrderFacts":
        """These facts, with unknown ones taken from the others."""
        facts = {fact.name: getattr(self, fact.name) for fact in fields(self)}
        known = {name: fact for name, fact in facts.items() if fact not in (None, frozenset())}
        return replace(others, **known)


NO_FACTS = OrderFacts()

_LONGEST_FACT = 255
_COUNTRY = re.compile(r"[A-Za-z]{2}")
# the word of exports and Shopify's REST API
_FULFILLMENT_WORDS = {"partial": "partially_fulfilled"}


def read_fact(name: str, value: Any) -> Any:
    """Read one of the `OrderFacts` from a source's value; `None` if it cannot be read."""
    text = value.strip() if isinstance(value, str) and len(value) <= _LONGEST_FACT else ""
    match name:
        case "created_at":
            with suppress(ValueError):
                return parse_time(value)
            return None
        case "tags":
            tags = value.split(",") if isinstance(value, str) else value
            tags = tags if isinstance(tags, list) else []
            return frozenset(tag.strip() for tag in tags if isinstance(tag, str) and tag.strip())
        case "country":
            return text.upper() if _COUNTRY.fullmatch(text) else None
        case "financial_status" | "fulfillment_status":
            return _FULFILLMENT_WORDS.get(status_key(text), status_key(text)) or None
    return text or None


class Order(LenientModel):
    """An order with its customer and its parcels [doc].

    `total_price` includes taxes and shipping, in the shop's currency. `days_since_ordered` counts
    from the order to its delivery.

    Example:
        >>> order = Order.model_validate({"order_id": "1001", "total_price": "59.90"})
        >>> order.order_id, order.total_price
        (1001, Decimal('59.90'))
    """

    _shown = frozenset({"order_id", "order_name", "statuses"})

    order_id: RequiredId
    order_name: Text = None
    order_email: Text = None
    order_phone: Text = None
    order_source_name: Text = None
    order_created_at: Time = None
    customer_first_name: Text = None
    customer_last_name: Text = None
    customer_full_name: Text = None
    total_price: Price = None
    line_item_count: Count = None
    statuses: Annotated[tuple[OpenShipmentStatus, ...], BeforeValidator(parse_statuses)] = ()
    exception_statuses: Annotated[
        tuple[OpenExceptionStatus, ...], BeforeValidator(_exceptions_of)
    ] = ()
    days_since_ordered: Count = None
    automatic_carrier_updates: Flag = None
    fulfillments: Annotated[
        tuple[Fulfillment, ...], BeforeValidator(_fulfillments_of), AfterValidator(_each_once)
    ] = ()

    _facts: OrderFacts = PrivateAttr(default_factory=lambda: NO_FACTS)

    @property
    def facts(self) -> OrderFacts:
        """The facts from the order's source; not part of Tracktor's response or of dumps."""
        return self._facts

    def with_facts(self, facts: OrderFacts) -> Self:
        """Return the same order with the facts from its source."""
        order = self.model_copy()
        order._facts = facts  # noqa: SLF001 - our own, of another instance
        return order

    @property
    def status_keys(self) -> list[str]:
        """The keys of the order's own statuses, one per parcel."""
        return [status_key(status) for status in self.statuses]

    @property
    def is_delivered(self) -> bool:
        """Whether the whole order has arrived, by its parcels or by its own statuses."""
        if self._delivered_beyond_parcels:
            return set(self.status_keys) == {ShipmentStatus.DELIVERED}
        return bool(self.fulfillments) and all(p.is_delivered for p in self.fulfillments)

    @property
    def is_partly_delivered(self) -> bool:
        """Whether anything of the order has arrived, by a parcel or by its own statuses."""
        arrived = any(parcel.is_delivered for parcel in self.fulfillments)
        return arrived or ShipmentStatus.DELIVERED in self.status_keys

    @property
    def contradicts_its_parcels(self) -> bool:
        """Whether the order names more deliveries than its parcels do, but is not delivered.

        It is unknown then which parcels arrived.
        """
        return self._delivered_beyond_parcels and not self.is_delivered

    @property
    def _delivered_beyond_parcels(self) -> bool:
        named = self.status_keys.count(ShipmentStatus.DELIVERED)
        return named > sum(parcel.is_delivered for parcel in self.fulfillments)

    @property
    def is_cancelled(self) -> bool:
        """Whether the order was cancelled, voided or refunded in full.

        Any field of the response may say so, or the facts from the order's source.
        """
        parcels = self.fulfillments
        return (
            self.facts.is_cancelled
            or _any_field_says_cancelled(self, except_in={"exception_statuses"})
            or (bool(parcels) and all(parcel.is_cancelled for parcel in parcels))
        )

    def has_cancelled(self, parcel: Fulfillment) -> bool:
        """Whether a parcel of the order will not come, as it or the order was cancelled."""
        return parcel.is_cancelled or self.is_cancelled

    @property
    def has_shipped(self) -> bool:
        """Whether anything of the order was handed to a carrier."""
        return self.was_handed_over or bool(self.carrier_statuses)

    @property
    def was_handed_over(self) -> bool:
        """Whether the shop fulfilled any of the order."""
        fulfilled = self._fulfillment_status in _SHIPPED_FULFILLMENTS
        return fulfilled or any(parcel.was_handed_over for parcel in self.fulfillments)

    @property
    def carrier_statuses(self) -> set[str]:
        """The statuses of the order and its parcels that only carriers report."""
        of_order = CARRIER_STATUSES & set(self.status_keys)
        return set(of_order).union(*(parcel.carrier_statuses for parcel in self.fulfillments))

    @property
    def names_all_items(self) -> bool:
        """Whether the parcels hold as many lines as were ordered, if that number is known."""
        # the items of a cancelled parcel are to be sent again
        parcels = [parcel for parcel in self.fulfillments if not parcel.is_cancelled]
        items = [item for parcel in parcels for item in parcel.line_items]
        # several pieces of one line are still one line; another may be sent later
        lines = {item.id or place for place, item in enumerate(items)}
        return not self.line_item_count or len(lines) >= self.line_item_count

    @property
    def has_shipped_in_full(self) -> bool:
        """Whether every parcel was handed to a carrier, and no part is known to be missing."""
        parcels = [parcel for parcel in self.fulfillments if not parcel.is_cancelled]
        states = {status_key(parcel.fulfillment_status or "") for parcel in parcels}
        of_shop = self.facts.fulfillment_status
        if {self._fulfillment_status, of_shop, *states} & {"partial", "partially_fulfilled"}:
            return False
        # a line that is never sent, such as a gift card, is in no parcel: the shop knows
        if of_shop != "fulfilled" and not self.names_all_items:
            return False
        shipped = bool(parcels) and all(parcel.has_shipped for parcel in parcels)
        return shipped or self._fulfillment_status == "fulfilled"

    @property
    def _fulfillment_status(self) -> str:
        state = (self.model_extra or {}).get("fulfillment_status")
        return status_key(state) if isinstance(state, str) else ""

    @property
    def undelivered(self) -> tuple[Fulfillment, ...]:
        """The parcels that are still to arrive, by their own fields and by the order's."""
        if self.is_delivered:
            return ()
        return tuple(parcel for parcel in self.fulfillments if not parcel.is_delivered)

    @property
    def foreign_parcels(self) -> tuple[Fulfillment, ...]:
        """The parcels in the response that belong to another order."""
        return tuple(parcel for parcel in self.fulfillments if self._is_foreign(parcel))

    @property
    def contradictory_parcels(self) -> tuple[Fulfillment, ...]:
        """The parcels that the response lists several times, each time with other content."""
        counts = Counter(parcel.fulfillment_id for parcel in self.fulfillments)
        return tuple(p for p in self.fulfillments if counts[p.fulfillment_id] > 1)

    def _is_foreign(self, parcel: Fulfillment) -> bool:
        if parcel.order_id is not None:
            return parcel.order_id != self.order_id
        names = [status_key(name) for name in (parcel.order_name, self.order_name) if name]
        return len(set(names)) > 1


def _first_text(fields: dict[str, Any], names: Iterable[str]) -> str | None:
    texts = (fields.get(name) for name in names)
    return next((text for text in texts if isinstance(text, str) and text.strip()), None)


class StatusOption(TracktorModel):
    """A tracking status that the shop can set, built in or its own; shape [inferred].

    Example:
        >>> StatusOption.model_validate("Preparing your order").matches("preparing your ORDER")
        True
    """

    # the most reliable first
    KEY_FIELDS: ClassVar[tuple[str, ...]] = ("key", "value", "slug", "code", "handle", "status")
    LABEL_FIELDS: ClassVar[tuple[str, ...]] = (
        "label",
        "name",
        "title",
        "text",
        "display_name",
        "caption",
    )

    _shown = frozenset({"key", "label"})

    key: Text = None
    label: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _from_other_names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"label": value}
        if not isinstance(value, dict):
            return value
        key = _first_text(value, cls.KEY_FIELDS)
        label = _first_text(value, cls.LABEL_FIELDS) or key
        return value | {"key": key, "label": label}

    def matches(self, status: str) -> bool:
        """Whether `status` means this option, by label or by key, in any letter case and spelling.

        A built-in status is listed as "In transit" and shown by orders as "in_transit".
        """
        return status_key(status) in {status_key(name) for name in (self.key, self.label) if name}


class Webhook(TracktorModel):
    """A subscription: Tracktor posts to `address` whenever `topic` happens; shape [inferred].

    The id is a number or, as MongoDB makes it, text.

    Example:
        >>> Webhook.model_validate({"id": 3, "topic": "order/all", "url": "https://a.example"}).address
        'https://a.example'
    """

    _shown = frozenset({"id", "topic"})

    id: Annotated[WebhookId, BeforeValidator(parse_any_id)] = Field(
        validation_alias=AliasChoices("id", "webhook_id", "_id")
    )
    topic: OpenTopic
    address: str = Field(validation_alias=AliasChoices("address", "url"))
