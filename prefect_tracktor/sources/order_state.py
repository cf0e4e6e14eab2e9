"""Order states and facts in the columns of an export."""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from prefect_tracktor.models import OrderFacts, read_fact, says_cancelled, status_key
from prefect_tracktor.sources.table_file import folded

CANCELLED, REFUNDED, VOIDED, UNFULFILLED = "cancelled", "refunded", "voided", "unfulfilled"

# names, in the form of `folded`, of columns in Shopify's exports, its two APIs, and export apps
_MEANINGS = {
    meaning: re.compile(pattern)
    for meaning, pattern in {
        "cancelled": "(order|is|date)?cancell?ed(at|on|date|reason)?|(order)?cancel(lation)?reason"
        "|cancel(lation)?date|dateofcancellation|reasonforcancellation",
        "order_status": "(order)?status",
        "financial_status": "(order|display)?financialstatus|(order)?paymentstatus",
        "fulfillment_status": "(order|display)?fulfill?mentstatus",
        "created_at": "(order)?createdat",
        "country": "shipping(country(code)?|address(country(code(v2)?)?)?)",
        "shipping_method": "shipping(method|lines|line(title)?)",
        "tags": "(order)?tags",
        "locale": "(customer|order)?locale",
    }.items()
}
_STATES = {"cancelled", "order_status", "financial_status", "fulfillment_status"}
_FACTS = _MEANINGS.keys() - {"cancelled", "order_status"}

_INNER = {
    "country": ("countryCodeV2", "countryCode", "country_code", "country"),
    "shipping_method": ("title", "code"),
}

_ENDED = {
    **dict.fromkeys(("cancelled", "canceled"), CANCELLED),
    **dict.fromkeys(("refunded", "fullyrefunded"), REFUNDED),
    **dict.fromkeys(("voided", "void"), VOIDED),
}
# a cancelled or restocked fulfillment does not count, and the order may have another one
_NOT_SENT = dict.fromkeys(
    (
        *("unfulfilled", "notfulfilled", "unshipped", "notshipped"),
        *("cancelled", "canceled", "restocked"),
    ),
    UNFULFILLED,
)
_NEGATIONS = frozenset(
    {"", "no", "n", "false", "none", "null", "nil", "na", "nan", "-", "notcancelled"}
)
_NO_DATE = "00000000"
_DASHES = " \t-\u2010\u2011\u2012\u2013\u2014\u2212./_'\"\u2717\u2718\u00d7"


@lru_cache(maxsize=4096)
def _meaning_of(column: str) -> str:
    name = folded(column)
    return next((meaning for meaning, names in _MEANINGS.items() if names.fullmatch(name)), "")


def has_state(column: str) -> bool:
    """Whether a column says that an order is cancelled, refunded, voided or unfulfilled."""
    return _meaning_of(column) in _STATES


def states_in(cells: Mapping[str, object]) -> frozenset[str] | None:
    """Return an order's states by a row of an export; `None` if the row has no status."""
    texts = [(_meaning_of(c), _text(value)) for c, value in cells.items() if has_state(c)]
    found = {_state_of(meaning, text) for meaning, text in texts if meaning != "cancelled"}
    if any(meaning == "cancelled" and _is_affirmed(text) for meaning, text in texts):
        found.add(CANCELLED)
    states = frozenset(filter(None, found))
    if not states and found and not any(_word(text) for _, text in texts):
        return None
    return states


def has_fact(column: str) -> bool:
    """Whether a column has one of the `OrderFacts`."""
    return _meaning_of(column) in _FACTS


def facts_in(cells: Mapping[str, object], states: Collection[str]) -> OrderFacts:
    """Parse the facts in a row of an export; an unreadable one stays unknown."""
    facts: dict[str, Any] = {}
    for column, value in cells.items():
        fact = _meaning_of(column)
        if fact in _FACTS and facts.get(fact) is None:
            facts[fact] = read_fact(fact, _inner(fact, value))
    known = {fact: value for fact, value in facts.items() if value is not None}
    return OrderFacts(cancelled=CANCELLED in states or None, **known)


def _inner(fact: str, value: object) -> object:
    """Return the value within an address or a shipping line of Shopify's APIs."""
    if fact == "shipping_method" and isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return value
    named = (value[key] for key in _INNER.get(fact, ()) if value.get(key))
    return next(named, None)


def _text(value: object) -> str:
    return "" if value is None or value in ([], {}) else str(value)


def _word(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _state_of(meaning: str, text: str) -> str | None:
    if meaning == "fulfillment_status":
        return _NOT_SENT.get(_word(text))
    state = (_ENDED | {"unfulfilled": UNFULFILLED}).get(_word(text))
    if state or not says_cancelled(text):
        return state
    # such as "Cancelled by customer"
    return next((_ENDED[word] for word in status_key(text).split("_") if word in _ENDED), CANCELLED)


def _is_affirmed(text: str) -> bool:
    word = _word(text)
    is_mark = not word and bool(text.strip(_DASHES))  # such as a tick
    return is_mark or (word.strip("0") not in _NEGATIONS and not word.startswith(_NO_DATE))
