"""The seven API calls as plain values: what to send, and how to read what comes back. No I/O.

Every choice that the vendor has not published is made here or in `models`, and marked [inferred].
"""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from json import dumps
from typing import Any, Generic, Literal, SupportsIndex, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import from_json

from prefect_tracktor.errors import (
    BadCredentials,
    InvalidInput,
    NotFound,
    RateLimited,
    RejectedValue,
    ServerTrouble,
    TracktorError,
    UnreadableAnswer,
)
from prefect_tracktor.masking import form_of, public_words, redact
from prefect_tracktor.models import (
    Fulfillment,
    LenientModel,
    Order,
    StatusOption,
    Webhook,
    WebhookId,
    WebhookTopic,
    status_key,
)
from prefect_tracktor.parsing import LARGEST_ID

T = TypeVar("T")
M = TypeVar("M", bound=LenientModel)

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

_DIGITS = re.compile(r"[1-9][0-9]{0,18}")
_EXACT_FLOATS_BELOW = 2**53
_PATH = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*(\.json)?(\?[A-Za-z0-9_.~%&=+-]*)?")
_TEXT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SAID_AT_MOST = 200
_ERROR_BODY_LOOKED_AT = 64 * 1024

_log = logging.getLogger(__name__)
_ENVELOPE_FIELDS = {"success", "ok", "error", "errors", "count", "total", "page", "message"}
_OPTION_DETAILS = {
    "id", "color", "colour", "icon", "image", "position", "order", "sort", "type", "description",
    "enabled", "active", "visible", "default", "custom", "created_at", "updated_at",
}  # fmt: skip
_OPTION_FIELDS = set(StatusOption.KEY_FIELDS) | set(StatusOption.LABEL_FIELDS)

# What says where a parcel is and whether a customer may be told. If one of these cannot be read, an
# answer is unreadable as a whole, unless the caller needs less: unknown is not "not delivered".
DECISIVE_FIELDS_OF_PARCELS = frozenset(
    {
        "order_id",
        "exception_status",
        "fulfillment_status",
        "shipment_status",
        "is_automatic",
        "latest_status",
        "latest_status.key",
        "latest_status.label",
    }
)
DECISIVE_FIELDS = frozenset(
    {"automatic_carrier_updates", "exception_statuses", "fulfillments", "statuses"}
    | {f"fulfillments.{name}" for name in DECISIVE_FIELDS_OF_PARCELS}
)


class Retries(Enum):
    """When a call may be sent again.

    Example:
        >>> get_order(1).retries is Retries.ANY_TROUBLE
        True
    """

    ANY_TROUBLE = "the call can be repeated without harm"
    NOT_RECEIVED = "only if the server surely did not act on it"


@dataclass(frozen=True, slots=True)
class Service:
    """Who answers a call, and what to check when it refuses: words for error messages.

    Attributes:
        name: What the service is called.
        address: Which field says where it is.
        unknown: What it does not know when it answers "not found".
        check_credentials: What to do when it refuses the credentials.
        check_id: What to do when it does not know something.
        check_value: What to do when it rejects a value.
        refuses_with_400: Whether a 400, too, means that it refuses the credentials.

    Example:
        >>> TRACKTOR.name
        'Tracktor'
    """

    name: str
    address: str
    unknown: str
    check_credentials: str
    check_id: str
    check_value: str
    refuses_with_400: bool = False


TRACKTOR = Service(
    name="Tracktor",
    address="base_url of the TracktorCredentials block",
    unknown="this id",
    check_credentials="Check uuid and api_key of the TracktorCredentials block: both belong to one"
    " shop.",
    check_id="Check that it is the Shopify id (not the order's name) and belongs to this shop.",
    check_value="Correct the value; the shop's statuses are what get_status_options lists.",
)


