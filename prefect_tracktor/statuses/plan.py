"""Status plan: the updates that make Tracktor agree with the shop. No I/O.

The decision about an order is a `Change`, `Protected`, or `None` if the order is as desired. An
order is as desired after its change, so that a second run changes nothing.
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
from prefect_tracktor.statuses.desired import DesiredStatus, matching_options, option_for
from prefect_tracktor.validation import checked_tag

HANDED_BACK = "back to the carrier"


@dataclass(frozen=True, slots=True)
class Change:
    """An order to update."""

    update: DesiredStatus
    order_name: str
    old: str
    new: str

    @property
    def order_id(self) -> int:
        return self.update.order_id


@dataclass(frozen=True, slots=True)
class Protected:
    """An order that is not as desired and must not be updated."""

    order_id: int
    order_name: str
    old: str
    new: str
    reason: str


Decision = Change | Protected | None
Decide = Callable[[Order], Decision]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Decides which update makes an order agree with the shop's own records."""

    desired: Mapping[int, DesiredStatus]
    options: Sequence[StatusOption]
    takeover: bool = False
    release_fulfilled: bool = False

    def __call__(self, order: Order) -> Decision:
        desired = self.desired[order.order_id]
        may_release = self.release_fulfilled and desired.automatic_carrier_updates is None
        if may_release and is_fulfilled(order):
            # without the desired status: the next run would release the order anyway
            return _release(order)
        option = option_for(desired.status, self.options) if desired.status else None
        update = _update(order, option, self.options, automatic=desired.automatic_carrier_updates)
        if update.asks_nothing:
            return None
        reason = "" if self.takeover else _protection(order, update, option)
        return _decide(order, update, reason)


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
        after_days: The days from order to stage; fractions are allowed.
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
        """The age at which an order reaches the stage, counted from `order_created_at`."""
        return dt.timedelta(days=self.after_days)

    @property
    def is_for_all(self) -> bool:
        """Whether orders reach the stage by age alone."""
        return not (self.tag or self.shipping_method)

    def is_for(self, facts: OrderFacts) -> bool:
        """Whether an order has the tag and the shipping method, in any letter case."""
        tags = {tag.casefold() for tag in facts.tags}
        method = (facts.shipping_method or "").casefold()
        has_tag = not self.tag or self.tag.casefold() in tags
        return has_tag and self.shipping_method.casefold() in {"", method}


@dataclass(frozen=True, slots=True)
class Progression:
    """Decides which stage an order has reached by its age; orders only move forward."""

    stages: Sequence[tuple[StatusStage, StatusOption]]
    options: Sequence[StatusOption]
    now: dt.datetime
    release_fulfilled: bool = True

    def __call__(self, order: Order) -> Decision:
        if self._is_shipped(order):
            return self._decide_shipped(order)
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
        return _decide(
            order, update, _protection(order, update, option) or self._not_ahead(order, due)
        )

    def _is_shipped(self, order: Order) -> bool:
        # a carrier's status that is also a stage may have been set by hand
        by_hand = {
            status
            for status in CARRIER_STATUSES
            if any(option.matches(status) for _, option in self.stages)
        }
        # the shop knows it a little before Tracktor has the parcel
        of_shop = order.facts.fulfillment_status == "fulfilled"
        return of_shop or order.was_handed_over or bool(order.carrier_statuses - by_hand)

    def _decide_shipped(self, order: Order) -> Decision:
        if carrier_updates(order):
            return None
        reason = self._why_not_released(order)
        return _protected(order, "", reason) if reason else _release(order)

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
        """Return why an order must not move to the stage that is due; empty if it may."""
        places = [self._place(status) for status in statuses_of(order)]
        if None in places:
            return "it has a status that is none of the stages"
        if any(place is not None and place > due for place in places):
            return "it is further on"
        return ""

    def _place(self, status: str) -> int | None:
        """Return the number of a status's stage: -1 before the first, `None` if it is none."""
        if not status or status_key(status) == ShipmentStatus.ORDER_READY:
            return -1
        matching = matching_options(status, self.options)
        for number, (_, option) in enumerate(self.stages):
            if matching == [option]:
                return number
        return -1 if [option.key for option in matching] == [ShipmentStatus.ORDER_READY] else None


def checked_stages(
    stages: Sequence[StatusStage], options: Sequence[StatusOption]
) -> list[tuple[StatusStage, StatusOption]]:
    """Return the stages with their status options; refuse stages out of order."""
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
    """Return the status of each parcel, or the order's own if it has no parcel yet."""
    if order.fulfillments:
        return tuple(parcel.shipment_status or "" for parcel in order.fulfillments)
    return order.statuses


def current(order: Order) -> str:
    """Return an order's statuses as text for people."""
    return ", ".join(dict.fromkeys(filter(None, statuses_of(order))))


def name_of(order: Order) -> str:
    return order.order_name or str(order.order_id)


def is_carriers(order: Order) -> bool:
    """Whether a carrier updates the order or may do so; without parcels it has no carrier yet."""
    if carrier_updates(order) is False:
        return False
    return bool(order.fulfillments) or not CARRIER_STATUSES.isdisjoint(order.status_keys)


def carrier_updates(order: Order) -> bool | None:
    """Whether a carrier updates an order; `None` if unknown."""
    if order.automatic_carrier_updates is not None:
        return order.automatic_carrier_updates
    settings = {parcel.is_automatic for parcel in order.fulfillments}
    return settings.pop() if len(settings) == 1 else None


def is_fulfilled(order: Order) -> bool:
    """Whether all parcels are fulfilled, that is, handed to a carrier."""
    return bool(order.fulfillments) and all(
        status_key(parcel.fulfillment_status or "") == "fulfilled" for parcel in order.fulfillments
    )


def _release(order: Order) -> Decision:
    """Hand a fulfilled order back to the carrier; a delivered one stays as it is."""
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
    """Return the update that makes an order as desired; it may ask for nothing."""
    statuses = statuses_of(order)
    has_status = bool(statuses) and all(
        matching_options(status, options) == [option] for status in statuses
    )
    status = None if has_status or option is None else option.label
    if automatic is not None and automatic == carrier_updates(order):
        automatic = None
    if status and carrier_updates(order) is not False:
        # otherwise the carrier's next report would replace the status
        automatic = False
    return DesiredStatus(order.order_id, status, automatic)


def _protection(order: Order, update: DesiredStatus, option: StatusOption | None) -> str:
    """Return why an order must not be updated without a takeover; empty if it may."""
    becomes_delivered = option is not None and option.matches(ShipmentStatus.DELIVERED)
    if update.status and order.is_partly_delivered and not becomes_delivered:
        return "it is delivered"
    if update.automatic_carrier_updates is False and is_carriers(order):
        return "the carrier updates it"
    return ""


def _protected(order: Order, new: str, reason: str) -> Protected:
    return Protected(order.order_id, name_of(order), current(order), new, reason)


def _decide(order: Order, update: DesiredStatus, reason: str) -> Change | Protected:
    new = update.status or (HANDED_BACK if update.automatic_carrier_updates else "manual")
    if reason:
        return _protected(order, new, reason)
    return Change(update, name_of(order), current(order), new)
