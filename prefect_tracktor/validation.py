"""Values that are checked before anything is sent: ids and addresses."""

import re
from pathlib import Path
from typing import SupportsIndex
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.parsing import LARGEST_ID
from prefect_tracktor.text import form_of

_DIGITS = re.compile(r"[1-9][0-9]{0,18}")
_EXACT_FLOATS_BELOW = 2**53


def problems_of(invalid: ValidationError) -> list[tuple[str, str]]:
    """The field and the problem of each invalid value, without the value, which may be a secret."""
    return [
        (".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, "))
        for problem in invalid.errors(include_input=False, include_url=False)
    ]


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    return host in {"localhost", "::1"} or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


def checked_id(value: object, *, field: str) -> int:
    """Refuse what is not an id, before it becomes part of an address."""
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
    """Refuse an address that keys or customers' data must not travel to."""
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
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return value
    raise InvalidInput(f"{remedy}; plain http is allowed to localhost only")


def whole_path(address: str) -> str:
    """A path from the root, as each run of a worker has a directory of its own; no address."""
    return address if "://" in address else str(Path(address).expanduser().absolute())


def host_of(address: str) -> str:
    """Return scheme, host and port of an address: the part that is not secret."""
    url = parsed_address(address)
    if url is None:
        return ""
    host = url.raw_host.decode("ascii")
    name = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{name}" + (f":{url.port}" if url.port else "")


def parsed_address(address: str) -> httpx.URL | None:
    """Parse an address; httpx normalises hosts, default ports and escapes."""
    scheme, mark, rest = address.strip().partition("://")
    try:
        url = httpx.URL(f"{scheme.lower()}{mark}{rest}")
    except httpx.InvalidURL:
        return None
    return url if url.host else None
