"""Notification rules: from the conditions of an order to the notices that are due; no I/O."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)

from prefect_tracktor.conditions import (
    AskedConditions,
    Condition,
    Keys,
    asked_conditions,
    conditions_of,
)
from prefect_tracktor.errors import InvalidResponse
from prefect_tracktor.forms import FORM
from prefect_tracktor.messages.channel import Content
from prefect_tracktor.messages.http_channel import HttpChannel
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.models import (
    NEEDS_ATTENTION,
    Fulfillment,
    Order,
    ShipmentStatus,
    says_cancelled,
)
from prefect_tracktor.storage.ledger import WHOLE_ORDER
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds
from prefect_tracktor.validation import checked_tag

_NAME = r"^[a-z0-9]+([-_][a-z0-9]+)*$"
_MOST_DAYS = 3650
_NEWS = timedelta(days=3)

# whose notices the ledger keeps, and which no customer gets
TO_NO_CUSTOMER = frozenset({"event", "digest"})

# what a customer may be told of a parcel, in the order in which it happens
_STEPS = tuple(map(str, ShipmentStatus))


class NotificationRule(BaseModel):
    """Which notice to send, and when: a condition, a time, and a template.

    The ledger records notices under the rule's name: "delivered" today and "how was it?" three days
    later are two notices, each sent once. Under a new name each customer is notified again. The
    names `exception` and `status` are those of the ready-made email flows: a rule with another name
    about the same condition is a second email.

    Attributes:
        name: The ledger records notices under this name. If you change it, customers are notified
            again.
        when: Conditions, such as status:delivered, exception:expired, exception:all, stalled,
            in_transit_too_long, label_only, not_shipped.
        after_days: How long the condition must have lasted.
        within_days: A notice that was due longer ago is not sent any more. Without it: 3 days for a
            status, and any time for an exception or a delay.
        per: parcel: each parcel is news. order: once, when all parcels meet the rule.
        template: The email's template; without it the words for the condition.
        channel: Where the notice is posted to. Without it: an email.
        times: How often to send the notice while the condition lasts.
        repeat_after_days: How long after a notice the next one is sent, if it is sent several
            times.
        tags: Only orders with one of these tags in Shopify. Without any: all orders.

    Raises:
        pydantic.ValidationError: A value is invalid; the message names the field.

    Example:
        >>> rule = NotificationRule(name="how-was-it", when=["status:delivered"], after_days=3)
        >>> rule.per, rule.times
        ('parcel', 1)
    """

    model_config = FORM

    name: str = Field(pattern=_NAME, max_length=60)
    when: list[str]
    after_days: float = Field(default=0, ge=0, le=_MOST_DAYS)
    within_days: float | None = Field(default=None, gt=0, le=_MOST_DAYS)
    per: Literal["parcel", "order"] = "parcel"
    template: EmailTemplate | None = None
    channel: HttpChannel | None = None
    times: int = Field(default=1, ge=1, le=20)
    repeat_after_days: float = Field(default=7, gt=0, le=_MOST_DAYS)
    tags: frozenset[Annotated[str, AfterValidator(checked_tag)]] = frozenset()

    @field_validator("when")
    @classmethod
    def _conditions_are_known(cls, value: list[str]) -> list[str]:
        asked_conditions(value)
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.template is not None and self.channel is not None:
            raise ValueError(
                "template: it is for emails, and this rule has a channel; write its words into the"
                " channel's body"
            )
        asked = self.asked
        if self.per == "order" and asked.exceptions != Keys():
            raise ValueError(
                "per: an exception is about a parcel; write parcel, or name a status in when"
            )
        if self.per == "order" and (len(self.when) > 1 or asked.statuses.all):
            raise ValueError(
                "per: with per=order a rule has one condition: write one rule for each condition,"
                " or set per to parcel"
            )
        most = self.within_days or (3 if asked.statuses != Keys() else None)
        # a run a day sends each of them up to a day late
        reminders = (self.times - 1) * (self.repeat_after_days + 1)
        if most is not None and self.times > 1 and reminders > most:
            raise ValueError(
                f"times: the last of {self.times} notices is sent after {reminders:g} days, and"
                f" within_days ends it after {most:g}: set within_days to more"
            )
        return self

    def window(self, condition: Condition) -> timedelta | None:
        """For how long a notice about a condition may be sent; `None` for any time."""
        if self.within_days is not None:
            return timedelta(days=self.within_days)
        return _NEWS if condition.kind == "status" else None

    @property
    def asked(self) -> AskedConditions:
        """The conditions as they are asked for."""
        return asked_conditions(self.when)


@dataclass(frozen=True, slots=True)
class Reason:
    """What is told of a parcel, or of an order as a whole (fulfillment 0), and its parcels.

    The ledger remembers it by its words: a condition, or the rule's name and a condition.
    """

    fulfillment_id: int
    words: str
    parcels: tuple[Fulfillment, ...]

    @classmethod
    def of(cls, parcel: Fulfillment, words: str) -> Self:
        """About one parcel."""
        return cls(parcel.fulfillment_id, words, (parcel,))


@dataclass(frozen=True, slots=True)
class Notification:
    """What one message is about, and how often it may be told."""

    content: Any
    reasons: Sequence[Reason]
    times: int = 1
    repeat_after: timedelta = timedelta(0)

    def about(self, told: Collection[tuple[int, str]]) -> Any:
        """The content for some of the reasons, by fulfillment and words: only their conditions."""
        if not isinstance(self.content, Content):
            return self.content
        pairs = zip(self.reasons, self.content.conditions, strict=True)
        kept = [one for reason, one in pairs if (reason.fulfillment_id, reason.words) in told]
        return replace(self.content, conditions=tuple(kept) or self.content.conditions)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why nothing sure can be said about an order."""

    reason: str


