"""Notification rules: from the conditions of an order to the notices that are due; no I/O."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
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
    Condition,
    RequestedConditions,
    conditions_of,
    requested_conditions,
)
from prefect_tracktor.errors import InvalidResponse
from prefect_tracktor.forms import FORM
from prefect_tracktor.messages.channel import Content
from prefect_tracktor.messages.http_channel import HttpChannel
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.models import (
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

# rules whose notices are in the ledger, and go to no customer
TO_NO_CUSTOMER = frozenset({"event", "digest"})

# the statuses of a parcel, in the order in which it gets them
_STEPS = tuple(map(str, ShipmentStatus))


class NotificationRule(BaseModel):
    """A notice to send: conditions, the time after they begin, and a template or channel.

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
        per: parcel: a notice for each parcel. order: one notice, when all parcels meet the rule.
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
        requested_conditions(value)
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.template is not None and self.channel is not None:
            raise ValueError(
                "template: it is for emails, and this rule has a channel: write the text into the"
                " channel's body"
            )
        requested = self.requested
        if self.per == "order" and requested.exceptions.keys:
            raise ValueError(
                "per: an exception is about a parcel; write parcel, or name a status in when"
            )
        if self.per == "order" and (len(self.when) > 1 or requested.statuses.all):
            raise ValueError(
                "per: with per=order a rule has one condition: write one rule for each condition,"
                " or set per to parcel"
            )
        most = self.within_days or (_NEWS.days if requested.statuses.keys else None)
        # a daily run sends each of them up to a day late
        reminders = (self.times - 1) * (self.repeat_after_days + 1)
        if most is not None and self.times > 1 and reminders > most:
            raise ValueError(
                f"times: the last of {self.times} notices is sent after {reminders:g} days, and"
                f" within_days ends it after {most:g}: set within_days to more"
            )
        return self

    def window(self, condition: Condition) -> timedelta | None:
        """Return how long a notice about a condition may be sent; `None` for any time."""
        if self.within_days is not None:
            return timedelta(days=self.within_days)
        return _NEWS if condition.kind == "status" else None

    @property
    def requested(self) -> RequestedConditions:
        """The conditions in `when`."""
        return requested_conditions(self.when)


@dataclass(frozen=True, slots=True)
class Subject:
    """A parcel, or an order as a whole (fulfillment 0), and the reason to notify about it.

    The reason is a condition, or the rule's name and a condition; the ledger records it.
    """

    fulfillment_id: int
    reason: str
    parcels: tuple[Fulfillment, ...]

    @classmethod
    def of(cls, parcel: Fulfillment, reason: str) -> Self:
        return cls(parcel.fulfillment_id, reason, (parcel,))


