"""What a message says: templates that shops write, rendered so that nothing in them can do harm."""

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from jinja2 import Template, TemplateSyntaxError, UndefinedError, meta
from jinja2.exceptions import SecurityError
from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, ValidationInfo, field_validator

from prefect_tracktor.block import BLOCK_CONFIG, logo
from prefect_tracktor.errors import InvalidInput, TemplateError
from prefect_tracktor.messages.rendering import (
    LimitedEnvironment,
    TooLong,
    TooMuch,
    environment,
    refuse_too_long,
    within_limits,
)
from prefect_tracktor.models import Fulfillment, Order

_CONTEXT = ("order", "fulfillments", "is_part", "shop", "tracking_page")

_LONGEST_SUBJECT = 200

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
# how Jinja names a template without a file in tracebacks
_TEMPLATE_FILE = "<template>"
_QUOTED = re.compile(r"'(\w+)'")


@dataclass(frozen=True, slots=True)
class ShopInfo:
    """The shop, as a template sees it."""

    name: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class RenderedEmail:
    r"""A message's words, without anything that a mail cannot carry."""

    subject: str
    text: str
    html: str

    def __post_init__(self) -> None:
        subject = one_line(self.subject)
        if len(subject) > _LONGEST_SUBJECT:
            subject = f"{subject[: _LONGEST_SUBJECT - 1].rstrip()}…"
        cleaned = {"subject": subject, "text": _clean(self.text), "html": _clean(self.html)}
        for part, words in cleaned.items():
            object.__setattr__(self, part, words)


def one_line(value: str | None) -> str:
    r"""A text with all white space folded to single blanks, and without control characters."""
    return " ".join(_clean(value or "").split())


def _clean(text: str) -> str:
    """Without control characters and halves of characters, and with one kind of line break."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "\n".join(_CONTROL_CHARACTERS.sub("", line).rstrip() for line in whole.splitlines())


def web_address(value: str | None) -> str:
    """An address as a link may have it: http or https, or nothing."""
    text = (value or "").strip()
    if " " in text or not text.isprintable():
        return ""
    try:
        parts = urlsplit(text)
        if not parts.scheme or "." in parts.scheme:
            text = f"https://{text.removeprefix('//')}"
            parts = urlsplit(text)
        plain = parts.hostname and parts.username is None and parts.port != 0
    except ValueError:
        return ""
    return text if plain and parts.scheme in {"http", "https"} else ""


def tracking_page_address(shop_url: str | None, order: Order) -> str:
    """The customer's own tracking page for an order [vendor]."""
    shop = urlsplit(web_address(shop_url))
    if not (shop.netloc and order.order_name and order.order_email):
        return ""
    query = urlencode(
        {"order": order.order_name, "email": order.order_email}, errors="replace", quote_via=quote
    )
    return f"{shop.scheme}://{shop.netloc}{shop.path.rstrip('/')}/apps/tracktor/track?{query}"


def _packaged(name: str) -> str:
    return (files(__package__) / "default_template" / f"{name}.jinja").read_text("utf-8").strip()


def _subject(kind: str) -> str:
    return _packaged(f"{kind}/subject.txt")


def _body(kind: str, form: str) -> str:
    """A whole template, as a person edits it: the frame with the words of its kind."""
    body = _packaged(f"frame.{form}").replace("[[subject]]", _subject(kind))
    for slot in ("before", "after", "closing"):
        body = body.replace(f"[[{slot}]]", _packaged(f"{kind}/{slot}.{form}"))
    return f"{body}\n"


