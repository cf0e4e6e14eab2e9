"""HTTP calls as plain values: the request, and how to parse the response. No I/O."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from json import dumps
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import urlencode

from pydantic import ValidationError
from pydantic_core import from_json

from prefect_tracktor.errors import (
    AuthenticationError,
    InvalidResponse,
    NotFound,
    RateLimited,
    ServerError,
    TracktorError,
    UnprocessableValue,
)
from prefect_tracktor.text import public_words, shortened

T = TypeVar("T")

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
_ERROR_BODY_BYTES = 64 * 1024
_log = logging.getLogger(__name__)


class UnfitResponse(ValueError):
    """A response that cannot be used; the message holds ids and field names only."""


@dataclass(frozen=True, slots=True)
class Service:
    """The texts of error messages about a service: its name, and advice for each refusal."""

    name: str
    address: str
    unknown: str
    check_credentials: str
    check_id: str
    check_value: str
    refuses_with_400: bool = False


@dataclass(frozen=True)  # generic: see Batch about slots
class ApiCall(Generic[T]):
    """One call: the request, whether it is idempotent, and how to read the response."""

    method: Method
    path: str
    read: Callable[[Any], T]
    service: Service
    idempotent: bool = True
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = field(default=None, repr=False)
    may_be_empty: bool = False
    missing_ok: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def request_line(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def content(self) -> bytes:
        if self.form is not None:
            return urlencode(self.form).encode()
        if self.json is None:
            return b""
        return dumps(self.json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    @property
    def content_type(self) -> str:
        return "application/json" if self.form is None else "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Response:
    """A response: status, headers (lower case) and the whole body."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes


def parse_response(api_call: ApiCall[T], response: Response, *, secrets: tuple[str, ...] = ()) -> T:
    """Parse a response, or raise its error."""
    if not HTTPStatus.OK <= response.status_code < HTTPStatus.MULTIPLE_CHOICES:
        raise _refusal(api_call, response, (*secrets, *api_call.secrets))
    if not response.body.strip() and api_call.may_be_empty:
        return api_call.read(None)
    try:
        decoded = from_json(response.body)
    except ValueError:
        raise truncated(api_call, response.status_code, "its response was not JSON") from None
    try:
        return api_call.read(decoded)
    except ValidationError as invalid:
        problem = "; ".join(
            f"{'.'.join(map(str, error['loc']))}: {error['type']}" for error in invalid.errors()[:3]
        )
    except (ValueError, TypeError, KeyError, AttributeError) as unexpected:
        # only messages of our own checks: a library's may quote customer data
        problem = str(unexpected) if isinstance(unexpected, UnfitResponse) else "unexpected form"
    raise InvalidResponse(
        f"{api_call.request_line}: unexpected response ({problem}). It was ignored."
        " If it persists, the API has changed: see the inferred details in the"
        " README.",
        call=api_call.request_line,
        status_code=response.status_code,
    )


def truncated(api_call: ApiCall[Any], status_code: int, how: str) -> ServerError:
    """Make the error for a successful response whose body cannot be read to its end."""
    advice = (
        "The webhook or record may exist all the same: list before creating again."
        if not api_call.idempotent
        else "Try again later."
    )
    return ServerError(
        f"{api_call.request_line}: {api_call.service.name} failed ({status_code}, {how}). {advice}",
        call=api_call.request_line,
        status_code=status_code,
    )


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> timedelta | None:
    """Parse the `Retry-After` header, in either of its forms."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(timedelta(0), timedelta(seconds=float(value)))
    except (ValueError, OverflowError):
        pass
    try:
        date = parsedate_to_datetime(value)
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(timedelta(0), aware - (now or datetime.now(UTC)))
    except (ValueError, OverflowError):
        return None


def _refusal(api_call: ApiCall[Any], response: Response, secrets: tuple[str, ...]) -> TracktorError:
    kind, meaning, advice = _meaning(api_call.service, response.status_code)
    wait = retry_after(response.headers)
    message = _server_message(response, secrets)
    parts = [
        f"{api_call.request_line}: {meaning} ({response.status_code}).",
        quoted(message, call=api_call.request_line),
        f"It asks to wait {wait.total_seconds():.0f} seconds." if wait else "",
        advice,
    ]
    unavailable = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    return kind(
        " ".join(filter(None, parts)),
        call=api_call.request_line,
        status_code=response.status_code,
        retry_after=wait,
        may_have_arrived=response.status_code not in unavailable,
        server_said=message,
    )


def _meaning(service: Service, status_code: int) -> tuple[type[TracktorError], str, str]:
    """Return a status's error, its meaning and advice [inferred: Tracktor documents no errors]."""
    name = service.name
    match status_code:
        case HTTPStatus.BAD_REQUEST if not service.refuses_with_400:
            return UnprocessableValue, f"{name} rejected a value", service.check_value
        case HTTPStatus.BAD_REQUEST | HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return AuthenticationError, f"{name} refused the credentials", service.check_credentials
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            return NotFound, f"{name} does not know {service.unknown}", service.check_id
        case HTTPStatus.TOO_MANY_REQUESTS:
            return (
                RateLimited,
                f"{name} asks for fewer requests",
                "Lower max_concurrency or set requests_per_second in the block's limits.",
            )
        case HTTPStatus.REQUEST_TIMEOUT:
            return ServerError, f"{name} gave up waiting for the request", "Try again later."
        case _ if status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return ServerError, f"{name} failed", "Try again later."
        case _ if status_code >= HTTPStatus.BAD_REQUEST:
            return UnprocessableValue, f"{name} rejected a value", service.check_value
        case _:
            return (
                InvalidResponse,
                f"{name} responded with a redirect or an unknown status",
                f"Check {service.address}.",
            )


def _server_message(response: Response, secrets: tuple[str, ...]) -> str:
    """Find the server's own error message, in the fields or the page title meant for it."""
    body = response.body[:_ERROR_BODY_BYTES]
    try:
        text = " ".join(_messages(from_json(body, allow_partial="trailing-strings")))
    except ValueError:
        title = re.search(rb"<title>([^<]{1,200})</title>", body[:10_000], re.IGNORECASE)
        text = title.group(1).decode("utf-8", "replace") if title else ""
    return shortened(text, secrets=secrets)


def quoted(message: str, *, call: str, ours: str = "") -> str:
    """Quote a server in an error message: public words only; the debug log has the rest."""
    if message:
        _log.debug("%s: the server said %r", call, message)
    public = public_words(message, ours=ours)
    return f"It said: {public!r}." if public else ""


def _messages(body: Any) -> Iterator[str]:
    if not isinstance(body, dict):
        return
    for name in ("error", "error_description", "errors", "message", "detail"):
        yield from _strings(body.get(name))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield f"{key}: {' '.join(_strings(entry))}"
