"""What must be written so that Tracktor agrees with the shop: compares, decides, and does no I/O.

A decision about an order is a `Change`, `Protected`, or `None` where it is right as it is. What a
change does to the order makes it right, so that a second run changes nothing.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.forms import in_order, title_of
from prefect_tracktor.models import (
    CARRIER_STATUSES,
    Order,
    OrderFacts,
    ShipmentStatus,
    StatusOption,
    status_key,
)
from prefect_tracktor.statuses.desired import DesiredStatus, option_for, options_meant
from prefect_tracktor.validation import checked_tag

HANDED_BACK = "back to the carrier"


@dataclass(frozen=True, slots=True)
class Change:
    """An order that is to be written."""

    update: DesiredStatus
    order_name: str
    old: str
    new: str

    @property
    def order_id(self) -> int:
        """The order's id."""
        return self.update.order_id


@dataclass(frozen=True, slots=True)
class Protected:
    """An order that differs from what is wanted, and is left alone."""

    order_id: int
    order_name: str
    old: str
    new: str
    reason: str


Decision = Change | Protected | None
Decide = Callable[[Order], Decision]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Decides what makes an order agree with the shop's own records."""

    desired: Mapping[int, DesiredStatus]
    options: Sequence[StatusOption]
    takeover: bool = False
    release_fulfilled: bool = False

    def __call__(self, order: Order) -> Decision:
        """Decide about one order that something is desired for."""
        desired = self.desired[order.order_id]
        left_to_us = desired.automatic_carrier_updates is None
        if self.release_fulfilled and left_to_us and is_fulfilled(order):
            # whatever status is wanted: it would be taken back by the next run
            return _released(order)
        option = option_for(desired.status, self.options) if desired.status else None
        update = _update(order, option, self.options, automatic=desired.automatic_carrier_updates)
        if update.asks_nothing:
            return None
        reason = "" if self.takeover else _protection(order, update, option)
        return _decided(order, update, reason)


@pydantic_dataclass(
    frozen=True,
    config=ConfigDict(
        str_strip_whitespace=True, json_schema_extra=in_order, field_title_generator=title_of
    ),
)
class StatusStage:
    """A custom status that orders reach by age, tag or shipping method.

    Attributes:
        status: A status option of the account, by label or key.
        after_days: How many days after it was placed an order reaches it; fractions are allowed.
        tag: Only orders with this tag in Shopify; empty for all.
        shipping_method: Only orders with this shipping method; empty for all.

    Raises:
        pydantic.ValidationError: The status is blank, the number negative, or the tag has a comma.

    Example:
        >>> StatusStage("Sewing", 3).age
        datetime.timedelta(days=3)
    """

    status: Annotated[str, Field(min_length=1)]
    after_days: Annotated[float, Field(ge=0, le=3650, allow_inf_nan=False)] = 0
    tag: Annotated[str, AfterValidator(lambda tag: tag and checked_tag(tag))] = ""
    shipping_method: str = ""

    @property
    def age(self) -> dt.timedelta:
        """How old an order is when the stage starts, counted from `order_created_at`."""
        return dt.timedelta(days=self.after_days)

    @property
    def is_for_all(self) -> bool:
        """Whether orders reach it by age alone."""
        return not (self.tag or self.shipping_method)

    def is_for(self, facts: OrderFacts) -> bool:
        """Whether an order has the tag and the shipping method, whatever their case."""
        tags = {tag.casefold() for tag in facts.tags}
        method = (facts.shipping_method or "").casefold()
        has_tag = not self.tag or self.tag.casefold() in tags
        return has_tag and self.shipping_method.casefold() in {"", method}


@dataclass(frozen=True, slots=True)
class Progression:
    """Decides which stage an order's age has brought it to; only ever forward."""

    stages: Sequence[tuple[StatusStage, StatusOption]]
    options: Sequence[StatusOption]
    now: dt.datetime
    release_fulfilled: bool = True

    def __call__(self, order: Order) -> Decision:
        """Decide about one order."""
        if self._is_shipped(order):
            return self._shipped(order)
        if order.is_cancelled:
            return _protected(order, "", "it is cancelled")
        placed_at = order.order_created_at or order.facts.created_at
        if placed_at is None:
            return _protected(order, "", "its age is not known")
        age = self.now - placed_at
        reached = [
            number
            for number, (stage, _) in enumerate(self.stages)
            if stage.age <= age and stage.is_for(order.facts)
        ]
        if not reached:
            return None
        due = reached[-1]
        option = self.stages[due][1]
        update = _update(order, option, self.options)
        if update.status is None:
            return None
        return _decided(
            order, update, _protection(order, update, option) or self._not_ahead(order, due)
        )

    def _is_shipped(self, order: Order) -> bool:
        """A carrier's status that is a stage is set by hand, and tells nothing of a carrier."""
        by_hand = {
            status
            for status in CARRIER_STATUSES
            if any(option.matches(status) for _, option in self.stages)
        }
        # the shop knows it a little before Tracktor has the parcel
        of_shop = order.facts.fulfillment_status == "fulfilled"
        return of_shop or order.was_handed_over or bool(order.carrier_statuses - by_hand)

    def _shipped(self, order: Order) -> Decision:
        """What becomes of an order whose production is over."""
        if carrier_updates(order):
            return None
        reason = self._why_not_released(order)
        return _protected(order, "", reason) if reason else _released(order)

    def _why_not_released(self, order: Order) -> str:
        if order.is_partly_delivered:
            return "it is delivered"
        if order.is_cancelled:
            return "it is cancelled"
        if not order.has_shipped_in_full:
            whole = order.facts.fulfillment_status == "fulfilled"
            return (
                "Tracktor does not show it as shipped yet" if whole else "a part of it was shipped"
            )
        return "" if self.release_fulfilled else "it was shipped"

    def _not_ahead(self, order: Order, due: int) -> str:
        """Why an order is not to be moved to the stage that is due; empty if it may."""
        places = [self._place(status) for status in statuses_of(order)]
        if None in places:
            return "it has a status that is none of the stages"
        if any(place is not None and place > due for place in places):
            return "it is further on"
        return ""

    def _place(self, status: str) -> int | None:
        """The number of the stage that a status means; -1 before the first, `None` if unknown."""
        if not status or status_key(status) == ShipmentStatus.ORDER_READY:
            return -1
        meant = options_meant(status, self.options)
        for number, (_, option) in enumerate(self.stages):
            if meant == [option]:
                return number
        return -1 if [option.key for option in meant] == [ShipmentStatus.ORDER_READY] else None


