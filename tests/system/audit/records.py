"""What the audit compares: who was told what and when, what was due, and what runs said."""

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
    """What is told at most so many times: by a rule, of a parcel or order, about a condition."""

    rule: str
    order_id: int
    parcel: int
    about: str


@dataclass(frozen=True)
class Told:
    """A notice as it came in, with the number of its message."""

    notice: Notice
    at: datetime
    message: int
    to: str = ""


class Span(NamedTuple):
    """A time; what has not ended ends in the year 9999."""

    begin: datetime
    end: datetime


@dataclass(frozen=True)
class Due:
    """A notice, and the times in which it is right to tell it."""

    notice: Notice
    spans: tuple[Span, ...]
    times: int = 1
    every: timedelta = timedelta(0)


class Digest(NamedTuple):
    """The orders that a digest of the team called new."""

    at: datetime
    new: frozenset[int]


@dataclass(frozen=True)
class Run:
    """A run: the orders that it had to look at, by which rules, and what it said is left."""

    name: str
    begin: datetime
    end: datetime
    rules: frozenset[str]
    orders: frozenset[int]
    left: frozenset[int] = frozenset()
    failed: bool = False
    team_is_told: bool = False

    def answers_for(self, notice: Notice) -> bool:
        """Whether a notice had to be told by then, as the run said nothing else."""
        asked = notice.rule in self.rules and notice.order_id in self.orders
        return asked and not self.failed and notice.order_id not in self.left


# what an email and a request say, for the audit to read
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
    """The text of a rule's emails."""
    order = f'"order": {{{{ order.order_id }}}}, "shows": {_SHOWN}'
    return f'{{"rule": "{rule}", {order}, "parcels": {_PARCELS}}}'


def post_of(rule: str) -> str:
    """The body of a rule's requests."""
    return f'{{"rule": "{rule}", "order": {{{{ order.order_id }}}}, "conditions": {_CONDITIONS}}}'


def told_by_mail(messages: Iterable[ReceivedMessage]) -> Iterator[Told]:
    """What customers got from the mail server, in its order."""
    for number, received in enumerate(messages):
        part = received.message.get_body(("plain",))
        words = part.get_content() if part else ""
        if words.startswith('{"rule"'):
            [recipient] = received.recipients
            for notice in _in_mail(**json.loads(words)):
                yield Told(notice, received.at, number, recipient)


def _in_mail(
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
    """What the team got."""
    for received in messages:
        if any(received.message.iter_attachments()):
            yield Digest(received.at, frozenset(new_in(received)))


def told_by_post(posted: Iterable[Posted]) -> Iterator[Told]:
    """What the service took, in its order."""
    for number, request in enumerate(posted):
        words = request.json
        for parcel, condition in words["conditions"]:
            about = condition.partition(":")[2]
            yield Told(
                Notice(words["rule"], words["order"], parcel, about), request.at, -1 - number
            )
