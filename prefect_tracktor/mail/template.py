"""What a message says: templates that shops write, rendered so that nothing in them can do harm."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from jinja2 import StrictUndefined, TemplateSyntaxError, meta
from jinja2 import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, model_validator

from prefect_tracktor.errors import InvalidInput, TracktorError
from prefect_tracktor.models import Fulfillment, Order

CONTEXT = ("order", "fulfillments", "shop", "tracking_page")

_LARGEST_PART_CHARACTERS = 1_000_000
_LONGEST_SUBJECT = 250


class TemplateError(TracktorError, ValueError):
    """A template cannot be rendered for an order. Nothing was sent.

    Example:
        >>> issubclass(TemplateError, TracktorError)
        True
    """


@dataclass(frozen=True, slots=True)
class ShopInfo:
    """The shop, as a template sees it.

    Attributes:
        name: What the shop is called.
        url: The shop's address; may be empty.

    Example:
        >>> ShopInfo(name="Your Shop").url
        ''
    """

    name: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class RenderedEmail:
    """A message's words.

    Attributes:
        subject: One line.
        text: The plain text part.
        html: The HTML part.

    Example:
        >>> RenderedEmail("Hello", "Hello.", "<p>Hello.</p>").subject
        'Hello'
    """

    subject: str
    text: str
    html: str


def web_address(value: str | None) -> str:
    """An address as a link may have it: http or https, or nothing.

    Args:
        value: An address from the shop or the carrier; a bare host name counts as https.

    Returns:
        The address, or an empty string for anything that should not be followed.

    Example:
        >>> web_address("shop.example"), web_address("javascript:alert(1)")
        ('https://shop.example', '')
    """
    text = (value or "").strip()
    if not text or not text.isprintable() or " " in text:
        return ""
    try:
        parts = urlsplit(text)
        if not parts.scheme or "." in parts.scheme:
            text = f"https://{text.removeprefix('//')}"
            parts = urlsplit(text)
    except ValueError:
        return ""
    return text if parts.scheme in {"http", "https"} and parts.hostname else ""


def tracking_page_address(shop_url: str | None, order: Order) -> str:
    """The customer's own tracking page for an order [vendor].

    Args:
        shop_url: The shop's address, as fulfillments hold it.
        order: The order.

    Returns:
        The address; an empty string where the shop's address, the order's name or the e-mail
        address is unknown.

    Example:
        >>> order = Order(order_id=1, order_name="#1001", order_email="ada@example.com")
        >>> tracking_page_address("shop.example", order)
        'https://shop.example/apps/tracktor/track?order=%231001&email=ada%40example.com'
    """
    shop = web_address(shop_url).rstrip("/")
    if not (shop and order.order_name and order.order_email):
        return ""
    query = urlencode({"order": order.order_name, "email": order.order_email}, errors="replace")
    return f"{shop}/apps/tracktor/track?{query}"


def _default(name: str) -> str:
    return (files(__package__) / "default_template" / name).read_text("utf-8")


class EmailTemplate(Block):
    """What customers are written: subject, plain text and HTML, as Jinja templates.

    They may use `order`, `fulfillments` (the order's parcels that the message is about), `shop`
    (`name`, `url`) and `tracking_page` (an address, or empty). The filter `web_address` makes any
    address safe to link to. Customers' and shops' texts are escaped in HTML.

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
    _description = "What customers are written: subject, plain text and HTML, as Jinja templates."
    _documentation_url = HttpUrl("https://www.theshoppad.com/apps/tracktor/api/docs")

    subject: str = Field(
        default=_default("subject.txt.jinja").strip(),
        title="Subject",
        description="The subject, as a Jinja template; it may use order, fulfillments and shop.",
    )
    text: str = Field(
        default=_default("text.txt.jinja"),
        title="Plain text",
        description="The plain text part, as a Jinja template.",
        json_schema_extra={"format": "multiline"},
    )
    html: str = Field(
        default=_default("html.html.jinja"),
        title="HTML",
        description="The HTML part, as a Jinja template; customers' texts are escaped.",
        json_schema_extra={"format": "multiline"},
    )

    @model_validator(mode="after")
    def _templates_are_sound(self) -> Self:
        for field in ("subject", "text", "html"):
            _check(field, getattr(self, field))
        return self

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
            TemplateError: A template fails for this order, or its outcome is empty or endless;
                the message names field and order, never a customer.

        Example:
            >>> order = Order(order_id=1, order_name="#1001", customer_first_name="Ada")
            >>> parcels = [Fulfillment(fulfillment_id=7)]
            >>> EmailTemplate().render(order, parcels, shop=ShopInfo("Your Shop")).subject
            'Your order #1001: we are looking into your delivery'
        """
        context = {
            "order": order,
            "fulfillments": list(fulfillments),
            "shop": ShopInfo(name=shop.name, url=web_address(shop.url)),
            "tracking_page": tracking_page_address(shop.url, order),
        }
        subject = " ".join(_render("subject", self.subject, context).split())
        if not subject:
            raise TemplateError(f"the template's subject is empty for order {order.order_id}")
        if len(subject) > _LONGEST_SUBJECT:
            subject = subject[: _LONGEST_SUBJECT - 1] + "…"
        return RenderedEmail(
            subject=subject,
            text=_render("text", self.text, context),
            html=_render("html", self.html, context),
        )


@lru_cache(maxsize=2)
def _environment(*, escape: bool) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=escape, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["web_address"] = web_address
    return environment


@lru_cache(maxsize=64)
def _compiled(field: str, source: str) -> Any:
    return _environment(escape=field == "html").from_string(source)


def _check(field: str, source: str) -> None:
    environment = _environment(escape=field == "html")
    try:
        unknown = meta.find_undeclared_variables(environment.parse(source)) - {*CONTEXT, "range"}
        _compiled(field, source)
    except JinjaError as wrong:
        line = f"line {wrong.lineno}: " if isinstance(wrong, TemplateSyntaxError) else ""
        raise InvalidInput(f"{field}: {line}{wrong.message}") from None
    if unknown:
        raise InvalidInput(
            f"{field}: unknown name {', '.join(sorted(unknown))}; a template may use"
            f" {', '.join(CONTEXT)}"
        )


def _render(field: str, source: str, context: dict[str, Any]) -> str:
    order_id = context["order"].order_id
    try:
        parts = list(islice(_compiled(field, source).generate(context), _LARGEST_PART_CHARACTERS))
        rendered = "".join(parts)
    except JinjaError as wrong:
        problem = _without_values(wrong)
    except Exception as wrong:  # noqa: BLE001  # a template may divide by zero, or call what is no function
        problem = type(wrong).__name__
    else:
        if len(rendered) > _LARGEST_PART_CHARACTERS:
            raise TemplateError(f"the template's {field} has no end for order {order_id}")
        return _clean(rendered)
    raise TemplateError(
        f"the template's {field} fails for order {order_id}: {problem}. Nothing was sent: correct"
        " the EmailTemplate block."
    )


def _without_values(wrong: JinjaError) -> str:
    """What Jinja says of names is safe; the rest may quote a customer's data."""
    message = wrong.message or ""
    return (
        message if "has no attribute" in message or "undefined" in message else type(wrong).__name__
    )


def _clean(text: str) -> str:
    """Without what no mail can carry: control characters, and halves of characters."""
    return "".join(
        character
        for character in text
        if character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cs"}
    )