def checked_stages(
    stages: Sequence[StatusStage], options: Sequence[StatusOption]
) -> list[tuple[StatusStage, StatusOption]]:
    """Find each stage's status option, and refuse stages that are no progression."""
    if not stages:
        raise InvalidInput("stages is empty: name at least one status and the days it starts after")
    by_age = [(place, stage) for place, stage in enumerate(stages) if stage.is_for_all]
    for (_, before), (place, stage) in pairwise(by_age):
        if stage.after_days <= before.after_days:
            raise InvalidInput(
                f"stages[{place}] ({stage.status!r}) must start later than the stage before it,"
                f" which starts after {before.after_days:g} days"
            )
    return list(_with_options(stages, options))


def _with_options(
    stages: Sequence[StatusStage], options: Sequence[StatusOption]
) -> Iterator[tuple[StatusStage, StatusOption]]:
    places: dict[str, int] = {}
    for place, stage in enumerate(stages):
        try:
            option = option_for(stage.status, options)
        except InvalidInput as problem:
            raise InvalidInput(f"stages[{place}] ({stage.status!r}): {problem}") from None
        first = places.setdefault(option.label, place)
        if first != place:
            raise InvalidInput(
                f"stages[{place}] is {option.label!r} like stages[{first}]: an order that only"
                " moves forward cannot come back to a status"
            )
        yield stage, option


def statuses_of(order: Order) -> tuple[str, ...]:
    """What an order shows: the status of each parcel, or its own while there is none."""
    if order.fulfillments:
        return tuple(parcel.shipment_status or "" for parcel in order.fulfillments)
    return order.statuses


def current(order: Order) -> str:
    """An order's statuses for people."""
    return ", ".join(dict.fromkeys(filter(None, statuses_of(order))))


def name_of(order: Order) -> str:
    """How the shop calls an order."""
    return order.order_name or str(order.order_id)


def is_carriers(order: Order) -> bool:
    """Whether a carrier updates the order, or may do so; one without parcels has none yet."""
    if carrier_updates(order) is False:
        return False
    return bool(order.fulfillments) or not CARRIER_STATUSES.isdisjoint(order.status_keys)


def carrier_updates(order: Order) -> bool | None:
    """Whether the carrier's reports count for an order."""
    if order.automatic_carrier_updates is not None:
        return order.automatic_carrier_updates
    settings = {parcel.is_automatic for parcel in order.fulfillments}
    return settings.pop() if len(settings) == 1 else None


def is_fulfilled(order: Order) -> bool:
    """Whether everything has been handed to a carrier."""
    return bool(order.fulfillments) and all(
        status_key(parcel.fulfillment_status or "") == "fulfilled" for parcel in order.fulfillments
    )


def _released(order: Order) -> Decision:
    """What hands a fulfilled order back to the carrier; one that has arrived stays as it is."""
    setting = carrier_updates(order)
    if setting or order.is_partly_delivered:
        return None
    if setting is None:
        return _protected(order, HANDED_BACK, "it is not known who updates it")
    update = DesiredStatus(order.order_id, automatic_carrier_updates=True)
    return Change(update, name_of(order), current(order), HANDED_BACK)


def _update(
    order: Order,
    option: StatusOption | None,
    options: Sequence[StatusOption],
    *,
    automatic: bool | None = None,
) -> DesiredStatus:
    """What must be written for the order to be as wanted."""
    shows = statuses_of(order)
    right = bool(shows) and all(options_meant(shown, options) == [option] for shown in shows)
    status = None if right or option is None else option.label
    if automatic is not None and automatic == carrier_updates(order):
        automatic = None
    if status and carrier_updates(order) is not False:
        # else the carrier's next report would replace the status
        automatic = False
    return DesiredStatus(order.order_id, status, automatic)


def _protection(order: Order, update: DesiredStatus, option: StatusOption | None) -> str:
    """Why an order must not be written without a takeover; empty if it may."""
    moves = update.status is not None and option is not None
    if moves and order.is_partly_delivered and not _means_delivered(option):
        return "it is delivered"
    if update.automatic_carrier_updates is False and is_carriers(order):
        return "the carrier updates it"
    return ""


def _means_delivered(option: StatusOption | None) -> bool:
    return option is not None and option.matches(ShipmentStatus.DELIVERED)


def _protected(order: Order, new: str, reason: str) -> Protected:
    return Protected(order.order_id, name_of(order), current(order), new, reason)


def _decided(order: Order, update: DesiredStatus, reason: str) -> Change | Protected:
    new = update.status or (HANDED_BACK if update.automatic_carrier_updates else "manual")
    if reason:
        return _protected(order, new, reason)
    return Change(update, name_of(order), current(order), new)