@dataclass(frozen=True)  # generic: see Batch about slots
class Endpoint(Generic[T]):
    """One call: what to send, whether it may be repeated, and how to read the answer.

    Attributes:
        method: The HTTP method.
        path: The path below the account, validated.
        read: Turns the decoded JSON (`None` for an empty body) into the result; raises
            `ValueError`, `TypeError` or `KeyError` when it is not what was asked for.
        retries: When the call may be sent again.
        json: The body, or `None`.
        may_be_empty: Whether an empty answer is a success.
        gone_is_done: Whether "not found" after a repeated call means that the first one worked.
        service: Who answers.
        secrets: What was sent and must not be repeated from what the server said.

    Example:
        >>> get_order(1001).call
        'GET orders/1001.json'
    """

    method: Method
    path: str
    read: Callable[[Any], T]
    retries: Retries = Retries.ANY_TROUBLE
    json: Mapping[str, Any] | None = None
    may_be_empty: bool = False
    gone_is_done: bool = False
    service: Service = TRACKTOR
    secrets: tuple[str, ...] = ()

    @property
    def call(self) -> str:
        """The call for error messages: method and path below the account."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from the server: status, headers (lower case) and the whole body.

    Example:
        >>> Answer(200, {}, b'{"order": {"order_id": 7}}').status_code
        200
    """

    status_code: int
    headers: Mapping[str, str]
    body: bytes


def get_fulfillment(
    fulfillment_id: int, *, needs: Collection[str] = DECISIVE_FIELDS_OF_PARCELS
) -> Endpoint[Fulfillment]:
    """Retrieve the tracking status of a fulfillment [doc].

    Args:
        fulfillment_id: The Shopify id of the fulfillment.
        needs: The fields without which the answer is of no use: if one of them is there and cannot
            be read, nothing is. Any other is `None` then, and in `unreadable_fields`.

    Returns:
        The call; its result is the `Fulfillment`.

    Raises:
        InvalidInput: The id is not a positive whole number.

    Example:
        >>> get_fulfillment(7).path
        'fulfillments/7.json'
    """
    valid_id = checked_id(fulfillment_id, field="fulfillment_id")

    def read(answer: Any) -> Fulfillment:
        fulfillment = Fulfillment.model_validate(_unwrapped(answer, "fulfillment"))
        return _readable(_same_id(fulfillment, fulfillment.fulfillment_id, valid_id), needs)

    return Endpoint("GET", f"fulfillments/{valid_id}.json", read)


def get_order(order_id: int, *, needs: Collection[str] = DECISIVE_FIELDS) -> Endpoint[Order]:
    """Retrieve the tracking statuses of an order [doc].

    Args:
        order_id: The Shopify id of the order.
        needs: The fields without which the answer is of no use, as of `get_fulfillment`; those of
            parcels as `fulfillments.shipment_status`.

    Returns:
        The call; its result is the `Order`.

    Raises:
        InvalidInput: The id is not a positive whole number.

    Example:
        >>> get_order(1001).read({"order": {"order_id": 1001, "order_name": "#1"}}).order_name
        '#1'
    """
    valid_id = checked_id(order_id, field="order_id")

    def read(answer: Any) -> Order:
        order = Order.model_validate(_unwrapped(answer, "order"))
        return _readable(_same_id(order, order.order_id, valid_id), needs)

    return Endpoint("GET", f"orders/{valid_id}.json", read)


def update_order(
    order_id: int,
    *,
    status: str | None = None,
    automatic_carrier_updates: bool | None = None,
    force: bool | None = None,
) -> Endpoint[Order]:
    """Set an order's manual tracking status, or hand it back to the carrier [doc].

    The body's envelope `{"order": {...}}` is [inferred]. What the answer holds is unpublished: the
    result has the fields that it does hold, and at least the order's id [inferred].

    Args:
        order_id: The Shopify id of the order.
        status: The label of a built-in or custom status, as entered in the dashboard [vendor].
        automatic_carrier_updates: `False` where custom statuses are used, `True` to hand the order
            back to the carrier; left out, the order keeps its setting [vendor].
        force: Whether to set the status in any case; the vendor recommends true [vendor].

    Returns:
        The call; its result is the `Order` as far as the answer shows it.

    Raises:
        InvalidInput: The id is not a positive whole number, the status is blank, or nothing is set.

    Example:
        >>> update_order(1001, status="Sewing").json
        {'order': {'status': 'Sewing'}}
    """
    valid_id = checked_id(order_id, field="order_id")
    flags = {"automatic_carrier_updates": automatic_carrier_updates, "force": force}
    _refuse_unwritable(status, flags)
    given = {"status": status} | flags
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes.keys() - {"force"}:
        raise InvalidInput("nothing to update: give status or automatic_carrier_updates")

    def read(answer: Any) -> Order:
        unwrapped = _unwrapped(answer, "order")
        fields = unwrapped if isinstance(unwrapped, dict) else {}
        order = Order.model_validate({"order_id": valid_id} | fields)
        return _same_id(order, order.order_id, valid_id)

    return Endpoint(
        "POST", f"orders/{valid_id}.json", read, json={"order": changes}, may_be_empty=True
    )


