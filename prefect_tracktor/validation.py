"""Validation before anything is sent: ids, secrets, addresses; and pydantic's errors in words."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import SupportsIndex

import httpx
from pydantic import BaseModel, ValidationError

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.parsing import EXACT_FLOATS_BELOW, LARGEST_ID
from prefect_tracktor.text import form_of, refuse_masked

_DIGITS = re.compile(r"[1-9][0-9]{0,18}")
_UUID = re.compile(
    r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}"
)


def problems_of(invalid: ValidationError) -> list[str]:
    """List the problems, each with its field, without the input, which may be a secret."""
    problems = []
    for error in invalid.errors(include_input=False, include_url=False):
        field = ".".join(map(str, error["loc"]))
        problem = error["msg"].removeprefix("Value error, ")
        problems.append(problem if problem.startswith(field) else f"{field}: {problem}")
    return problems


def checked_uuid(value: str) -> str:
    """Validate an account's uuid, which becomes part of an address."""
    if not _UUID.fullmatch(value):
        raise InvalidInput(
            "uuid must be 32 hexadecimal digits, with dashes or without, as Tracktor's settings"
            f" show it; this one has {len(value)} characters"
        )
    return value


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_id(value: object, *, field: str) -> int:
    """Validate an id, which becomes part of an address."""
    number = _whole_number(value)
    if number is None or not 0 < number <= LARGEST_ID:
        raise InvalidInput(f"{field} must be a positive whole number, not {form_of(value)}")
    return number


def checked_ids(values: object, *, field: str) -> list[int]:
    """Validate one id or several; an error names the position of the wrong one."""
    if isinstance(values, int | str):
        values = [values]
    if not isinstance(values, Iterable) or isinstance(values, Mapping | bytes | BaseModel):
        raise InvalidInput(f"{field} must be a list of Shopify order ids, not {form_of(values)}")
    return [checked_id(value, field=f"{field}[{index}]") for index, value in enumerate(values)]


def _whole_number(value: object) -> int | None:
    match value:
        case bool():
            return None
        case int():
            return value
        case str():
            return int(value) if _DIGITS.fullmatch(value.strip()) else None
        case float():
            return int(value) if value.is_integer() and value < EXACT_FLOATS_BELOW else None
        case SupportsIndex():  # such as numpy's
            return value.__index__()
        case _:
            return None


def checked_secret(value: str, *, field: str, source: str) -> str:
    """Validate a key or a token, which becomes a header."""
    if not value:
        raise InvalidInput(f"{field} is empty; copy it from {source}")
    refuse_masked(value, field=field)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise InvalidInput(f"{field} has characters that none has, such as blanks or line breaks")
    return value


def checked_tag(tag: str) -> str:
    """Validate a tag of an order in Shopify."""
    name = tag.strip()
    if not name or "," in name:
        raise ValueError("must be one tag without a comma, as in Shopify: list each tag separately")
    return name


def checked_address(value: str, *, field: str) -> str:
    """Validate an address for keys or customers' data: https, or http on this machine."""
    remedy = f"{field} must be an https address such as https://shop.example/path"
    if type(value) is not str:
        raise InvalidInput(f"{remedy}, not {form_of(value)}")
    url = parsed_address(value)
    if not value.isprintable() or " " in value or "\\" in value or url is None:
        raise InvalidInput(f"{remedy}; this one is malformed")
    if url.userinfo or url.fragment:
        raise InvalidInput(f"{remedy}, without user name and fragment")
    if url.scheme == "https" or (url.scheme == "http" and is_loopback(url.host)):
        return value
    raise InvalidInput(f"{remedy}; plain http is allowed to localhost only")


def whole_path(address: str) -> str:
    """Make a path absolute, as each run of a worker has its own directory; keep an address."""
    return address if "://" in address else str(Path(address).expanduser().absolute())


def host_of(address: str) -> str:
    """Return scheme, host and port of an address: the part that is not secret."""
    url = parsed_address(address)
    return f"{url.scheme}://{url.netloc.decode('ascii')}" if url else ""


def parsed_address(address: str) -> httpx.URL | None:
    """Parse an address; httpx normalizes hosts, default ports and escapes."""
    scheme, mark, rest = address.strip().partition("://")
    try:
        url = httpx.URL(f"{scheme.lower()}{mark}{rest}")
        has_host = bool(url.host)
    except (httpx.InvalidURL, UnicodeError):  # the host cannot be encoded for DNS
        return None
    is_port = url.port is None or url.port in range(1, 65536)
    return url if has_host and is_port else None
