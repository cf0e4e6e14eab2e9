"""The parameters of the flows about statuses: which statuses, and for how long they are news."""

from collections import Counter
from collections.abc import Collection, Sequence

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.models import ShipmentStatus, status_key
from prefect_tracktor.rules import TO_NO_CUSTOMER, NotificationRule
from prefect_tracktor.runs.set_statuses import status_options
from prefect_tracktor.statuses.desired import option_for

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
    own = [key for key in keys if key not in set(ShipmentStatus)]
    if not own:
        return keys, 0
    options, calls = status_options(credentials)
    for key in own:
        try:
            option_for(key, options)
        except InvalidInput as problem:
            raise InvalidInput(f"{key!r}: {problem}") from None
    return keys, calls


def checked_rules(credentials: TracktorCredentials, rules: Sequence[NotificationRule]) -> int:
    """See that each rule can be right; say how many requests it took."""
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
    named = [name.partition(":") for rule in rules for name in rule.when]
    statuses = [key for kind, _, key in named if status_key(kind) == "status" and key != _ALL]
    return checked_statuses(credentials, statuses)[1] if statuses else 0
