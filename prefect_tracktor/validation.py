"""Values that are checked before anything is sent: ids and addresses."""

import re
from typing import SupportsIndex
from urllib.parse import urlsplit

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.parsing import LARGEST_ID
from prefect_tracktor.text import form_of

_DIGITS = re.compile(r"[1-9][0-9]{0,18}")
_EXACT_FLOATS_BELOW = 2**53


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


def checked_id(value: object, *, field: str) -> int:
    """Refuse what is not an id, before it becomes part of an address.

    Args:
        value: The candidate. Digits as text are an id, as CSV gives them, and so is a float
            without a fraction, as tables with gaps give it.
        field: What to call it in the error.

    Returns:
        The id as a whole number.

    Raises:
        InvalidInput: It is not a positive whole number of at most 63 bits; the message does not
            repeat it, as it may be a customer's phone number or name.

    Example:
        >>> checked_id(1001, field="order_id"), checked_id("1001", field="order_id")
        (1001, 1001)
    """
    number = _whole_number(value)
    if number is None or not 0 < number <= LARGEST_ID:
        raise InvalidInput(f"{field} must be a positive whole number, not {form_of(value)}")
    return number


def _whole_number(value: object) -> int | None:
    match value:
        case bool():
            return None
        case int():
            return value
        case str():
            return int(value) if _DIGITS.fullmatch(value.strip()) else None
        case float():
            return int(value) if value.is_integer() and value < _EXACT_FLOATS_BELOW else None
        case SupportsIndex():  # such as numpy's
            return value.__index__()
        case _:
            return None


def checked_address(value: str, *, field: str) -> str:
    """Refuse an address that keys or customers' data must not travel to.

    Args:
        value: The candidate.
        field: What to call it in the error.

    Returns:
        The same value.

    Raises:
        InvalidInput: It is not https (plain http is allowed to this machine itself), or holds a
            user name, a fragment or white space.

    Example:
        >>> checked_address("http://127.0.0.1:8080/hook", field="address")
        'http://127.0.0.1:8080/hook'
    """
    remedy = f"{field} must be an https address such as https://shop.example/path"
    if type(value) is not str:
        raise InvalidInput(f"{remedy}, not {form_of(value)}")
    try:
        parts = urlsplit(value)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise InvalidInput(f"{remedy}; this one is malformed") from None
    if not value.isprintable() or " " in value or "\\" in value or not host:
        raise InvalidInput(f"{remedy}; this one is malformed")
    if parts.username is not None or parts.fragment:
        raise InvalidInput(f"{remedy}, without user name and fragment")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return value
    raise InvalidInput(f"{remedy}; plain http is allowed to localhost only")
