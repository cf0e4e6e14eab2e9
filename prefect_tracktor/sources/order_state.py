"""What an export tells of an order: whether it is cancelled or unfulfilled, and other facts."""

from collections.abc import Collection, Mapping
from typing import Any

from prefect_tracktor.models import OrderFacts, read_fact, says_cancelled, status_key
from prefect_tracktor.sources.table_file import folded

CANCELLED, REFUNDED, VOIDED, UNFULFILLED = "cancelled", "refunded", "voided", "unfulfilled"

# Column names of Shopify's exports, its two APIs, and export apps, as `folded` writes them.
_CANCELLATION = frozenset(
    f"{prefix}{word}{suffix}"
    for word in ("cancelled", "canceled")
    for prefix in ("", "order", "is", "date")
    for suffix in ("", "at", "on", "date", "reason")
) | {
    *("canceldate", "cancelreason", "ordercancelreason", "dateofcancellation"),
    *("cancellationdate", "cancellationreason", "ordercancellationreason", "reasonforcancellation"),
}
_ORDER = frozenset({"status", "orderstatus"})
_PAYMENT = frozenset(
    {
        "financialstatus",
        "orderfinancialstatus",
        "displayfinancialstatus",
        "paymentstatus",
        "orderpaymentstatus",
    }
)
_FULFILLMENT = frozenset(
    f"{prefix}{word}status"
    for prefix in ("", "order", "display")
    for word in ("fulfillment", "fulfilment")
)

_FACTS = {
    **dict.fromkeys(("createdat", "ordercreatedat"), "created_at"),
    **dict.fromkeys(_PAYMENT, "financial_status"),
    **dict.fromkeys(_FULFILLMENT, "fulfillment_status"),
    **dict.fromkeys(
        (
            *("shippingcountry", "shippingcountrycode", "shippingaddress"),
            *("shippingaddresscountry", "shippingaddresscountrycode"),
            "shippingaddresscountrycodev2",
        ),
        "country",
    ),
    **dict.fromkeys(
        ("shippingmethod", "shippingline", "shippinglines", "shippinglinetitle"), "shipping_method"
    ),
    **dict.fromkeys(("tags", "ordertags"), "tags"),
    **dict.fromkeys(("customerlocale", "orderlocale", "locale"), "locale"),
}

_INNER = {
    "country": ("countryCodeV2", "countryCode", "country_code", "country"),
    "shipping_method": ("title", "code"),
}

_ENDED = {
    **dict.fromkeys(("cancelled", "canceled"), CANCELLED),
    **dict.fromkeys(("refunded", "fullyrefunded"), REFUNDED),
    **dict.fromkeys(("voided", "void"), VOIDED),
}
# a fulfillment that was cancelled or restocked is none, and the order may have another one
_NOT_SENT = dict.fromkeys(
    (
        *("unfulfilled", "notfulfilled", "unshipped", "notshipped"),
        *("cancelled", "canceled", "restocked"),
    ),
    UNFULFILLED,
)
_STATES = {
    **dict.fromkeys(_ORDER | _PAYMENT, _ENDED | {"unfulfilled": UNFULFILLED}),
    **dict.fromkeys(_FULFILLMENT, _NOT_SENT),
}
_NO = frozenset(
    {"", "no", "n", "false", "0", "none", "null", "nil", "na", "nan", "-", "notcancelled"}
)
_NO_DATE = "00000000"
_DASHES = " \t-\u2010\u2011\u2012\u2013\u2014\u2212./_'\"\u2717\u2718\u00d7"


def tells_state(column: str) -> bool:
    """Whether a column of an orders export says that nobody waits for an order."""
    return folded(column) in _CANCELLATION or folded(column) in _STATES


def states_in(cells: Mapping[str, object]) -> frozenset[str] | None:
    """Read what a row of an orders export says of its order."""
    texts = {folded(c): _text(value) for c, value in cells.items() if tells_state(c)}
    found = {_state_of(column, text) for column, text in texts.items() if column in _STATES}
    if any(_is_said(text) for column, text in texts.items() if column in _CANCELLATION):
        found.add(CANCELLED)
    states = frozenset(filter(None, found))
    if not states and found and not any(map(_word, texts.values())):
        return None
    return states


def tells_fact(column: str) -> bool:
    """Whether a column of an orders export tells one of the `OrderFacts`."""
    return folded(column) in _FACTS


def facts_in(cells: Mapping[str, object], states: Collection[str]) -> OrderFacts:
    """Read what a row of an orders export tells of its order beside its states, if readable."""
    told: dict[str, Any] = {}
    for column, value in cells.items():
        fact = _FACTS.get(folded(column))
        if fact and fact not in told and (read := read_fact(fact, _inner(fact, value))) is not None:
            told[fact] = read
    return OrderFacts(cancelled=CANCELLED in states or None, **told)


def _inner(fact: str, value: object) -> object:
    """What an address or a shipping line of Shopify's APIs tells."""
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


def _state_of(column: str, text: str) -> str | None:
    state = _STATES[column].get(_word(text))
    if state or column in _FULFILLMENT or not says_cancelled(text):
        return state
    # such as "Cancelled by customer"
    return next((_ENDED[word] for word in status_key(text).split("_") if word in _ENDED), CANCELLED)


def _is_said(text: str) -> bool:
    word = _word(text)
    is_mark = not word and bool(text.strip(_DASHES))  # such as a tick
    return is_mark or (word not in _NO and not word.startswith(_NO_DATE))
