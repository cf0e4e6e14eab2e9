"""Checks of flow parameters: statuses, rules, and the orders that they need."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta

from prefect_tracktor.conditions import Condition
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.models import ShipmentStatus, says_cancelled, status_key
from prefect_tracktor.rules import TO_NO_CUSTOMER, NotificationRule
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.set_statuses import status_options
from prefect_tracktor.sources import EventOrders, OrderFile, ShopifyOrders
from prefect_tracktor.statuses.desired import option_for
from prefect_tracktor.thresholds import Delay

_HOURS_AT_MOST = 24 * 366
_ALL = "all"


def within_days(within_hours: float) -> float:
    """Return the parameter `within_hours` in days."""
    if not 0 < within_hours <= _HOURS_AT_MOST:
        raise InvalidInput(
            f"within_hours must be more than 0 and at most {_HOURS_AT_MOST}, not {within_hours}"
        )
    return within_hours / 24


def checked_statuses(
    credentials: TracktorCredentials, statuses: Collection[str]
) -> tuple[list[str], int]:
    """Return the keys of statuses and the number of requests; custom statuses must exist."""
    keys = sorted({status_key(status) for status in statuses})
    if not keys or "" in keys:
        raise InvalidInput("name at least one status, such as 'delivered'; none may be blank")
    known = set(ShipmentStatus)
    # there are cancelled statuses that the vendor's documentation does not list
    custom = [key for key in keys if key not in known and not says_cancelled(key)]
    if not custom:
        return keys, 0
    options, calls = status_options(credentials)
    for key in custom:
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
    """Check that each rule is valid and can be met; return the number of requests."""
    if not rules:
        raise InvalidInput("rules is empty: give at least one NotificationRule")
    twice = [name for name, count in Counter(rule.name for rule in rules).items() if count > 1]
    if twice:
        raise InvalidInput(
            f"rules: {', '.join(twice)} is the name of several rules, whose notices the ledger"
            " could not distinguish: give each rule its own name"
        )
    if taken := TO_NO_CUSTOMER.intersection(rule.name for rule in rules):
        raise InvalidInput(
            f"rules: {', '.join(sorted(taken))} is reserved for events and the team's digest: give"
            " the rule another name"
        )
    for rule in rules:
        about = f"rules: {rule.name}"
        _refuse_never_met(rule, orders, about)
        refuse_unread(
            rule, orders, reading, about=about, lower="after_days or within_days of the rule"
        )
    return check_statuses_in(credentials, [name for rule in rules for name in rule.when])


def check_statuses_in(credentials: TracktorCredentials, conditions: Iterable[str]) -> int:
    """Check that the account has the statuses in conditions; return the number of requests."""
    named = [name.partition(":") for name in conditions]
    statuses = [
        key for kind, _, key in named if status_key(kind) == "status" and status_key(key) != _ALL
    ]
    return checked_statuses(credentials, statuses)[1] if statuses else 0


def _refuse_never_met(rule: NotificationRule, orders: object, about: str) -> None:
    """Raise `InvalidInput` for a rule that no order of this source meets."""
    if rule.tags and isinstance(orders, list | EventOrders):
        raise InvalidInput(
            f"{about} is for orders with a tag, which neither a list of ids nor events"
            " have: use ShopifyOrders, or an OrderFile with such a column"
        )
    days = rule.after_days + (rule.times - 1) * rule.repeat_after_days
    if isinstance(orders, ShopifyOrders) and 0 < orders.created_within_days <= days:
        raise InvalidInput(
            f"{about} sends a notice {days:g} days after its condition began, and orders"
            f" finds only those of the last {orders.created_within_days} days: raise"
            " created_within_days of the ShopifyOrders"
        )


def refuse_unread(
    rule: NotificationRule, orders: object, reading: ReadingOptions, *, about: str, lower: str = ""
) -> None:
    """Raise `InvalidInput` for a condition of orders that are not read."""
    arrived = Condition(f"status:{ShipmentStatus.DELIVERED}")
    if arrived.name in rule.requested:
        delivered = f"{about} is about delivered orders"
        if (window := rule.window(arrived)) is not None:
            days = rule.after_days + window / timedelta(days=1)
            refuse_completed(reading, days, about=delivered, lower=lower)
        refuse_orders_without_delivered(orders, about=delivered)
    leaves_out = {
        ShopifyOrders: ("finds_unfulfilled", "fulfillment of the ShopifyOrders to any"),
        OrderFile: ("include_unfulfilled", "include_unfulfilled of the OrderFile"),
    }
    field, remedy = leaves_out.get(type(orders), ("", ""))  # type: ignore[call-overload]
    if field and Delay.NOT_SHIPPED in rule.requested and not getattr(orders, field):
        raise InvalidInput(
            f"{about} is about unfulfilled orders, and orders leaves these out: set {remedy}"
        )


def refuse_completed(reading: ReadingOptions, days: float, *, about: str, lower: str = "") -> None:
    """Raise `InvalidInput` for news about deliveries whose orders are not read any more."""
    completed = reading.completed_orders
    if completed is not None and days >= completed.after_days:
        remedy = f"lower {lower}, or " if lower else ""
        raise InvalidInput(
            f"{about}, up to {days:g} days after a delivery, and completed orders are not read"
            f" after {completed.after_days} days: {remedy}raise after_days of"
            " reading.completed_orders"
        )


def refuse_orders_without_delivered(orders: object, *, about: str) -> None:
    """Raise `InvalidInput` for a search without the orders that the messages are about."""
    if isinstance(orders, ShopifyOrders) and not orders.include_delivered:
        raise InvalidInput(
            f"{about}, and orders leaves out delivered ones: set include_delivered of the"
            " ShopifyOrders"
        )
