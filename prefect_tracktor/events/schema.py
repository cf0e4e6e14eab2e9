"""What Tracktor's webhooks become in Prefect: names, resources, payloads, ids. No I/O.

| what happened | event | resource |
|---|---|---|
| parcel reached a status | `tracktor.fulfillment.<status>` | `tracktor.fulfillment.<id>` |
| order reached a status | `tracktor.order.<status>` | `tracktor.order.<id>` |
| parcel is in trouble | `tracktor.fulfillment.exception.<status>` | `tracktor.fulfillment.<id>` |

A status is written as `status_slug` gives it. Related are the order (role `order`) and the account
(role `shop`, `tracktor.shop.<account name>`). Payloads hold what a flow needs to decide, and no
customer's data: no name, e-mail address, phone or tracking number.

An event's id is derived from what it says, so that the same news always has the same id.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.events import Event
from pydantic_core import from_json

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.models import (
    Fulfillment,
    Order,
    ShipmentStatus,
    status_key,
)
from prefect_tracktor.validation import checked_id

# a parcel of which no status is known has not been handed over yet [inferred]
NO_STATUS = "pre_transit"
UNSPEAKABLE_STATUS = "custom"
# from the least to the most advanced; a shop's own statuses come before all of these [inferred]
KNOWN_STATUSES = (NO_STATUS, *map(str, ShipmentStatus))
SLUG_LENGTH = 60
LINE_LENGTH = 200
STATUSES_SHOWN = 50
ID_DIGITS = 19

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# nothing was tracked before; such a time is a mistake, and there are servers that fail on it
_FIRST_TIME = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_NAMESPACE = uuid5(NAMESPACE_URL, "https://www.theshoppad.com/apps/tracktor")


class Kind(StrEnum):
    """What a delivery can be about.

    Example:
        >>> Kind("order") is Kind.ORDER
        True
    """

    FULFILLMENT = "fulfillment"
    ORDER = "order"


@dataclass(frozen=True, order=True, slots=True)
class Subject:
    """What a delivery or an event is about: one parcel or one order.

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
    """The `prefect.resource.id` of an account.

    Args:
        account: The account's name, as its credentials give it.

    Returns:
        The id.

    Example:
        >>> shop_resource_id("b6ef35fe18ed39251365")
        'tracktor.shop.b6ef35fe18ed39251365'
    """
    return f"tracktor.shop.{account}"


def status_slug(status: str | None) -> str:
    """How a status is written in the name of an event.

    Args:
        status: A shipment or exception status as the API gives it, or a custom status's label.

    Returns:
        Its letters and digits, of any script, in lower case, with one underscore for whatever is
        between them. No status is `pre_transit` [inferred], and one without letters `custom`.

    Example:
        >>> [status_slug(status) for status in ("in_transit", "Gravur läuft!", None)]
        ['in_transit', 'gravur_läuft', 'pre_transit']
    """
    if not status:
        return NO_STATUS
    return status_key(str(status)[:SLUG_LENGTH]) or UNSPEAKABLE_STATUS


def event_name(kind: Kind, status: str | None) -> str:
    """The name of the event that a parcel or an order reached a status.

    Args:
        kind: Parcel or order.
        status: The status, as the API gives it or as people say it; `*` for all in a trigger.

    Returns:
        The name.

    Example:
        >>> event_name(Kind.FULFILLMENT, "Out for delivery")
        'tracktor.fulfillment.out_for_delivery'
    """
    return f"tracktor.{kind}.{'*' if status == '*' else status_slug(status)}"


def exception_event_name(exception_status: str) -> str:
    """Return the name of the event for an exception.

    Args:
        exception_status: Such as `expired`; `*` for all in a trigger.

    Returns:
        The name.

    Example:
        >>> exception_event_name("expired")
        'tracktor.fulfillment.exception.expired'
    """
    status = exception_status if exception_status == "*" else status_slug(exception_status)
    return f"tracktor.{Kind.FULFILLMENT}.exception.{status}"


def read_delivery(body: bytes) -> Subject:
    """Read what a webhook's message is about. Nothing else in it is believed."""
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
    """The id, of which the API may make a string, but nothing else."""
    name = f"{kind}_id"
    value = fields.get(name)
    if isinstance(value, str) and len(value) <= ID_DIGITS and _is_digits(value):
        value = int(value)
    try:
        return checked_id(value, field=name)
    except InvalidInput:
        raise InvalidInput(f"the body has no usable {name}") from None


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def fulfillment_event(parcel: Fulfillment, *, account: str, received: dt.datetime) -> Event:
    """The event that a parcel reached the status that it has.

    Args:
        parcel: The parcel as the API knows it.
        account: The account's name, as its credentials give it.
        received: When the news came, aware: the event did not occur later, whatever clocks say,
            and occurred then if it is not known when the status was reached.

    Returns:
        The event, with the same id for the same parcel, status and time of the status.

    Example:
        >>> parcel = Fulfillment(fulfillment_id=7, order_id=1001, shipment_status="delivered")
        >>> now = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
        >>> fulfillment_event(parcel, account="b6ef35fe18ed39251365", received=now).event
        'tracktor.fulfillment.delivered'
    """
    status = parcel.shown_status
    reached = parcel.last_reached(status or NO_STATUS) or _latest_time(parcel)
    return _event(
        event_name(Kind.FULFILLMENT, status),
        Subject(Kind.FULFILLMENT, parcel.fulfillment_id),
        account=account,
        reached=reached,
        received=received,
        name=_parcel_name(parcel),
        order=_order_of(parcel),
        payload=_parcel_payload(parcel),
    )