class EmailTemplate(Block):
    """The text of an email: subject, plain text and HTML, as Jinja templates.

    They may use `order`, `fulfillments` (the order's parcels that the message is about), `is_part`
    (whether the order has more than these, or is still to be sent in part), `shop` (`name`, `url`)
    and `tracking_page` (an address, or empty). A value that is not known prints as nothing. The
    filter `web_address` makes any address safe to link to, and `one_line` keeps a text from
    pretending to be several. In HTML all values are escaped. A template that loops without end, or
    writes more than any message needs, fails.

    Attributes:
        subject: The subject; line breaks become blanks.
        text: The plain text part.
        html: The HTML part.

    Raises:
        pydantic.ValidationError: A template has a syntax error, or uses a name that it is not
            given; the message says which field, line and name.

    Example:
        Write your own words:
        ```python
        from prefect_tracktor import EmailTemplate

        template = EmailTemplate.load("BLOCK_NAME")
        template.subject = "Your order {{ order.order_name }}: we are looking into it"
        template.save("BLOCK_NAME", overwrite=True)
        ```
    """

    _block_type_name = "Tracktor Email Template"
    _block_type_slug = "tracktor-email-template"
    _logo_url = logo("email-edit")
    _description = "The text of an email: subject, plain text and HTML, as Jinja templates."
    _documentation_url = HttpUrl("https://www.theshoppad.com/apps/tracktor/api/docs")

    model_config = BLOCK_CONFIG | ConfigDict(validate_assignment=True)

    subject: str = Field(
        default=_subject("expired"),
        title="Subject",
        description="The subject, as a Jinja template; it may use order, fulfillments, is_part,"
        " shop and tracking_page.",
    )
    text: str = Field(
        default=_body("expired", "txt"),
        title="Plain text",
        description="The plain text part, as a Jinja template; the same names may be used. Drag the"
        " field's lower right corner to see all of it.",
    )
    html: str = Field(
        default=_body("expired", "html"),
        title="HTML",
        description="The HTML part, as a Jinja template; the same names may be used, and all values"
        " are escaped.",
    )

    @field_validator("subject", "text", "html")
    @classmethod
    def _template_is_sound(cls, source: str, info: ValidationInfo) -> str:
        _check(str(info.field_name), source)
        return source

    def render(
        self, order: Order, fulfillments: Sequence[Fulfillment], *, shop: ShopInfo
    ) -> RenderedEmail:
        """Write the message for an order.

        Args:
            order: The order.
            fulfillments: The parcels that the message is about.
            shop: The shop.

        Returns:
            The words.

        Raises:
            TemplateError: A template fails for this order, or what comes of it is empty or too
                long; the message names field, line and order, never a customer.

        Example:
            >>> order = Order(order_id=1, order_name="#1001", customer_first_name="Ada")
            >>> parcels = [Fulfillment(fulfillment_id=7)]
            >>> EmailTemplate().render(order, parcels, shop=ShopInfo("Your Shop")).subject
            'About the tracking of your order #1001'
        """
        context = {
            "order": order,
            "fulfillments": tuple(fulfillments),
            "is_part": _is_part(order, fulfillments),
            "shop": ShopInfo(name=shop.name, url=web_address(shop.url)),
            "tracking_page": tracking_page_address(shop.url, order),
        }
        rendered = RenderedEmail(
            subject=_render("subject", self.subject, context),
            text=_render("text", self.text, context),
            html=_render("html", self.html, context),
        )
        for field in ("subject", "text", "html"):
            if not getattr(rendered, field).strip():
                raise _failure(field, order.order_id, "it comes out empty")
        return rendered

    def verify(self) -> None:
        """Render the message for two made-up orders, one with all details and one with few.

        Raises:
            TemplateError: A template fails; the message names field and line.

        Example:
            >>> EmailTemplate(subject="{{ order.order_name.upper() }}").verify()
            Traceback (most recent call last):
            ...
            prefect_tracktor.errors.TemplateError: the e-mail template's subject fails
            ...
        """
        for order in _made_up_orders():
            self.render(
                order, order.fulfillments, shop=ShopInfo("Your Shop", "https://shop.example")
            )


def _is_part(order: Order, fulfillments: Sequence[Fulfillment]) -> bool:
    to_be_sent = any(
        (parcel.fulfillment_status or "").lower() == "partial" for parcel in order.fulfillments
    )
    return to_be_sent or len(fulfillments) < len(order.fulfillments)