def _refuse_unwritable(status: object, flags: Mapping[str, object]) -> None:
    if status is not None and not (isinstance(status, str) and status.strip()):
        raise InvalidInput("status must be a label; leave it out to keep the order's status")
    for name, flag in flags.items():
        if not isinstance(flag, bool | None):
            raise InvalidInput(f"{name} must be true, false or left out; not {form_of(flag)}")


def get_status_options() -> Endpoint[list[StatusOption]]:
    """List the shop's tracking statuses, built in and its own [doc].

    The answer's shape is unpublished: lists, objects keyed by status and groups of either are read,
    wrapped or not [inferred].

    Returns:
        The call; its result is the list of `StatusOption`.

    Example:
        >>> [option.label for option in get_status_options().read(["Cutting", "Sewing"])]
        ['Cutting', 'Sewing']
    """

    def read(answer: Any) -> list[StatusOption]:
        return [StatusOption.model_validate(option) for option in _status_options(answer)]

    return Endpoint("GET", "status-options.json", read)


def list_webhooks() -> Endpoint[list[Webhook]]:
    """List the account's webhooks [doc].

    Returns:
        The call; its result is the list of `Webhook`.

    Example:
        >>> list_webhooks().read({"webhooks": []})
        []
    """

    def read(answer: Any) -> list[Webhook]:
        webhooks = _unwrapped(answer, "webhooks")
        entries = webhooks.values() if isinstance(webhooks, dict) else webhooks or ()
        return [Webhook.model_validate(_unwrapped(entry, "webhook")) for entry in entries]

    return Endpoint("GET", "webhooks.json", read)


def create_webhook(*, topic: WebhookTopic | str, address: str) -> Endpoint[Webhook]:
    """Create a webhook [doc]. The body's form is by analogy with Shopify's [inferred].

    Creating is repeated only when the server surely did not act on it, so that no webhook is made
    twice.

    Args:
        topic: One of the ten documented topics.
        address: Where Tracktor shall post to: https, or http on this machine.

    Returns:
        The call; its result is the `Webhook`.

    Raises:
        InvalidInput: The topic is not documented, or the address is not one that may be posted to.

    Example:
        >>> create_webhook(topic="order/delivered", address="https://shop.example/hook").json
        {'webhook': {'topic': 'order/delivered', 'address': 'https://shop.example/hook'}}
    """
    if str(topic) not in set(WebhookTopic):
        raise InvalidInput(
            f"topic must be one of {', '.join(WebhookTopic)}; not {str(topic)[:60]!r}"
        )
    body = {"topic": str(topic), "address": checked_address(address, field="address")}

    def read(answer: Any) -> Webhook:
        fields = _unwrapped(answer, "webhook")
        return Webhook.model_validate(body | fields if isinstance(fields, dict) else fields)

    return Endpoint(
        "POST",
        "webhooks.json",
        read,
        retries=Retries.NOT_RECEIVED,
        json={"webhook": body},
        # whoever knows the address can post to it
        secrets=(address, urlsplit(address).path.strip("/")),
    )


