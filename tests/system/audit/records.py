"""Records that the audit compares: notices received, notices due, digests and runs."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from prefect_tracktor.sandbox.mail import ReceivedMessage
from tests.support.digests import new_in
from tests.support.http_service import Posted

WHOLE_ORDER = 0


class Notice(NamedTuple):
    """The subject of a notice: the rule, the order or parcel, and the condition."""

    rule: str
    order_id: int
    parcel: int
    about: str


@dataclass(frozen=True)
class ReceivedNotice:
    """A notice as received, with the number of its message."""

    notice: Notice
    at: datetime
    message: int
    to: str = ""


class Span(NamedTuple):
    """A period of time; an open end is in the year 9999."""

    begin: datetime
    end: datetime


@dataclass(frozen=True)
class Due:
    """A notice, and the periods in which it may be sent."""

    notice: Notice
    spans: tuple[Span, ...]
    times: int = 1
    every: timedelta = timedelta(0)


class Digest(NamedTuple):
    """The orders that a digest to the team marks as new."""

    at: datetime
    new: frozenset[int]


@dataclass(frozen=True)
class Run:
    """A run: its orders and rules, and the orders that it reported as left."""

    name: str
    begin: datetime
    end: datetime
    rules: frozenset[str]
    orders: frozenset[int]
    left: frozenset[int] = frozenset()
    failed: bool = False
    sends_digest: bool = False

    def must_have_sent(self, notice: Notice) -> bool:
        """Whether the run was responsible for a notice, and reported no problem with it."""
        asked = notice.rule in self.rules and notice.order_id in self.orders
        return asked and not self.failed and notice.order_id not in self.left


# the texts of emails and requests, in a form that the audit can parse
_PARCELS = (
    '[{% for p in fulfillments %}["{{ p.fulfillment_id }}", "{{ p.shipment_status }}",'
    ' "{{ p.exception_status or "" }}"]{{ "," if not loop.last }}{% endfor %}]'
)
_CONDITIONS = (
    '[{% for c in conditions %}[{{ c.parcel.fulfillment_id if c.parcel else 0 }}, "{{ c.name }}"]'
    '{{ "," if not loop.last }}{% endfor %}]'
)
_OF_ORDERS = {"whole": "delivered", "waiting": "not_shipped"}


_SHOWN = '[{% for s in order.statuses %}"{{ s }}"{{ "," if not loop.last }}{% endfor %}]'


def mail_of(rule: str) -> str:
    """Return the template of a rule's emails."""
    order = f'"order": {{{{ order.order_id }}}}, "shows": {_SHOWN}'
    return f'{{"rule": "{rule}", {order}, "parcels": {_PARCELS}}}'


def post_of(rule: str) -> str:
    """Return the template of a rule's requests."""
    return f'{{"rule": "{rule}", "order": {{{{ order.order_id }}}}, "conditions": {_CONDITIONS}}}'


def notices_by_mail(messages: Iterable[ReceivedMessage]) -> Iterator[ReceivedNotice]:
    """Yield the notices in the mail server's messages, in order."""
    for number, received in enumerate(messages):
        part = received.message.get_body(("plain",))
        words = part.get_content() if part else ""
        if words.startswith('{"rule"'):
            [recipient] = received.recipients
            for notice in _notices_in(**json.loads(words)):
                yield ReceivedNotice(notice, received.at, number, recipient)


def _notices_in(
    rule: str, order: int, shows: list[str], parcels: list[tuple[str, str, str]]
) -> Iterator[Notice]:
    if rule in _OF_ORDERS:
        yield Notice(rule, order, WHOLE_ORDER, _OF_ORDERS[rule])
    elif rule == "made":
        yield Notice(rule, order, WHOLE_ORDER, shows[0])
    for parcel, status, exception in parcels if rule not in {*_OF_ORDERS, "made"} else ():
        about = {"late": "stalled", "lost": exception}.get(rule, status)
        yield Notice(rule, order, int(parcel), about)


def digests(messages: Iterable[ReceivedMessage]) -> Iterator[Digest]:
    """Yield the digests that the team received."""
    for received in messages:
        if any(received.message.iter_attachments()):
            yield Digest(received.at, frozenset(new_in(received)))


def notices_by_post(posted: Iterable[Posted]) -> Iterator[ReceivedNotice]:
    """Yield the notices in the requests that the service accepted, in order."""
    for number, request in enumerate(posted):
        words = request.json
        for parcel, condition in words["conditions"]:
            about = condition.partition(":")[2]
            yield ReceivedNotice(
                Notice(words["rule"], words["order"], parcel, about), request.at, -1 - number
            )
