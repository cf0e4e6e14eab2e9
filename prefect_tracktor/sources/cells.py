"""Cell parsing: order ids, statuses, yes or no; an ambiguous value is refused, not guessed."""

import re

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.parsing import parse_flag
from prefect_tracktor.text import form_of

# a plain number, and the forms that spreadsheets and Shopify's bulk exports give it
_ORDER_ID = re.compile(r"'?(?:gid://shopify/Order/)?([1-9][0-9]{0,18})(\.0+)?")
_SCIENTIFIC = re.compile(r"'?[+-]?[0-9]+([.,][0-9]+)?[eE][+-]?[0-9]+")
_BITS_OF_AN_ID = 63
_BITS_OF_A_FLOAT = 53


def is_order_id(text: str) -> bool:
    """Whether a text is a number that can be an order id."""
    return _ORDER_ID.fullmatch(text) is not None


def order_id_of(value: object, *, empty: str) -> int:
    """Parse an order id; `empty` is the error for a cell without one."""
    text = str(value).strip() if isinstance(value, str | int) else ""
    match = _ORDER_ID.fullmatch(text)
    if match is None:
        raise InvalidInput(_why_not(value, text, empty))
    order_id, exact_bits = int(match[1]), _BITS_OF_A_FLOAT if match[2] else _BITS_OF_AN_ID
    if order_id.bit_length() > exact_bits:
        raise InvalidInput(f"{form_of(text)} is too large for an order id; correct it")
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
        f"{form_of(value)} is not an order id; it is a positive whole number (not the order's name"
        " such as #1001): correct it, or name the column where the ids are"
    )


def status_of(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"a {type(value).__name__} is not a status; write the status's label")
    return value.strip() or None


def flag_of(value: object) -> bool | None:
    try:
        return parse_flag(value)
    except ValueError:
        raise InvalidInput(
            f"{form_of(value)} is neither true nor false; write one of them"
        ) from None