class PassedOver(StrEnum):
    """Why a condition is not told, where people should know it."""

    UNDATED = "undated"
    CANCELLED = "cancelled"


Choose = Callable[[Order], Iterable[Notification | PassedOver | Unreadable]]


def chooser(
    rules: Sequence[NotificationRule],
    now: datetime,
    *,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    include_cancelled: bool = False,
) -> Choose:
    """Check all rules on an order."""
    every = asked_conditions([name for rule in rules for name in rule.when])
    asked = [(rule, rule.asked) for rule in rules]
    look = partial(conditions_of, thresholds=thresholds, now=now)

    def choose(order: Order) -> Iterator[Notification | PassedOver | Unreadable]:
        unsure: set[str] = set()
        for rule, found in _found(order, asked, every, look):
            if isinstance(found, Unreadable):
                if found.reason not in unsure:
                    yield found
                unsure.add(found.reason)
            elif found and _has_tag(rule, order):
                met = [*_of_order(order, found)] if rule.per == "order" else found
                open_ones = [c for c in met if include_cancelled or not _is_cancelled(c)]
                if len(open_ones) < len(met):
                    yield PassedOver.CANCELLED
                yield from _notifications(rule, order, open_ones, now)

    return choose


def _found(
    order: Order,
    rules: Sequence[tuple[NotificationRule, AskedConditions]],
    every: AskedConditions,
    look: Callable[..., Sequence[Condition]],
) -> Iterator[tuple[NotificationRule, Sequence[Condition] | Unreadable]]:
    """Each rule's conditions; what is unsure about one rule's keeps no other from its own."""
    # the vendor's label means either of two, and one rule's exceptions would tell another's which
    ambiguous = any(p.exception_status == NEEDS_ATTENTION for p in order.fulfillments)
    with suppress(InvalidResponse):
        if not ambiguous:
            found = look(order, asked=every)
            for rule, asked in rules:
                yield rule, [condition for condition in found if condition.name in asked]
            return
    for rule, asked in rules:
        try:
            yield rule, look(order, asked=asked)
        except InvalidResponse as unsure:
            yield rule, Unreadable(str(unsure))


def _has_tag(rule: NotificationRule, order: Order) -> bool:
    wanted = {tag.casefold() for tag in rule.tags}
    return not wanted or not wanted.isdisjoint(tag.casefold() for tag in order.facts.tags)


def channels_of(rules: Sequence[Any]) -> list[HttpChannel | None]:
    """The channels of rules, each once; `None` for email. Rules may be written as dictionaries."""
    channels: list[HttpChannel | None] = []
    for rule in _RULES.validate_python(rules):
        if rule.channel not in channels:  # blocks have no hash
            channels.append(rule.channel)
    return channels


_RULES = TypeAdapter(list[NotificationRule])


def one_parcel_each(choose: Choose) -> Choose:
    """Tell of each parcel by itself, and of each condition."""

    def alone(order: Order) -> Iterator[Notification | PassedOver | Unreadable]:
        for one in choose(order):
            if isinstance(one, Notification):
                for reason, condition in zip(one.reasons, one.content.conditions, strict=True):
                    content = replace(one.content, conditions=(condition,))
                    yield replace(one, reasons=[reason], content=content)
            else:
                yield one

    return alone


