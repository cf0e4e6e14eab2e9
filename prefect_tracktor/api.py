"""Tracktor's seven API calls as plain values, with the parsing of their responses. No I/O.

What the vendor has not published is marked [inferred], here and in `models`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from json import dumps
from typing import Any, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.http.call import ApiCall, Method, Service, UnfitResponse
from prefect_tracktor.models import (
    Carrier,
    Fulfillment,
    LenientModel,
    LineItem,
    Order,
    StatusOption,
    TrackingStatus,
    Webhook,
    WebhookId,
    WebhookTopic,
    status_key,
)
from prefect_tracktor.text import form_of
from prefect_tracktor.validation import checked_address, checked_id

M = TypeVar("M", bound=LenientModel)


_PATH = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*(\.json)?(\?[A-Za-z0-9_.~%&=+-]*)?")
_LONGEST_PATH = 2_000
_TEXT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_ENVELOPE_FIELDS = {"success", "ok", "error", "errors", "count", "total", "page", "message"}
_OPTION_DETAILS = {
    "id", "color", "colour", "icon", "image", "position", "order", "sort", "type", "description",
    "enabled", "active", "visible", "default", "custom", "created_at", "updated_at",
}  # fmt: skip
_OPTION_FIELDS = set(StatusOption.KEY_FIELDS) | set(StatusOption.LABEL_FIELDS)

# Fields that say where a parcel is and whether its customer may be notified. If one of them cannot
# be read, the response is unreadable, unless the caller needs less: unknown is not "not delivered".
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

_PARTS: dict[str, type[BaseModel]] = {
    "fulfillments": Fulfillment,
    "carrier": Carrier,
    "line_items": LineItem,
    "latest_status": TrackingStatus,
    "status": TrackingStatus,
}

TRACKTOR = Service(
    name="Tracktor",
    address="base_url of the TracktorCredentials block",
    unknown="this id",
    check_credentials="Check uuid and api_key of the TracktorCredentials block: both belong to one"
    " shop.",
    check_id="Check that it is the Shopify id (not the order's name) and belongs to this shop.",
    check_value="Correct the value; the shop's statuses are what get_status_options lists.",
)


def get_fulfillment(
    fulfillment_id: int, *, needs: Collection[str] = DECISIVE_FIELDS_OF_PARCELS
) -> ApiCall[Fulfillment]:
    """Retrieve the tracking status of a fulfillment [doc]."""
    valid_id = checked_id(fulfillment_id, field="fulfillment_id")
    read = _reader(Fulfillment, "fulfillment", valid_id, needs)
    return ApiCall("GET", f"fulfillments/{valid_id}.json", read, TRACKTOR)


def get_order(order_id: int, *, needs: Collection[str] = DECISIVE_FIELDS) -> ApiCall[Order]:
    """Retrieve the tracking statuses of an order [doc]."""
    valid_id = checked_id(order_id, field="order_id")
    read = _reader(Order, "order", valid_id, needs)
    return ApiCall("GET", f"orders/{valid_id}.json", read, TRACKTOR)


def _reader(
    model: type[M], kind: str, requested: int, needs: Collection[str]
) -> Callable[[Any], M]:
    needed = _checked_needs(needs, model)

    def read(body: Any) -> M:
        found = model.model_validate(_unwrapped(body, kind))
        _refuse_another(getattr(found, f"{kind}_id"), requested)
        # a field that cannot be read must not pass for one that is absent
        if unreadable := found.unreadable_fields & needed:
            raise UnfitResponse(f"cannot read {', '.join(sorted(unreadable))}")
        return found

    return read


def update_order(
    order_id: int,
    *,
    status: str | None = None,
    automatic_carrier_updates: bool | None = None,
    force: bool | None = None,
) -> ApiCall[Order]:
    """Set an order's manual tracking status, or hand it back to the carrier [doc]."""
    valid_id = checked_id(order_id, field="order_id")
    flags = {"automatic_carrier_updates": automatic_carrier_updates, "force": force}
    _refuse_unwritable(status, flags)
    given = {"status": status} | flags
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes.keys() - {"force"}:
        raise InvalidInput("nothing to update: give status or automatic_carrier_updates")

    def read(body: Any) -> Order:
        unwrapped = _unwrapped(body, "order")
        fields = unwrapped if isinstance(unwrapped, dict) else {}
        order = Order.model_validate({"order_id": valid_id} | fields)
        _refuse_another(order.order_id, valid_id)
        return order

    return ApiCall(
        "POST",
        f"orders/{valid_id}.json",
        read,
        TRACKTOR,
        json={"order": changes},
        may_be_empty=True,
    )


def _refuse_unwritable(status: object, flags: Mapping[str, object]) -> None:
    if status is not None and not (isinstance(status, str) and status.strip()):
        raise InvalidInput("status must be a label; leave it out to keep the order's status")
    for name, flag in flags.items():
        if not isinstance(flag, bool | None):
            raise InvalidInput(f"{name} must be true, false or left out; not {form_of(flag)}")


def get_status_options() -> ApiCall[list[StatusOption]]:
    """List the shop's tracking statuses, built in and its own [doc]."""

    def read(body: Any) -> list[StatusOption]:
        return [StatusOption.model_validate(option) for option in _status_options(body)]

    return ApiCall("GET", "status-options.json", read, TRACKTOR)


