"""The block `HttpChannel`: notices as HTTP requests, such as for SMS, chat and marketing."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

import httpx
from prefect.types import SecretDict
from pydantic import (
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from prefect_tracktor.block import TracktorBlock, handbook, logo
from prefect_tracktor.conditions import Condition
from prefect_tracktor.errors import ChannelError, InvalidInput, TemplateError
from prefect_tracktor.forms import one_of
from prefect_tracktor.http.client import HttpClient
from prefect_tracktor.messages.limited_jinja import check_template, failure, render_template
from prefect_tracktor.messages.mailer import Mode
from prefect_tracktor.messages.values import tracking_page_address, valid_unicode
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.text import public_error, refuse_masked
from prefect_tracktor.validation import checked_address, host_of, parsed_address

_BLOCK = "HttpChannel"
_FORM = "application/x-www-form-urlencoded"
_JSON = re.compile(r"application/([\w.+-]+\+)?json")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_RESERVED = {"host", "content-length", "content-type", "transfer-encoding", "connection", "expect"}
_NAMES = (
    "order", "fulfillments", "condition", "conditions", "recipient", "tracking_page", "key",
)  # fmt: skip
_OF_CUSTOMERS = ("order_email", "order_phone")
_SECONDS_FOR_A_CHECK = 10


class HttpChannel(TracktorBlock):
    """The address that notices are posted to, and the template of their body.

    A new channel is in dry run: nothing is posted before its mode is set to live. Values in the
    body are escaped, so that no order's data can change its structure.

    Attributes:
        address: The address to post to: https, or http on this machine. It is kept secret, as it
            contains a key at some services. Redirects are not followed.
        body: A Jinja template of JSON over order, fulfillments, condition, conditions, recipient,
            `tracking_page` and key. Write texts inside quotes, as in `"{{ order.order_name }}"`,
            and lists and numbers with tojson.
        mode: `live`: to the address. `rehearsal`: everything to the rehearsal address instead.
            `dry_run`: nothing is posted. Read when a run starts.
        rehearsal_address: The address for everything in a rehearsal. Headers are sent there only
            if the host is the same.
        method: The HTTP method: `POST`, `PUT` or `PATCH`.
        headers: HTTP headers, such as Authorization with an API key; kept secret.
        content_type: A kind of JSON, or application/x-www-form-urlencoded, which makes a form of
            the body's JSON object.
        recipient: A template of the customer's address at the service, such as
            `{{ order.order_phone }}`. Orders without one are left out, and each recipient gets as
            many messages a day as the ledger allows. Leave it empty if the recipient is not a
            customer.
        success_statuses: The HTTP statuses that mean success. Empty: all from 200 to 299.
        idempotency_header: The header with the notice's key, by which a service recognizes a
            repetition. Empty if it recognizes none, neither by the key in the body; then a notice
            is uncertain if the service fails (500).
        requests_per_second: How many requests the service allows in a second; 0 for no limit.

    Raises:
        pydantic.ValidationError: A value is invalid; the message never repeats a secret.

    Example:
        Check the channel with a made-up order:
        ```python
        from prefect_tracktor import HttpChannel

        channel = HttpChannel.load("BLOCK_NAME")
        channel.verify()
        ```
    """

    _block_type_name = "Tracktor HTTP Channel"
    _block_type_slug = "tracktor-http-channel"
    _logo_url = logo("send")
    _description = "The address and body of notices that are posted as HTTP requests."
    _documentation_url = handbook("how-to/channels.md")

    model_config = ConfigDict(validate_assignment=True)

    address: SecretStr = Field()
    body: str = Field(examples=['{"text": "{{ order.order_name }}: {{ condition.label }}"}'])
    mode: Annotated[Mode, one_of(Mode)] = Mode.DRY_RUN
    rehearsal_address: SecretStr = SecretStr("")
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    headers: SecretDict = Field(default_factory=lambda: SecretDict({}))
    content_type: str = "application/json"
    recipient: str = Field(default="", examples=["{{ order.order_phone }}"])
    success_statuses: list[int] = Field(default=[])
    idempotency_header: str = "Idempotency-Key"
    requests_per_second: float = Field(default=0, ge=0, le=10_000, allow_inf_nan=False)

    @field_validator("address", "rehearsal_address")
    @classmethod
    def _address_is_safe(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        address, field = value.get_secret_value().strip(), str(info.field_name)
        if address or field == "address":
            refuse_masked(address, field=field)
            checked_address(address, field=field)
        return SecretStr(address)

    @field_validator("body", "recipient")
    @classmethod
    def _template_is_valid(cls, source: str, info: ValidationInfo) -> str:
        if info.field_name == "body":
            check_template("body", source, _NAMES, escape="json")
        else:
            check_template("recipient", source, ("order",), escape=False)
        return source

    @field_validator("headers")
    @classmethod
    def _headers_can_be_sent(cls, headers: SecretDict) -> SecretDict:
        for name, value in headers.get_secret_value().items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _RESERVED:
                raise InvalidInput(
                    f"headers: remove {name[:40]!r}, which is no header's name, or which the"
                    " channel sets"
                )
            if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
                raise InvalidInput(
                    f"headers: the value of {name} must be a text of ASCII characters in one line"
                )
        return headers

    @field_validator("content_type")
    @classmethod
    def _content_type_is_known(cls, value: str) -> str:
        kind = value.strip().lower()
        if kind != _FORM and not _JSON.fullmatch(kind):
            raise InvalidInput(f"content_type must be a kind of JSON, or {_FORM}")
        return kind

    @field_validator("success_statuses")
    @classmethod
    def _statuses_mean_success(cls, value: list[int]) -> list[int]:
        # a redirect posts nothing, and 401 or 500 never mean success
        allowed = {*range(200, 300), 409}
        if not allowed.issuperset(value):
            raise InvalidInput("success_statuses: only 200 to 299, and 409 for a repetition")
        return value

    @field_validator("idempotency_header")
    @classmethod
    def _header_name_is_valid(cls, value: str) -> str:
        if value and (not _HEADER_NAME.fullmatch(value) or value.lower() in _RESERVED):
            raise InvalidInput("idempotency_header must be the name of a header, or empty")
        return value

    @model_validator(mode="after")
    def _headers_have_no_fixed_key(self) -> Self:
        # a service would take every notice but the first for a repetition
        if self.idempotency_header.lower() in map(str.lower, self.headers.get_secret_value()):
            raise InvalidInput(
                "headers: remove the one that idempotency_header names, as each notice gets its own"
                " key in it"
            )
        return self

    @model_validator(mode="after")
    def _rehearsal_address_is_another(self) -> Self:
        real, rehearsal = (
            secret.get_secret_value() for secret in (self.address, self.rehearsal_address)
        )
        if self.mode == Mode.REHEARSAL and not rehearsal:
            raise InvalidInput(
                "rehearsal_address is empty, and mode is rehearsal: set where the requests go"
            )
        # at any path, the service would notify the customers in the body
        names_customers = self.recipient or any(name in self.body for name in _OF_CUSTOMERS)
        same = bool(rehearsal) and parsed_address(rehearsal) == parsed_address(real)
        if same or (names_customers and host_of(rehearsal) == host_of(real)):
            raise InvalidInput(
                "rehearsal_address must be another address, and at another host with a recipient,"
                f" or with {' or '.join(_OF_CUSTOMERS)} in the body: the service would notify the"
                " customers"
            )
        return self

    @property
    def is_live(self) -> bool:
        """Whether messages reach the customers."""
        return self.mode == Mode.LIVE

    @property
    def host(self) -> str:
        """The host of the current address, which is not secret."""
        return host_of(self.target)

    @property
    def slug(self) -> str:
        """The host, as a part of an artifact's key."""
        return re.sub(r"[^a-z0-9]+", "-", self.host.partition("://")[2].lower()).strip("-")

    @property
    def target(self) -> str:
        """The address that the current mode posts to."""
        is_rehearsal = self.mode == Mode.REHEARSAL
        return (self.rehearsal_address if is_rehearsal else self.address).get_secret_value()

    def headers_for(self, key: str) -> dict[str, str]:
        """Return the headers of a request for the notice with this key."""
        default = {"content-type": self.content_type, "accept-encoding": "identity"}
        if self.idempotency_header:
            default[self.idempotency_header] = key
        if self.host != host_of(self.address.get_secret_value()):
            return default
        given: Mapping[str, str] = self.headers.get_secret_value()
        for name, value in given.items():
            refuse_masked(value, field=f"headers.{name}")
        # the block's headers win, whatever the letter case of their names
        names = {name.lower() for name in given}
        return {n: v for n, v in default.items() if n.lower() not in names} | dict(given)

    def recipient_of(self, order: Order) -> str:
        """Return the recipient for an order; empty if there is none."""
        context = {"order": order}
        return render_template(
            "recipient", self.recipient, context, escape=False, block=_BLOCK
        ).strip()

    def render(
        self,
        order: Order,
        fulfillments: Sequence[Fulfillment],
        conditions: Sequence[Condition],
        *,
        key: str,
    ) -> bytes:
        """Render the body of a notice.

        Args:
            order: The order.
            fulfillments: The parcels that it is about.
            conditions: The conditions that it is about, at least one.
            key: The key of the notice, the same in each repetition.

        Returns:
            The body, as it is posted.

        Raises:
            TemplateError: The template fails for this order, or its result is not JSON; the message
                names field, line and order, never a customer.

        Example:
            >>> channel = HttpChannel(
            ...     address="https://hooks.example/T0/B0",
            ...     body='{"text": "{{ order.order_name }}: {{ condition.label }}"}',
            ... )
            >>> order = Order(order_id=1, order_name="#1")
            >>> channel.render(order, [], [Condition("stalled")], key="k")
            b'{"text": "#1: Stalled"}'
        """
        shop_url = next((parcel.shop_url for parcel in fulfillments if parcel.shop_url), "")
        text = render_template(
            "body",
            self.body,
            {
                "order": order,
                "fulfillments": list(fulfillments),
                "condition": conditions[0],
                "conditions": list(conditions),
                "recipient": self.recipient_of(order),
                "tracking_page": tracking_page_address(shop_url, order),
                "key": key,
            },
            escape="json",
            block=_BLOCK,
        )
        data = _parsed(text, order)
        if self.content_type != _FORM:
            return json.dumps(data).encode()
        if not isinstance(data, dict) or any(isinstance(v, dict | list) for v in data.values()):
            raise _failure(order, "a form is an object of texts and numbers only")
        fields = {name: value for name, value in data.items() if value is not None}
        return urlencode({n: _form_value(v) for n, v in fields.items()}, errors="replace").encode()

    def check(self) -> None:
        """Check that the host answers, without posting anything.

        Raises:
            ChannelError: It does not answer; the message names the host alone.

        Example:
            >>> from prefect_tracktor.sandbox import Sandbox
            >>> with Sandbox() as tracktor:
            ...     HttpChannel(address=f"{tracktor.base_url}/hook", body="{}").check()
        """
        try:
            with HttpClient(seconds=_SECONDS_FOR_A_CHECK) as client:
                client.send("HEAD", self.host, headers={})
        except httpx.HTTPError as error:
            raise ChannelError(
                f"{self.host} does not answer ({public_error(error)}). Check address of the"
                " HttpChannel block, and the network."
            ) from None

    def verify(self) -> None:
        """Check that the host answers, and render the body for a made-up order.

        Raises:
            ChannelError: The host does not answer.
            TemplateError: The template fails.

        Example:
            >>> HttpChannel(address="https://hooks.example", body='{"a": {{ order }}}').verify()
            Traceback (most recent call last):
            ...
            prefect_tracktor.errors.TemplateError: the HttpChannel's body fails for order 1001: ...
        """
        from prefect_tracktor.messages.preview import made_up_order

        order = made_up_order("expired")
        parcel = order.fulfillments[0]
        self.render(order, [parcel], [Condition("exception:expired", parcel)], key="key")
        self.check()


def _parsed(text: str, order: Order) -> Any:
    try:
        return json.loads(valid_unicode(text), parse_constant=_refuse)
    except (ValueError, RecursionError) as wrong:
        line = getattr(wrong, "lineno", 0)
        place = f"line {line} of the result" if line else "the result"
        raise _failure(
            order, f"{place} is not JSON: write texts in quotes, and other values with tojson"
        ) from None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _form_value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _failure(order: Order, problem: str) -> TemplateError:
    return failure("body", order.order_id, problem, block=_BLOCK)