def delete_webhook(webhook_id: WebhookId) -> Endpoint[None]:
    """Delete a webhook [doc].

    Args:
        webhook_id: The id as `list_webhooks` gives it: a number, or text as of MongoDB [inferred].

    Returns:
        The call; it has no result.

    Raises:
        InvalidInput: The id is neither a positive whole number nor letters and digits.

    Example:
        >>> delete_webhook(3).call
        'DELETE webhooks/3.json'
    """
    if not (isinstance(webhook_id, str) and _TEXT_ID.fullmatch(webhook_id)):
        checked_id(webhook_id, field="webhook_id")
    return Endpoint(
        "DELETE",
        f"webhooks/{webhook_id}.json",
        lambda _answer: None,
        may_be_empty=True,
        gone_is_done=True,
    )


def any_call(method: str, path: str, json: Mapping[str, Any] | None = None) -> Endpoint[Any]:
    """Make a call that this pack does not know yet, under the same guards as the others.

    Args:
        method: `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
        path: The path below the account, such as `orders/1001.json`; a query is allowed.
        json: The body.

    Returns:
        The call; its result is the decoded JSON, `None` for an empty answer to a write.

    Raises:
        InvalidInput: The method or the path is not of that form.

    Example:
        >>> any_call("GET", "orders/1001/notes.json").retries.name
        'ANY_TROUBLE'
    """
    if method not in get_args(Method):
        raise InvalidInput(f"method must be one of {', '.join(get_args(Method))}; not {method!r}")
    if type(path) is not str or not _PATH.fullmatch(path):
        raise InvalidInput(
            "path must be relative to the account, such as 'orders/1001.json'; not"
            f" {str(path)[:60]!r}"
        )
    try:
        dumps(json)
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput(
            "json must be what JSON can hold: objects with text as keys, lists, text, numbers"
        ) from None
    repeatable = method in {"GET", "PUT", "DELETE"}
    return Endpoint(
        method,  # type: ignore[arg-type]  # just compared with the literals
        path,
        lambda answer: answer,
        retries=Retries.ANY_TROUBLE if repeatable else Retries.NOT_RECEIVED,
        json=json,
        may_be_empty=method != "GET",
    )


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


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


def interpret(endpoint: Endpoint[T], answer: Answer, *, secrets: tuple[str, ...] = ()) -> T:
    """Read an answer, or say what is wrong with it.

    Args:
        endpoint: The call that was made.
        answer: What came back.
        secrets: Strings that must not be repeated from what the server said.

    Returns:
        The call's result.

    Raises:
        TracktorError: The subclass that fits the status or the body.

    Example:
        >>> interpret(get_order(7), Answer(404, {}, b""))
        Traceback (most recent call last):
        ...
        prefect_tracktor.errors.NotFound: GET orders/7.json: Tracktor does not know this id ...
    """
    if not HTTPStatus.OK <= answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
        raise _refusal(endpoint, answer, (*secrets, *endpoint.secrets))
    if not answer.body.strip() and endpoint.may_be_empty:
        return endpoint.read(None)
    try:
        decoded = from_json(answer.body)
    except ValueError:
        raise cut_off(endpoint, answer.status_code, "its answer was not JSON") from None
    try:
        return endpoint.read(decoded)
    except ValidationError as invalid:
        problem = "; ".join(
            f"{'.'.join(map(str, error['loc']))}: {error['type']}" for error in invalid.errors()[:3]
        )
    except (ValueError, TypeError, KeyError, AttributeError) as unexpected:
        # the words of our own checks only: those of a library may quote the customer's data
        problem = str(unexpected) if isinstance(unexpected, _UnfitError) else "unexpected form"
    raise UnreadableAnswer(
        f"{endpoint.call}: the answer is not what was asked for ({problem}). Nothing was taken from"
        " it. If it persists, the API has changed: see the inferred details in the README.",
        call=endpoint.call,
        status_code=answer.status_code,
    )