def _notifications(
    rule: NotificationRule, order: Order, met: Sequence[Condition], now: datetime
) -> Iterator[Notification | PassedOver]:
    if any(_is_undated(rule, order, condition) for condition in met):
        yield PassedOver.UNDATED
    # one message for all parcels with the same status; an order's exceptions are one news
    due: dict[str, list[Condition]] = {}
    for condition in met:
        if _is_due(rule, order, condition, now):
            news = condition.name if condition.kind == "status" else condition.kind
            due.setdefault(news, []).append(condition)
    for conditions in due.values():
        yield Notification(
            Content(rule.template or EmailTemplate(), tuple(conditions), rule.per == "order"),
            [_reason(rule, order, condition) for condition in conditions],
            rule.times,
            timedelta(days=rule.repeat_after_days),
        )


def _of_order(order: Order, met: Sequence[Condition]) -> Iterator[Condition]:
    """One condition for the whole order, once all of its parcels meet the rule."""
    whole = [condition for condition in met if condition.parcel is None]
    if whole:
        yield whole[0]
        return
    by_parcel = {c.parcel.fulfillment_id: c for c in met if c.parcel is not None}
    awaited = [p for p in order.fulfillments if not order.has_cancelled(p)]
    of_shop = order.facts.fulfillment_status
    is_whole = order.has_shipped_in_full and of_shop in (None, "fulfilled")
    if is_whole and all(parcel.fulfillment_id in by_parcel for parcel in awaited):
        times = [condition.since for condition in by_parcel.values()]
        known = [time for time in times if time is not None]
        last = max(known) if len(known) == len(times) else None
        yield Condition(met[0].name, None, last, cancelled=order.is_cancelled)


def _is_cancelled(condition: Condition) -> bool:
    """Whether nobody waits for it; a cancellation itself may be the news."""
    return condition.cancelled and not (
        condition.kind == "status" and says_cancelled(condition.key)
    )


def _is_undated(rule: NotificationRule, order: Order, condition: Condition) -> bool:
    """Whether it would have to be known since when a condition lasts, and is not."""
    if condition.since is not None:
        return False
    is_made_to_order = condition.kind == "status" and not order.fulfillments
    needs_window = rule.window(condition) is not None and not is_made_to_order
    return bool(rule.after_days) or needs_window


def _is_due(rule: NotificationRule, order: Order, condition: Condition, now: datetime) -> bool:
    """Whether it has lasted long enough, and is still news."""
    if condition.since is None:
        return not _is_undated(rule, order, condition)
    lasted = now - condition.since - timedelta(days=rule.after_days)
    window = rule.window(condition)
    return timedelta(0) <= lasted and (window is None or lasted <= window)


def _reason(rule: NotificationRule, order: Order, condition: Condition) -> Reason:
    words = condition.name
    if rule.name != condition.kind:
        words = f"{rule.name}:{words}"
    if condition.parcel is None:
        awaited = [p for p in order.fulfillments if not order.has_cancelled(p)]
        return Reason(WHOLE_ORDER, words, tuple(awaited or order.fulfillments))
    return Reason.of(condition.parcel, words)


def is_later(other: str, reason: str) -> bool:
    """Whether one thing that was told of a parcel happens after another; then it stays untold."""
    own, kind, key = _parts(reason)
    others, other_kind, other_key = _parts(other)
    if TO_NO_CUSTOMER & {own, others} or other_kind != "status" or other_key not in _STEPS:
        return False
    if kind == "status":
        return key in _STEPS and _STEPS.index(other_key) > _STEPS.index(key)
    return other_key == _STEPS[-1]


def kind_of(reason: str) -> str:
    """The kind of condition that was told: a status, an exception or a delay."""
    return _parts(reason)[1]


def step_of(reason: str) -> tuple[str, int]:
    """What is told again and again, and the how-manieth time it is."""
    words, mark, number = reason.rpartition("#")
    # an exception may be called by marks alone
    return (words, int(number)) if mark and number.isdecimal() else (reason, 1)


def rule_of(reason: str) -> str:
    """The name of the rule that told it; a condition's kind is one, too."""
    return step_of(reason)[0].partition(":")[0]


def nth(words: str, number: int) -> str:
    """What the ledger remembers the n-th time by."""
    return words if number == 1 else f"{words}#{number}"


def _parts(reason: str) -> tuple[str, str, str]:
    """Whose rule, the kind of condition, and its key."""
    words, _ = step_of(reason)
    *before, last = words.split(":")
    name, kind = (["", "", *before])[-2:]
    if kind in {"status", "exception"}:
        return name, kind, last
    return kind, last, ""
