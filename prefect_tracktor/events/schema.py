"""Event schema: names, resources, payloads and ids of tracking events.

| reason | event | resource |
|---|---|---|
| a parcel reached a status | `tracktor.fulfillment.<status>` | `tracktor.fulfillment.<id>` |
| an order reached a status | `tracktor.order.<status>` | `tracktor.order.<id>` |
| it has an exception | `tracktor.fulfillment.exception.<status>` | `tracktor.fulfillment.<id>` |
| it is delayed | `tracktor.fulfillment.delay.<condition>` | `tracktor.fulfillment.<id>` |
| nothing of it was shipped | `tracktor.order.delay.not_shipped` | `tracktor.order.<id>` |

`status_slug` returns a status in the form of event names. Related resources are the order (role
`order`) and the account (role `shop`, `tracktor.shop.<account name>`). Payloads contain what flows
and readers of notifications need, such as the order's page in the Shopify admin. They contain no
customer data: no name, email address, phone or tracking number.

The id is derived from the content, so that a repeated delivery gives an event with the same id.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from prefect.events import Event
from pydantic_core import from_json

from prefect_tracktor.conditions import Condition
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.models import Fulfillment, Order, ShipmentStatus, exception_label, status_key
from prefect_tracktor.parsing import parse_id
from prefect_tracktor.reporting.markdown import admin_url, carrier_of, shop_of
from prefect_tracktor.reporting.words import label_of
from prefect_tracktor.thresholds import Delay

# the status of a parcel without one: the carrier does not have it yet [inferred]
NO_STATUS = "pre_transit"
UNNAMED_STATUS = "custom"
# from the least to the most advanced; a shop's own statuses come before all of these [inferred]
KNOWN_STATUSES = (NO_STATUS, *map(str, ShipmentStatus))
SLUG_LENGTH = 60
LINE_LENGTH = 200
STATUSES_SHOWN = 50

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# an earlier time is a mistake, and makes some servers fail
_FIRST_TIME = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_NAMESPACE = uuid5(NAMESPACE_URL, "https://www.theshoppad.com/apps/tracktor")


class Kind(StrEnum):
    """The kind of resource: a parcel or an order.

    Example:
        >>> Kind("order") is Kind.ORDER
        True
    """

    FULFILLMENT = "fulfillment"
    ORDER = "order"


@dataclass(frozen=True, order=True, slots=True)
class Subject:
    """The subject of a delivery or an event: one parcel or one order.

    Attributes:
        kind: Parcel or order.
        id: Its Shopify id.

    Example:
        >>> Subject(Kind.ORDER, 1001).resource_id
        'tracktor.order.1001'
    """

    kind: Kind
    id: int

    @property
    def resource_id(self) -> str:
        """Its `prefect.resource.id`."""
        return f"tracktor.{self.kind}.{self.id}"


def shop_resource_id(account: str) -> str:
    """Return the `prefect.resource.id` of an account, whose name its credentials give.

    Example:
        >>> shop_resource_id("b6ef35fe18ed39251365")
        'tracktor.shop.b6ef35fe18ed39251365'
    """
    return f"tracktor.shop.{account}"


def status_slug(status: str | None) -> str:
    """Return a status, as the API gives it or by its label, in the form that event names use.

    The form has the status's letters and digits, of any script, in lower case, with one underscore
    between words, 60 characters at most. It is `pre_transit` [inferred] without a status, and
    `custom` for one without letters.

    Example:
        >>> [status_slug(status) for status in ("in_transit", "Gravur läuft!", None)]
        ['in_transit', 'gravur_läuft', 'pre_transit']
    """
    if not status:
        return NO_STATUS
    # shortened last, so that a status and its key have one name
    return status_key(status[:LINE_LENGTH])[:SLUG_LENGTH].strip("_") or UNNAMED_STATUS


def event_name(kind: Kind, status: str | None) -> str:
    """Return the name of the event for a status of a parcel or an order; `*` matches all.

    Example:
        >>> event_name(Kind.FULFILLMENT, "Out for delivery")
        'tracktor.fulfillment.out_for_delivery'
    """
    return f"tracktor.{kind}.{'*' if status == '*' else status_slug(status)}"


def condition_event_name(condition: str) -> str:
    """Return the name of the event for an exception or a delay; `exception:all` matches all.

    Raises:
        InvalidInput: It is neither.

    Example:
        >>> condition_event_name("exception:expired"), condition_event_name("not_shipped")
        ('tracktor.fulfillment.exception.expired', 'tracktor.order.delay.not_shipped')
    """
    kind, _, key = condition.partition(":")
    if kind == "exception" and key:
        return f"tracktor.{Kind.FULFILLMENT}.exception.{'*' if key == 'all' else status_slug(key)}"
    if condition not in set(Delay):
        raise InvalidInput(
            f"{condition!r} is neither a delay nor an exception; use exception:expired, or one of"
            f" {', '.join(Delay)}"
        )
    subject = Kind.ORDER if condition == Delay.NOT_SHIPPED else Kind.FULFILLMENT
    return f"tracktor.{subject}.delay.{condition}"


def read_delivery(body: bytes) -> Subject:
    """Return the subject of a delivery; its other content is not used."""
    try:
        message = from_json(body)
    except ValueError:
        raise InvalidInput("the body is not JSON, or is nested too deeply") from None
    if not isinstance(message, dict):
        raise InvalidInput("the body is not a JSON object")
    for kind in Kind:
        inner = message.get(kind)
        if isinstance(inner, dict):
            return Subject(kind, _id_in(inner, kind))
    kind = Kind.FULFILLMENT if "fulfillment_id" in message else Kind.ORDER
    return Subject(kind, _id_in(message, kind))


def _id_in(fields: dict[str, Any], kind: Kind) -> int:
    with suppress(ValueError):
        if number := parse_id(fields.get(f"{kind}_id")):
            return number
    raise InvalidInput(f"the body has no usable {kind}_id")


def fulfillment_event(parcel: Fulfillment, *, account: str, received: dt.datetime) -> Event:
    """Return the event for a parcel's present status, with one id for parcel, status and time.

    Args:
        parcel: The parcel as the API returns it.
        account: The account's name, as its credentials give it.
        received: When the delivery arrived, with a time zone. It becomes the event's time if the
            time of the status is unknown or later.

    Example:
        >>> parcel = Fulfillment(fulfillment_id=7, order_id=1001, shipment_status="delivered")
        >>> now = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
        >>> fulfillment_event(parcel, account="b6ef35fe18ed39251365", received=now).event
        'tracktor.fulfillment.delivered'
    """
    return _parcel_reached(parcel, parcel.shown_status, account, received)


def order_event(order: Order, *, account: str, received: dt.datetime) -> Event:
    """Return the event for an order's present status, as `fulfillment_event` for a parcel's.

    An order has the status of its least advanced parcel: it is delivered when all parcels are, and
    it reached a status when the last parcel did. Custom statuses count as less advanced than the
    built-in ones [inferred].

    Example:
        >>> order = Order(order_id=1001, statuses=["delivered", "in_transit"])
        >>> now = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
        >>> order_event(order, account="b6ef35fe18ed39251365", received=now).event
        'tracktor.order.in_transit'
    """
    return _order_reached(order, least_advanced(order.statuses), account, received)


def condition_event(
    order: Order, condition: Condition, *, account: str, received: dt.datetime
) -> Event:
    """Return the event for a condition that `conditions_of` finds of an order or its parcels.

    Its id is the same for the same parcel or order, condition and start of the condition. The API
    does not say when an exception began, so such an event occurs when it is found, and its id
    depends on the parcel's latest step.

    Example:
        >>> parcel = Fulfillment(fulfillment_id=7)
        >>> order = Order(order_id=1, fulfillments=[parcel])
        >>> now = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
        >>> condition_event(order, Condition("stalled", parcel), account="a", received=now).event
        'tracktor.fulfillment.delay.stalled'
    """
    parcel, since = condition.parcel, condition.since
    if condition.kind == "status":
        # an order may be delivered although its parcel is not, and may have several custom statuses
        written = [parcel.shown_status] if parcel else order.statuses
        status = next((s for s in written if s and status_key(s) == condition.key), condition.key)
        if parcel:
            return _parcel_reached(parcel, status, account, received)
        return _order_reached(order, status, account, received)
    event, occurred = condition_event_name(condition.name), _occurred(since, received)
    if parcel is None:
        about = _about_order(order, least_advanced(order.statuses))
    else:
        about = _about_parcel(parcel, parcel.shown_status)
        if condition.kind == "exception":
            since, occurred = _latest_time(parcel), received
    return _event(event, about, account, since=since, occurred=occurred)


def _parcel_reached(
    parcel: Fulfillment, status: str | None, account: str, received: dt.datetime
) -> Event:
    event, about = event_name(Kind.FULFILLMENT, status), _about_parcel(parcel, status)
    since = parcel.last_reached(status or NO_STATUS) or _latest_time(parcel)
    return _event(event, about, account, since=since, occurred=_occurred(since, received))


def _order_reached(order: Order, status: str | None, account: str, received: dt.datetime) -> Event:
    event, about = event_name(Kind.ORDER, status), _about_order(order, status)
    times = [parcel.last_reached(status or NO_STATUS) for parcel in order.fulfillments]
    since = max(filter(None, times), default=None)
    return _event(event, about, account, since=since, occurred=_occurred(since, received))


def least_advanced(statuses: Sequence[str]) -> str | None:
    """Return the status of an order with parcels of these statuses."""
    custom = [status for status in statuses if status not in KNOWN_STATUSES]
    return next(iter([*custom, *(known for known in KNOWN_STATUSES if known in statuses)]), None)


@dataclass(frozen=True, slots=True)
class _About:
    """The parts of an event that describe its parcel or order."""

    subject: Subject
    name: str | None
    payload: dict[str, Any]
    related: Sequence[dict[str, str]] = ()


def _about_order(order: Order, status: str | None) -> _About:
    return _About(
        Subject(Kind.ORDER, order.order_id),
        name=_line(order.order_name),
        payload={
            "order_id": order.order_id,
            "order_name": _line(order.order_name),
            **_readable(order.fulfillments, order.order_id, status),
            "shipment_status": _line(status),
            "statuses": _lines(order.statuses),
            "exception_statuses": _lines(order.exception_statuses),
        },
    )


def _about_parcel(parcel: Fulfillment, status: str | None) -> _About:
    order_name = _line(parcel.order_name)
    order_resource = Subject(Kind.ORDER, parcel.order_id).resource_id if parcel.order_id else ""
    order = {
        "prefect.resource.id": order_resource,
        "prefect.resource.role": "order",
        "prefect.resource.name": order_name or order_resource,
    }
    return _About(
        Subject(Kind.FULFILLMENT, parcel.fulfillment_id),
        name=f"{order_name}, parcel {parcel.fulfillment_id}" if order_name else None,
        related=[order] if order_resource else [],
        payload={
            "order_id": parcel.order_id,
            "fulfillment_id": parcel.fulfillment_id,
            "order_name": order_name,
            **_readable([parcel], parcel.order_id, status),
            "shipment_status": _line(status) or NO_STATUS,
            "exception_status": _line(parcel.exception_status),
            "exception_label": _line(exception_label(parcel.exception_status or "")),
            "carrier": _line(parcel.carrier.slug) if parcel.carrier else None,
            "carrier_name": _line(carrier_of(parcel)),
        },
    )


def _readable(
    parcels: Sequence[Fulfillment], order_id: int | None, status: str | None
) -> dict[str, str | None]:
    """Return the fields for readers: the shop, the status, the page in the Shopify admin."""
    shop = shop_of(parcels)
    return {
        "shop": _line(shop.removesuffix(".myshopify.com")),
        "status_label": _line(label_of(status or NO_STATUS)),
        "order_url": _line(admin_url(shop, order_id)),
    }


def _event(
    event: str, about: _About, account: str, *, since: dt.datetime | None, occurred: dt.datetime
) -> Event:
    """Make an event; its id depends on event, subject and `since`."""
    subject = about.subject
    shop = {"prefect.resource.id": shop_resource_id(account), "prefect.resource.role": "shop"}
    moment = str((since - _EPOCH) // dt.timedelta(microseconds=1)) if since else ""
    return Event.model_validate(
        {
            "id": uuid5(_NAMESPACE, "\n".join((account, event, str(subject.id), moment))),
            "event": event,
            "occurred": occurred,
            "resource": {
                "prefect.resource.id": subject.resource_id,
                "prefect.resource.name": about.name or subject.resource_id,
            },
            "related": [*about.related, shop],
            "payload": about.payload,
        }
    )


def _occurred(since: dt.datetime | None, received: dt.datetime) -> dt.datetime:
    return since if since and _FIRST_TIME < since < received else received


def _latest_time(parcel: Fulfillment) -> dt.datetime | None:
    return parcel.latest_status.datetime if parcel.latest_status else None


def _line(text: str | None) -> str | None:
    """Put text on one line, because some databases accept no control characters."""
    if not text:
        return None
    printable = "".join(c if c.isprintable() else " " for c in str(text)[:LINE_LENGTH])
    return " ".join(printable.split()) or None


def _lines(texts: Iterable[str]) -> list[str | None]:
    return [_line(text) for text in list(texts)[:STATUSES_SHOWN]]