def cut_off(endpoint: Endpoint[Any], status_code: int, how: str) -> ServerTrouble:
    """The error for an answer that began well and cannot be read to its end.

    Args:
        endpoint: The call that was made.
        status_code: The status that the answer began with.
        how: What is wrong with it, for the message.

    Returns:
        The error to raise.

    Example:
        >>> str(cut_off(get_order(7), 200, "its answer was cut off"))[:59]
        'GET orders/7.json: Tracktor had trouble (200, its answer wa'
    """
    advice = (
        "The webhook or record may exist all the same: list before creating again."
        if endpoint.retries is Retries.NOT_RECEIVED
        else "Try again later."
    )
    return ServerTrouble(
        f"{endpoint.call}: {endpoint.service.name} had trouble ({status_code}, {how}). {advice}",
        call=endpoint.call,
        status_code=status_code,
    )


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> timedelta | None:
    """How long the server asks to be left alone, in either form of the header.

    Args:
        headers: The answer's headers, lower case.
        now: The present, for tests; an aware time.

    Returns:
        The time to wait, never negative; `None` without a header or with an unreadable one.

    Example:
        >>> retry_after({"retry-after": "7"})
        datetime.timedelta(seconds=7)
    """
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


def _refusal(endpoint: Endpoint[Any], answer: Answer, secrets: tuple[str, ...]) -> TracktorError:
    kind, meaning, advice = _meaning(endpoint.service, answer.status_code)
    wait = retry_after(answer.headers)
    said = _what_the_server_said(answer, secrets)
    parts = [
        f"{endpoint.call}: {meaning} ({answer.status_code}).",
        quoted(said, call=endpoint.call),
        f"It asks to wait {wait.total_seconds():.0f} seconds." if wait else "",
        advice,
    ]
    unavailable = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    return kind(
        " ".join(filter(None, parts)),
        call=endpoint.call,
        status_code=answer.status_code,
        retry_after=wait,
        may_have_arrived=answer.status_code not in unavailable,
        server_said=said,
    )


def _meaning(service: Service, status_code: int) -> tuple[type[TracktorError], str, str]:
    """What a status means, and what to do about it [inferred: Tracktor documents no error]."""
    name = service.name
    match status_code:
        case HTTPStatus.BAD_REQUEST if not service.refuses_with_400:
            return RejectedValue, f"{name} rejected a value", service.check_value
        case HTTPStatus.BAD_REQUEST | HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return BadCredentials, f"{name} refused the credentials", service.check_credentials
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            return NotFound, f"{name} does not know {service.unknown}", service.check_id
        case HTTPStatus.TOO_MANY_REQUESTS:
            return (
                RateLimited,
                f"{name} asks for fewer requests",
                "Lower max_concurrency or set requests_per_second in the block's limits.",
            )
        case HTTPStatus.REQUEST_TIMEOUT:
            return ServerTrouble, f"{name} gave up waiting for the request", "Try again later."
        case _ if status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return ServerTrouble, f"{name} had trouble", "Try again later."
        case _ if status_code >= HTTPStatus.BAD_REQUEST:
            return RejectedValue, f"{name} rejected a value", service.check_value
        case _:
            return (
                UnreadableAnswer,
                f"{name} answered with a redirect or an unknown status",
                f"Check {service.address}.",
            )


def _what_the_server_said(answer: Answer, secrets: tuple[str, ...]) -> str:
    """The server's own words on an error, from the fields that are meant for messages.

    Cut before anything searches it: a body may be large.
    """
    body = answer.body[:_ERROR_BODY_LOOKED_AT]
    try:
        words = " ".join(_messages(from_json(body, allow_partial="trailing-strings")))
    except ValueError:
        title = re.search(rb"<title>([^<]{1,200})</title>", body[:10_000], re.IGNORECASE)
        words = title.group(1).decode("utf-8", "replace") if title else ""
    return in_short(words, secrets=secrets)


def in_short(words: str, *, secrets: tuple[str, ...] = ()) -> str:
    r"""Somebody else's words on one line, short, without secrets, e-mail addresses and phones.

    Names and streets are left: this is for an error's `server_said`, not for its message.

    Args:
        words: For example what a server said about an error.
        secrets: Strings that must not be repeated.

    Returns:
        At most some 200 characters.

    Example:
        >>> in_short("no such  customer:\n ada@example.com")
        'no such customer: [e-mail]'
    """
    looked_at = words[: 10 * _SAID_AT_MOST]
    folded = " ".join(redact(looked_at, secrets=secrets).split())
    return folded if len(folded) <= _SAID_AT_MOST else folded[:_SAID_AT_MOST] + "…"