@dataclass(frozen=True, slots=True)
class Notification:
    """The subjects of one message, with its content, and how often it may be sent."""

    content: Content
    subjects: Sequence[Subject]
    times: int = 1
    repeat_after: timedelta = timedelta(0)

    def content_about(self, subjects: Collection[tuple[int, str]]) -> Content:
        """Return the content with the conditions of these subjects, by fulfillment and reason."""
        pairs = zip(self.subjects, self.content.conditions, strict=True)
        kept = [
            one for subject, one in pairs if (subject.fulfillment_id, subject.reason) in subjects
        ]
        return replace(self.content, conditions=tuple(kept) or self.content.conditions)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An order with fields that contradict each other, so that its conditions are unknown."""

    reason: str


class Skipped(StrEnum):
    """A reason to send no notice about a condition, which reports show."""

    UNDATED = "undated"
    CANCELLED = "cancelled"


Choice = Notification | Skipped | Unreadable
Choose = Callable[[Order], Iterable[Choice]]


def chooser(
    rules: Sequence[NotificationRule],
    now: datetime,
    *,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    include_cancelled: bool = False,
) -> Choose:
    """Make a function that applies all rules to an order."""
    requested = [(rule, rule.requested) for rule in rules]

    def choose(order: Order) -> Iterator[Choice]:
        contradictions: list[str] = []
        for rule, conditions in requested:
            try:
                found = conditions_of(order, thresholds, now, requested=conditions)
            except InvalidResponse as contradiction:
                contradictions.append(str(contradiction))
                continue
            if found and _has_tag(rule, order):
                met = [*_of_order(order, found)] if rule.per == "order" else found
                active = [c for c in met if include_cancelled or not _is_cancelled(c)]
                if len(active) < len(met):
                    yield Skipped.CANCELLED
                yield from _notifications(rule, order, active, now)
        yield from map(Unreadable, dict.fromkeys(contradictions))

    return choose


def _has_tag(rule: NotificationRule, order: Order) -> bool:
    wanted = {tag.casefold() for tag in rule.tags}
    return not wanted or not wanted.isdisjoint(tag.casefold() for tag in order.facts.tags)


def channels_of(rules: Sequence[Any]) -> list[HttpChannel | None]:
    """Return the channels of rules, each once; `None` is email. Rules may be dictionaries."""
    channels: list[HttpChannel | None] = []
    for rule in _RULES.validate_python(rules):
        if rule.channel not in channels:  # blocks have no hash
            channels.append(rule.channel)
    return channels


_RULES = TypeAdapter(list[NotificationRule])


def one_parcel_each(choose: Choose) -> Choose:
    """Split notifications, so that each is about one condition of one parcel."""

    def split(order: Order) -> Iterator[Choice]:
        for choice in choose(order):
            if isinstance(choice, Notification):
                conditions = choice.content.conditions
                for subject, condition in zip(choice.subjects, conditions, strict=True):
                    content = replace(choice.content, conditions=(condition,))
                    yield replace(choice, subjects=[subject], content=content)
            else:
                yield choice

    return split


def _notifications(
    rule: NotificationRule, order: Order, met: Sequence[Condition], now: datetime
) -> Iterator[Notification | Skipped]:
    if any(_is_undated(rule, order, condition) for condition in met):
        yield Skipped.UNDATED
    # one message for all parcels with the same status, and one for all of an order's exceptions
    due: dict[str, list[Condition]] = {}
    for condition in met:
        if _is_due(rule, order, condition, now):
            topic = condition.name if condition.kind == "status" else condition.kind
            due.setdefault(topic, []).append(condition)
    for conditions in due.values():
        yield Notification(
            Content(rule.template or EmailTemplate(), tuple(conditions), rule.per == "order"),
            [_subject(rule, order, condition) for condition in conditions],
            rule.times,
            timedelta(days=rule.repeat_after_days),
        )


def _of_order(order: Order, met: Sequence[Condition]) -> Iterator[Condition]:
    """Yield one condition for the whole order, once all of its parcels meet the rule."""
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
    """Whether the order is cancelled, and the condition is not the cancellation itself."""
    return condition.cancelled and not (
        condition.kind == "status" and says_cancelled(condition.key)
    )


def _is_undated(rule: NotificationRule, order: Order, condition: Condition) -> bool:
    """Whether the rule needs the time when a condition began, and it is unknown."""
    if condition.since is not None:
        return False
    is_made_to_order = condition.kind == "status" and not order.fulfillments
    needs_window = rule.window(condition) is not None and not is_made_to_order
    return bool(rule.after_days) or needs_window


def _is_due(rule: NotificationRule, order: Order, condition: Condition, now: datetime) -> bool:
    """Whether a condition has lasted long enough, and not too long."""
    if condition.since is None:
        return not _is_undated(rule, order, condition)
    lasted = now - condition.since - timedelta(days=rule.after_days)
    window = rule.window(condition)
    return timedelta(0) <= lasted and (window is None or lasted <= window)


def _subject(rule: NotificationRule, order: Order, condition: Condition) -> Subject:
    is_ready_made = rule.name == condition.kind
    reason = condition.name if is_ready_made else f"{rule.name}:{condition.name}"
    if condition.parcel is None:
        awaited = [p for p in order.fulfillments if not order.has_cancelled(p)]
        return Subject(WHOLE_ORDER, reason, tuple(awaited or order.fulfillments))
    return Subject.of(condition.parcel, reason)


def is_later(other: str, reason: str) -> bool:
    """Whether a parcel's other reason comes after a reason, which is then not sent any more."""
    rule, kind, key = _parts(reason)
    other_rule, other_kind, other_key = _parts(other)
    if TO_NO_CUSTOMER & {rule, other_rule} or other_kind != "status" or other_key not in _STEPS:
        return False
    if kind == "status":
        return key in _STEPS and _STEPS.index(other_key) > _STEPS.index(key)
    return other_key == _STEPS[-1]


def kind_of(reason: str) -> str:
    """Return the kind of a reason's condition: a status, an exception or a delay."""
    return _parts(reason)[1]


def numbered(reason: str, number: int) -> str:
    """Return the ledger's reason for the n-th notice of the same kind."""
    return reason if number == 1 else f"{reason}#{number}"


def unnumbered(reason: str) -> str:
    """Return a reason without the number of a repeated notice."""
    base, mark, number = reason.rpartition("#")
    # the name of an exception may contain the mark
    return base if mark and number.isdecimal() else reason


def rule_of(reason: str) -> str:
    """Return the rule's name; for the ready-made emails, the kind of their condition."""
    return unnumbered(reason).partition(":")[0]


def _parts(reason: str) -> tuple[str, str, str]:
    """Split a reason into the rule's name, the kind of condition, and its key."""
    *before, last = unnumbered(reason).split(":")
    name, kind = (["", "", *before])[-2:]
    if kind in {"status", "exception"}:
        return name, kind, last
    return kind, last, ""
