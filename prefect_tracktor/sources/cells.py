"""Cells of tables: order ids, statuses, yes or no; nothing is guessed."""

import re

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.text import redact

# A plain number, and what spreadsheets and Shopify's bulk exports make of it.
_ORDER_ID = re.compile(r"'?(?:gid://shopify/Order/)?([1-9][0-9]{0,18})(\.0+)?")
_SCIENTIFIC = re.compile(r"'?[+-]?[0-9]+([.,][0-9]+)?[eE][+-]?[0-9]+")
_BITS_OF_AN_ID = 63
_BITS_OF_A_FLOAT = 53

_FLAGS = {
    **dict.fromkeys(("true", "yes", "y", "1", "on"), True),
    **dict.fromkeys(("false", "no", "n", "0", "off"), False),
}

_SHOWN_AT_MOST = 40
_READ_OF_A_VALUE = 200


def is_order_id(text: str) -> bool:
    """Whether a text is a number that can be an order id."""
    return _ORDER_ID.fullmatch(text) is not None


def order_id_of(value: object, *, empty: str) -> int:
    """Read an order id; never guess."""
    text = str(value).strip() if isinstance(value, str | int) else ""
    match = _ORDER_ID.fullmatch(text)
    if match is None:
        raise InvalidInput(_why_not(value, text, empty))
    order_id, exact_bits = int(match[1]), _BITS_OF_A_FLOAT if match[2] else _BITS_OF_AN_ID
    if order_id.bit_length() > exact_bits:
        raise InvalidInput(f"{kind_of(text)} that is too large for an order id; correct it")
    return order_id


def _why_not(value: object, text: str, empty: str) -> str:
    if value is None or value == "":
        return empty
    if _SCIENTIFIC.fullmatch(text):
        return (
            "a number in scientific notation may have lost digits in a spreadsheet; give the column"
            " the format text (or number without decimals) there and export again"
        )
    return (
        f"{kind_of(value)} is not an order id; it is a positive whole number (not the order's name"
        " such as #1001): correct it, or name the column where the ids are"
    )


def kind_of(value: object) -> str:
    """Say what a value is without repeating it: it may be a customer's name or phone number."""
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    text = value.strip()
    if not text:
        return "a blank"
    if "@" in text:
        return "an email address" if "." in text else "text with an @"
    if any(map(str.isalpha, text)):
        return "text with letters"
    if text.isascii() and text.isdigit():
        return "a number"
    if any(map(str.isdigit, text)):
        return "digits with other characters"
    return "text without letters and digits"


def shortened(text: str) -> str:
    """Show of a name what fits into a message, without a customer's data."""
    shown = redact(text[:_READ_OF_A_VALUE])
    return shown if len(shown) <= _SHOWN_AT_MOST else shown[:_SHOWN_AT_MOST] + "…"


def status_of(value: object) -> str | None:
    """Read a status."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"a {type(value).__name__} is not a status; write the status's label")
    return value.strip() or None


def flag_of(value: object) -> bool | None:
    """Read yes or no."""
    if value is None or isinstance(value, bool):
        return value
    text = str(value).strip() if isinstance(value, str | int) else "?"
    if not text:
        return None
    if text.casefold() not in _FLAGS:
        raise InvalidInput(f"{kind_of(value)} that is neither true nor false; write one of them")
    return _FLAGS[text.casefold()]
