"""Lenient parsing of JSON values: text, statuses, numbers, flags; times are in `times`.

Each function returns `None` for a value that stands for null, and raises `ValueError` for one that
is ambiguous: a guess may end in a wrong message. Errors never repeat a value.

The vendor publishes nothing about these forms [inferred]. They are common in the databases and
languages of web apps: MongoDB (which stores Tracktor's data), PHP, JavaScript, SQL.
"""

import re
import unicodedata
from decimal import Decimal
from typing import Any

LARGEST_ID = 2**63 - 1
# a larger whole number may have been rounded when it became a float
EXACT_FLOATS_BELOW = 2**53

_MONGO_SCALARS = ("$oid", "$numberLong", "$numberInt", "$numberDouble", "$numberDecimal", "$date")
_STATUS_FIELDS = ("key", "value", "slug", "code", "status", "label", "name", "title", "text")
_ARABIC_MARKS = str.maketrans({"\u066b": ".", "\u066c": ","})
_TRUE = {"true", "yes", "y", "t", "on", "1", "1.0"}
_FALSE = {"false", "no", "n", "f", "off", "0", "0.0"}


def is_nothing(value: Any) -> bool:
    """Whether a value stands for null: a blank text, an empty list or object."""
    blank = isinstance(value, str) and not value.strip()
    return blank or value is None or value == [] or value == {}


def unwrapped(value: Any) -> Any:
    """Unwrap a scalar of MongoDB's extended JSON, such as `{"$numberLong": "7"}`."""
    while isinstance(value, dict) and len(value) == 1 and next(iter(value)) in _MONGO_SCALARS:
        [value] = value.values()
    return value


def parse_text(value: Any) -> str | None:
    if value is None or (type(value) is str and value and not value.isspace()):
        return value
    value = unwrapped(value)
    if is_nothing(value) or value is False:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return str(value)
    raise ValueError("not a text")


def parse_texts(value: Any) -> str | None:
    """Read text, or a list of texts, joined with commas."""
    entries = value if isinstance(value, list) else [value]
    return ", ".join(filter(None, map(parse_text, entries))) or None


def parse_status(value: Any) -> str | None:
    """Read a status: text, or an object with a key or label."""
    if value is None or type(value) is str:
        return value or None
    if isinstance(value, list) and len(value) == 1:
        [value] = value
    if is_nothing(value) or value is False:
        return None
    if isinstance(value, dict):
        named = (value.get(name) for name in _STATUS_FIELDS)
        value = next((entry for entry in named if isinstance(entry, str) and entry.strip()), value)
    if isinstance(value, str):
        return value.strip()
    raise ValueError("not a status")


def parse_statuses(value: Any) -> list[str]:
    """Read a list of statuses, or a single one, without blank ones."""
    if isinstance(value, str):
        value = [value]
    return [status for status in map(parse_status, parse_list(value)) if status]


def parse_list(value: Any) -> list[Any]:
    """Read a list, or an object keyed by number or name, without nulls."""
    if is_nothing(value) or value is False:
        return []
    entries = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(entries, list | tuple):
        raise ValueError("not a list")  # noqa: TRY004 - pydantic collects value errors only
    return [entry for entry in entries if entry is not None]


def parse_whole_number(value: Any) -> int | None:
    value = unwrapped(value)
    if is_nothing(value):
        return None
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,19}(\.0{1,9})?\s*", value):
        return int(value.partition(".")[0])
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_ID:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_FLOATS_BELOW:
        return int(value)
    raise ValueError("not a whole number")


def parse_id(value: Any) -> int | None:
    """Read an id: a positive whole number of at most 63 bits, as databases take it."""
    if value is None or (type(value) is int and 0 < value <= LARGEST_ID):
        return value
    number = parse_whole_number(value)
    if number is not None and not 0 < number <= LARGEST_ID:
        raise ValueError("not an id")
    return number


def parse_any_id(value: Any) -> int | str:
    """Read an id that may be text, such as the 24 hexadecimal digits of MongoDB."""
    value = unwrapped(value)
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        is_number = re.fullmatch(r"[1-9][0-9]{0,18}", value) and int(value) <= LARGEST_ID
        return int(value) if is_number else value
    if isinstance(value, int | float) and (number := parse_id(value)) is not None:
        return number
    raise ValueError("not an id")


def parse_flag(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    value = unwrapped(value)
    if is_nothing(value):
        return None
    if isinstance(value, bool | int | float | str):
        word = str(value).strip().lower()
        if word in _TRUE | _FALSE:
            return word in _TRUE
    raise ValueError("not a flag")


def parse_price(value: Any) -> Decimal | None:
    """Read an amount of money, with or without currency and marks between thousands."""
    value = unwrapped(value)
    if isinstance(value, dict):
        value = next((value[name] for name in ("amount", "value") if name in value), value)
    if is_nothing(value):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("not an amount")  # noqa: TRY004 - as above
    text = str(value).strip()
    if re.fullmatch(r"[+-]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})([eE][+-]?\d{1,3})?", text):
        return Decimal(text)
    return Decimal(_without_marks(text))


def _without_marks(price: str) -> str:
    digits = "".join(c for c in price if not (c.isspace() or c in "'\u2019_"))
    digits = "".join(c for c in digits if unicodedata.category(c) != "Sc")
    digits = re.sub(r"^[A-Za-z]{1,4}\.?(?=[\d+-])|(?<=\d)[A-Za-z]{1,4}\.?$", "", digits)
    digits = digits.translate(_ARABIC_MARKS).removesuffix(",-").removesuffix(".-")
    english = re.fullmatch(r"[+-]?\d{1,3}(,\d{2,3})*,\d{3}(\.\d{1,9})?", digits)
    if english:
        return digits.replace(",", "")
    other = re.fullmatch(r"[+-]?\d{1,3}((\.\d{3})+(,\d{1,9})?|(\.\d{3}){2,})", digits)
    if other or re.fullmatch(r"[+-]?\d{1,15},\d{1,2}", digits):
        return digits.replace(".", "").replace(",", ".")
    if re.fullmatch(r"[+-]?\d{1,15}(\.\d{1,9})?", digits):
        return digits
    raise ValueError("not an amount")
