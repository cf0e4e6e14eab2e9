"""The parameters of the flows about statuses: which statuses, and for how long they are news."""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import timedelta

from prefect_tracktor.conditions import Condition
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.models import ShipmentStatus, says_cancelled, status_key
from prefect_tracktor.rules import TO_NO_CUSTOMER, NotificationRule
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.set_statuses import status_options
from prefect_tracktor.sources import OrderFile, ShopifyOrders
from prefect_tracktor.statuses.desired import option_for
from prefect_tracktor.thresholds import Delay

_HOURS_AT_MOST = 24 * 366
_ALL = "all"


def within_days(within_hours: float) -> float:
    """For how many days a status is news."""
    if not 0 < within_hours <= _HOURS_AT_MOST:
        raise InvalidInput(
            f"within_hours must be more than 0 and at most {_HOURS_AT_MOST}, not {within_hours}"
        )
    return within_hours / 24


def checked_statuses(
    credentials: TracktorCredentials, statuses: Collection[str]
) -> tuple[list[str], int]:
    """The statuses by key, and how many requests it took: the shop's own must exist."""
    keys = sorted({status_key(status) for status in statuses})
    if not keys or "" in keys:
        raise InvalidInput("name at least one status, such as 'delivered'; none may be blank")
    # a cancellation is told in whatever words the vendor has
    known = set(ShipmentStatus)
    own = [key for key in keys if key not in known and not says_cancelled(key)]
    if not own:
        return keys, 0
    options, calls = status_options(credentials)
    for key in own:
        try:
            option_for(key, options)
        except InvalidInput as problem:
            raise InvalidInput(f"{key!r}: {problem}") from None
    return keys, calls


def checked_rules(
    credentials: TracktorCredentials,
    rules: Sequence[NotificationRule],
    *,
    orders: object,
    reading: ReadingOptions,
) -> int:
    """See that each rule can be right and can be met; say how many requests it took."""
    if not rules:
        raise InvalidInput("rules is empty: give at least one NotificationRule")
    twice = [name for name, count in Counter(rule.name for rule in rules).items() if count > 1]
    if twice:
        raise InvalidInput(
            f"rules: {', '.join(twice)} is the name of several rules; the ledger would take their"
            " notices for one: give each a name of its own"
        )
    if taken := TO_NO_CUSTOMER.intersection(rule.name for rule in rules):
        raise InvalidInput(
            f"rules: {', '.join(sorted(taken))} is a name that the ledger has for what no customer"
            " gets: give the rule another"
        )
    for rule in rules:
        _refuse_what_is_never_read(rule, orders, reading)
    named = [name.partition(":") for rule in rules for name in rule.when]
    statuses = [key for kind, _, key in named if status_key(kind) == "status" and key != _ALL]
    return checked_statuses(credentials, statuses)[1] if statuses else 0


def _refuse_what_is_never_read(
    rule: NotificationRule, orders: object, reading: ReadingOptions
) -> None:
    """A rule about orders that are left out would be a silent miss."""
    if rule.tags and isinstance(orders, list):
        raise InvalidInput(
            f"rules: {rule.name} is for orders with a tag, which a list of ids does not tell: use"
            " ShopifyOrders, or an OrderFile with such a column"
        )
    arrived = Condition(f"status:{ShipmentStatus.DELIVERED}")
    if arrived.name in rule.requested:
        about = f"rules: {rule.name} is about delivered orders"
        if (window := rule.window(arrived)) is not None:
            days = rule.after_days + window / timedelta(days=1)
            refuse_completed(
                reading, days, about=about, lower="after_days or within_days of the rule"
            )
        refuse_orders_without_delivered(orders, about=about)
    leaves_out = {
        ShopifyOrders: ("finds_unfulfilled", "fulfillment of the ShopifyOrders to any"),
        OrderFile: ("include_unfulfilled", "include_unfulfilled of the OrderFile"),
    }
    field, remedy = leaves_out.get(type(orders), ("", ""))  # type: ignore[call-overload]
    if field and Delay.NOT_SHIPPED in rule.requested and not getattr(orders, field):
        raise InvalidInput(
            f"rules: {rule.name} is about orders of which nothing was sent, and orders leaves these"
            f" out: set {remedy}"
        )


def refuse_completed(reading: ReadingOptions, days: float, *, about: str, lower: str) -> None:
    """Refuse news of a delivery for so long that its order is not read any more."""
    completed = reading.completed_orders
    if completed is not None and days >= completed.after_days:
        raise InvalidInput(
            f"{about}, up to {days:g} days after a delivery, and completed orders are not read any"
            f" more after {completed.after_days} days: lower {lower}, or raise after_days of"
            " reading.completed_orders"
        )


def refuse_orders_without_delivered(orders: object, *, about: str) -> None:
    """Refuse a search that leaves out what the messages are about."""
    if isinstance(orders, ShopifyOrders) and not orders.include_delivered:
        raise InvalidInput(
            f"{about}, and orders leaves out what Shopify knows as delivered: set include_delivered"
            " of the ShopifyOrders"
        )