def list_webhooks() -> ApiCall[list[Webhook]]:
    """List the account's webhooks [doc]."""

    def read(body: Any) -> list[Webhook]:
        webhooks = _unwrapped(body, "webhooks")
        entries = webhooks.values() if isinstance(webhooks, dict) else webhooks or ()
        return [Webhook.model_validate(_unwrapped(entry, "webhook")) for entry in entries]

    return ApiCall("GET", "webhooks.json", read, TRACKTOR)


def create_webhook(*, topic: WebhookTopic | str, address: str) -> ApiCall[Webhook]:
    """Create a webhook [doc]. The body's form is by analogy with Shopify's [inferred]."""
    if str(topic) not in set(WebhookTopic):
        raise InvalidInput(
            f"topic must be one of {', '.join(WebhookTopic)}; not {str(topic)[:60]!r}"
        )
    sent = {"topic": str(topic), "address": checked_address(address, field="address")}

    def read(body: Any) -> Webhook:
        fields = _unwrapped(body, "webhook")
        return Webhook.model_validate(sent | fields if isinstance(fields, dict) else fields)

    return ApiCall(
        "POST",
        "webhooks.json",
        read,
        TRACKTOR,
        idempotent=False,
        json={"webhook": sent},
        # anyone who knows the address can post to it
        secrets=(address, urlsplit(address).path.strip("/")),
    )


def delete_webhook(webhook_id: WebhookId) -> ApiCall[None]:
    """Delete a webhook [doc]."""
    if not (isinstance(webhook_id, str) and _TEXT_ID.fullmatch(webhook_id)):
        webhook_id = checked_id(webhook_id, field="webhook_id")
    return ApiCall(
        "DELETE",
        f"webhooks/{webhook_id}.json",
        lambda _body: None,
        TRACKTOR,
        may_be_empty=True,
        missing_ok=True,
    )


def any_call(method: str, path: str, json: Mapping[str, Any] | None = None) -> ApiCall[Any]:
    """Make a call that this package does not know yet, with the same checks as the others."""
    if type(method) is not str or method not in get_args(Method):
        raise InvalidInput(
            f"method must be one of {', '.join(get_args(Method))}; not {form_of(method)}"
        )
    if type(path) is not str or len(path) > _LONGEST_PATH or not _PATH.fullmatch(path):
        raise InvalidInput(
            f"path must be relative to the account, such as 'orders/1001.json'; not {form_of(path)}"
        )
    try:
        dumps(json, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput(
            "json must be what JSON can hold: objects with text as keys, lists, text, numbers"
        ) from None
    return ApiCall(
        method,  # type: ignore[arg-type]  # just compared with the literals
        path,
        lambda body: body,
        TRACKTOR,
        idempotent=method in {"GET", "PUT", "DELETE"},
        json=json,
        may_be_empty=method != "GET",
    )


def _refuse_another(found: int, requested: int) -> None:
    # a response about another order would become an email to the wrong customer
    if found != requested:
        raise UnfitResponse("it is about another id")


def _checked_needs(needs: object, model: type[BaseModel]) -> frozenset[str]:
    """Refuse unknown names: nothing would be checked for them."""
    if isinstance(needs, str | Mapping) or not isinstance(needs, Collection):
        raise InvalidInput(f"needs must be a set of names of fields, not {form_of(needs)}")
    try:
        return _names_of_fields(frozenset(needs), model)
    except TypeError:
        raise InvalidInput("needs must be a set of names of fields") from None


@lru_cache(maxsize=64)  # called for each id
def _names_of_fields(names: frozenset[Any], model: type[BaseModel]) -> frozenset[str]:
    for name in names:
        if not (isinstance(name, str) and _is_field(name, model)):
            raise InvalidInput(f"needs: a response has no field {form_of(name)}")
    return names


def _is_field(name: str, model: type[BaseModel]) -> bool:
    whole, dot, part = name.partition(".")
    return whole in model.model_fields and (
        not dot or (whole in _PARTS and _is_field(part, _PARTS[whole]))
    )


def _unwrapped(body: Any, name: str) -> Any:
    """Take the object out of `{"order": {...}}`; envelopes are [inferred]."""
    if isinstance(body, dict) and isinstance(body.get(name), dict | list):
        return body[name]
    return body


def _status_options(body: Any) -> Iterator[Any]:
    """Find the options at any depth [inferred]."""
    if isinstance(body, list):
        for entry in body:
            if _is_pair(entry):
                yield {"key": entry[0], "label": entry[1]}
            else:
                yield from _status_options(entry)
    elif isinstance(body, str):
        yield from [body] if body.strip() else []
    elif isinstance(body, dict) and _is_option(body):
        yield body
    elif isinstance(body, dict):
        yield from _options_in(body)


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
    """Whether the fields are the details of an option under its key."""
    is_flat = not any(isinstance(value, dict | list) for value in fields.values())
    return bool(fields) and is_flat and fields.keys() <= _OPTION_DETAILS


def _is_pair(entry: Any) -> bool:
    """Whether an entry is a pair of key and label."""
    is_two = isinstance(entry, list) and len(entry) == 2 and all(map(_is_text, entry))
    return is_two and entry[0] == status_key(entry[0]) != entry[1]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