def exception_event(parcel: Fulfillment, *, account: str, received: dt.datetime) -> Event:
    """Return the event for a parcel's exception, which a scan found; there is no webhook for it.

    Args:
        parcel: The parcel as the API knows it, with its exception status.
        account: The account's name, as its credentials give it.
        received: When it was found, with a time zone. The API does not say when it began.

    Returns:
        The event, with the same id for the same parcel, exception status and latest step.

    Raises:
        InvalidInput: The parcel has no exception.

    Example:
        >>> parcel = Fulfillment(fulfillment_id=7, exception_status="expired")
        >>> now = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
        >>> exception_event(parcel, account="b6ef35fe18ed39251365", received=now).event
        'tracktor.fulfillment.exception.expired'
    """
    if not parcel.exception_status:
        raise InvalidInput(f"fulfillment {parcel.fulfillment_id} has no exception_status")
    name = exception_event_name(parcel.exception_status)
    subject = Subject(Kind.FULFILLMENT, parcel.fulfillment_id)
    found = _event(
        name,
        subject,
        account=account,
        reached=None,
        received=received,
        name=_parcel_name(parcel),
        order=_order_of(parcel),
        payload=_parcel_payload(parcel),
    )
    found.id = _event_id(name, subject, account, _latest_time(parcel))
    return found


def order_event(order: Order, *, account: str, received: dt.datetime) -> Event:
    """The event that an order reached the status that it has.

    An order of several parcels has the status of the least advanced of them: it is delivered when
    all are, and it reached a status when the last parcel did. A shop's own statuses count as less
    advanced than the built-in ones [inferred].

    Args:
        order: The order as the API knows it.
        account: The account's name, as its credentials give it.
        received: When the news came; see `fulfillment_event`.

    Returns:
        The event, with the same id for the same order, status and time of the status.

    Example:
        >>> order = Order(order_id=1001, statuses=["delivered", "in_transit"])
        >>> now = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
        >>> order_event(order, account="b6ef35fe18ed39251365", received=now).event
        'tracktor.order.in_transit'
    """
    status = least_advanced([str(status) for status in order.statuses])
    times = [parcel.last_reached(status or NO_STATUS) for parcel in order.fulfillments]
    return _event(
        event_name(Kind.ORDER, status),
        Subject(Kind.ORDER, order.order_id),
        account=account,
        reached=max(filter(None, times), default=None),
        received=received,
        name=_line(order.order_name),
        order=None,
        payload={
            "order_id": order.order_id,
            "order_name": _line(order.order_name),
            "shipment_status": _line(status),
            "statuses": _lines(order.statuses),
            "exception_statuses": _lines(order.exception_statuses),
        },
    )


def least_advanced(statuses: Sequence[str]) -> str | None:
    """The status of an order by those of its parcels."""
    own = [status for status in statuses if status not in KNOWN_STATUSES]
    return next(iter([*own, *(known for known in KNOWN_STATUSES if known in statuses)]), None)


def _event(
    event: str,
    subject: Subject,
    *,
    account: str,
    reached: dt.datetime | None,
    received: dt.datetime,
    name: str | None,
    order: dict[str, str] | None,
    payload: dict[str, Any],
) -> Event:
    resource = {"prefect.resource.id": subject.resource_id}
    shop = {
        "prefect.resource.id": shop_resource_id(account),
        "prefect.resource.role": "shop",
    }
    return Event.model_validate(
        {
            "id": _event_id(event, subject, account, reached),
            "event": event,
            "occurred": reached if reached and _FIRST_TIME < reached < received else received,
            "resource": resource | {"prefect.resource.name": name or subject.resource_id},
            "related": [*([order] if order else []), shop],
            "payload": payload,
        }
    )


def _event_id(event: str, subject: Subject, account: str, time: dt.datetime | None) -> UUID:
    moment = str((time - _EPOCH) // dt.timedelta(microseconds=1)) if time else ""
    return uuid5(_NAMESPACE, "\n".join((account, event, str(subject.id), moment)))


def _latest_time(parcel: Fulfillment) -> dt.datetime | None:
    return parcel.latest_status.datetime if parcel.latest_status else None


def _parcel_name(parcel: Fulfillment) -> str | None:
    order = _line(parcel.order_name)
    return f"{order}, parcel {parcel.fulfillment_id}" if order else None


def _order_of(parcel: Fulfillment) -> dict[str, str] | None:
    if not parcel.order_id:
        return None
    resource_id = Subject(Kind.ORDER, parcel.order_id).resource_id
    return {
        "prefect.resource.id": resource_id,
        "prefect.resource.role": "order",
        "prefect.resource.name": _line(parcel.order_name) or resource_id,
    }


def _parcel_payload(parcel: Fulfillment) -> dict[str, Any]:
    return {
        "order_id": parcel.order_id,
        "fulfillment_id": parcel.fulfillment_id,
        "order_name": _line(parcel.order_name),
        "shipment_status": _line(parcel.shown_status) or NO_STATUS,
        "exception_status": _line(parcel.exception_status),
        "carrier": _line(parcel.carrier.slug) if parcel.carrier else None,
    }


def _line(text: str | None) -> str | None:
    """Somebody else's words on one line: there are databases that take no control characters."""
    if not text:
        return None
    printable = "".join(c if c.isprintable() else " " for c in str(text)[:LINE_LENGTH])
    return " ".join(printable.split()) or None


def _lines(texts: Iterable[str]) -> list[str | None]:
    return [_line(text) for text in list(texts)[:STATUSES_SHOWN]]