def quoted(said: str, *, call: str, ours: str = "") -> str:
    """Quote a server in an error message: public words only, and where the rest is.

    Args:
        said: What the server said, without secrets; written whole to the DEBUG log.
        call: The call that it answered.
        ours: Text that was sent; its words may be repeated.

    Returns:
        A sentence, or nothing if the server said nothing that may be stored.

    Example:
        >>> quoted("status is invalid for Ada Lovelace", call="POST orders/1.json")
        "It said: 'status is invalid for …'."
    """
    if said:
        _log.debug("%s: the server said %r", call, said)
    public = public_words(said, ours=ours)
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


class _UnfitError(ValueError):
    """The answer is of no use; the message holds ids and names of fields only."""


def _same_id(read: T, found: int, asked: int) -> T:
    """An answer about another order would become a letter to the wrong customer."""
    if found != asked:
        raise _UnfitError("it is about another id")
    return read


def _readable(read: M, needs: Collection[str]) -> M:
    """What cannot be read is unknown, and must not pass for something that is not there."""
    if unknown := read.unreadable_fields.intersection(needs):
        raise _UnfitError(f"cannot read {', '.join(sorted(unknown))}")
    return read


def _unwrapped(answer: Any, name: str) -> Any:
    """`{"order": {...}}` and the bare object alike; envelopes are unpublished [inferred]."""
    if isinstance(answer, dict) and isinstance(answer.get(name), dict | list):
        return answer[name]
    return answer


def _status_options(answer: Any) -> Iterator[Any]:
    """Find the options in whatever nesting they come [inferred]."""
    if isinstance(answer, list):
        for entry in answer:
            yield from [_pair(entry)] if _is_pair(entry) else _status_options(entry)
    elif isinstance(answer, str):
        yield from [answer] if answer.strip() else []
    elif isinstance(answer, dict) and _is_option(answer):
        yield answer
    elif isinstance(answer, dict):
        yield from _options_in(answer)


def _options_in(fields: dict[str, Any]) -> Iterator[Any]:
    nested = any(isinstance(value, dict | list) for value in fields.values())
    named = any(isinstance(value, str) for value in fields.values())
    for key, value in fields.items():
        if isinstance(value, dict | list):
            yield from _options_under(key, value)
        elif isinstance(value, str):
            # beside a list of options, a text is about something else
            yield from [] if nested or not value.strip() else [{"key": key, "label": value}]
        elif not (nested or named or key in _ENVELOPE_FIELDS):
            yield key  # an object of flags or numbers by status


def _options_under(key: str, value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    if isinstance(value, dict) and _is_option(value):
        return [{"key": key} | value]
    if isinstance(value, dict) and _are_details(value):
        return [key]
    return _status_options(value)


def _is_option(fields: dict[str, Any]) -> bool:
    texts = {name for name in _OPTION_FIELDS if _is_text(fields.get(name))}
    # an envelope may have a name or a status, too
    is_envelope = any(isinstance(value, dict | list) and value for value in fields.values())
    return bool(texts & {"key", "label"} or (texts and not is_envelope))


def _are_details(fields: dict[str, Any]) -> bool:
    """Whether they describe the option that they stand under."""
    is_flat = not any(isinstance(value, dict | list) for value in fields.values())
    return bool(fields) and is_flat and fields.keys() <= _OPTION_DETAILS


def _is_pair(entry: Any) -> bool:
    """Key and label."""
    is_two = isinstance(entry, list) and len(entry) == 2 and all(map(_is_text, entry))
    return is_two and entry[0] == status_key(entry[0]) != entry[1]


def _pair(entry: list[str]) -> dict[str, str]:
    return {"key": entry[0], "label": entry[1]}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