def _made_up_orders() -> list[Order]:
    known = {
        "order_id": 1001,
        "order_name": "#1001",
        "order_email": "ada@example.com",
        "customer_first_name": "Ada",
        "customer_last_name": "Lovelace",
        "customer_full_name": "Ada Lovelace",
        "fulfillments": [
            {
                "fulfillment_id": 7,
                "shop_url": "shop.example",
                "order_name": "#1001",
                "carrier": {"slug": "example-post", "name": "Example Post"},
                "tracking_number": "AB123",
                "tracking_url": "https://post.example/AB123",
                "shipment_status": "in_transit",
                "exception_status": "expired",
                "latest_status": {
                    "key": "in_transit",
                    "label": "In Transit",
                    "datetime": "2026-01-31T10:00:00Z",
                },
                "line_items": [{"name": "Mug", "quantity": 2}],
            }
        ],
    }
    little = {"order_id": 1002, "fulfillments": [{"fulfillment_id": 8}]}
    return [Order.model_validate(facts) for facts in (known, little)]


def status_template() -> EmailTemplate:
    """The default words about a parcel that is in transit, out for delivery or delivered."""
    return EmailTemplate(
        subject=_subject("status"), text=_body("status", "txt"), html=_body("status", "html")
    )


@lru_cache(maxsize=2)
def _environment(*, escape: bool) -> LimitedEnvironment:
    made = environment(escape=escape)
    made.filters |= {"web_address": web_address, "one_line": one_line}
    return made


@lru_cache(maxsize=64)
def _compiled(source: str, *, escape: bool) -> Template:
    return _environment(escape=escape).compiled(source)


def _check(field: str, source: str) -> None:
    environment = _environment(escape=field == "html")
    try:
        tree = environment.parse(source)
        names = meta.find_undeclared_variables(tree) - environment.globals.keys()
        _compiled(source, escape=field == "html")
    except TemplateSyntaxError as wrong:
        raise InvalidInput(f"{field}, line {wrong.lineno}: {wrong.message}") from None
    except (RecursionError, SyntaxError, MemoryError):  # Python's own limits
        raise InvalidInput(f"{field}: it is nested too deeply: make it simpler") from None
    if unknown := names - set(_CONTEXT):
        raise InvalidInput(
            f"{field}: unknown name {', '.join(sorted(unknown))}; a template may use"
            f" {', '.join(_CONTEXT)}"
        )
    if any(meta.find_referenced_templates(tree)):
        raise InvalidInput(f"{field}: a template stands alone; write out what it includes")
    if not source.strip():
        raise InvalidInput(f"{field} is empty: write it, or leave it out for the default")


def _render(field: str, source: str, context: dict[str, Any]) -> str:
    try:
        with within_limits():
            part = _compiled(source, escape=field == "html").render(context)
            refuse_too_long(part)
    except Exception as wrong:  # noqa: BLE001  # a template may divide by zero, call a number ...
        raise _failure(field, context["order"].order_id, _diagnosis(wrong, source)) from None
    return part


def _failure(field: str, order_id: int, problem: str) -> TemplateError:
    return TemplateError(
        f"the e-mail template's {field} fails for order {order_id}: {problem}. Nothing was sent:"
        " correct the EmailTemplate block.",
        may_have_arrived=False,
    )


def _diagnosis(wrong: Exception, source: str) -> str:
    """Line and cause. Of Jinja's words only names from the template: others may be a customer's."""
    lines = [
        line
        for frame, line in traceback.walk_tb(wrong.__traceback__)
        if frame.f_code.co_filename == _TEMPLATE_FILE
    ]
    place = f"line {lines[-1]}: " if lines and not isinstance(wrong, TooLong) else ""
    if isinstance(wrong, TooMuch):
        return f"{place}{wrong}"
    if isinstance(wrong, SecurityError):
        return f"{place}it reaches for something that templates may not use"
    if isinstance(wrong, UndefinedError):
        names = [name for name in _QUOTED.findall(str(wrong)) if name in source]
        return f"{place}unknown name {names[-1]}" if names else f"{place}unknown name"
    return f"{place}{type(wrong).__name__}"
