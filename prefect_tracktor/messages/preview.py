"""Previews of messages, without personal data."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment

from prefect_tracktor.errors import TemplateError
from prefect_tracktor.messages.rendering import frame, language_of, render_email
from prefect_tracktor.messages.template import EmailTemplate, RenderedEmail, ShopInfo
from prefect_tracktor.messages.words import KINDS, LANGUAGES, About, missing_words
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.text import mask_email, redact

_SHOP = ShopInfo("Your Shop", "https://shop.example", "help@shop.example")
_LAST_DIGITS = 4


def made_up_order(about: About) -> Order:
    """Return an order with all details, in the state that a message is about."""
    data = json.loads(frame("made_up_order.json"))
    parcel, state = data["parcel"], data["states"][about]
    parcel["latest_status"]["key"] = state.get("shipment_status")
    return Order.model_validate(data["order"] | {"fulfillments": [parcel | state]})


def masked(order: Order) -> Order:
    """Return an order with masked personal data, and without other fields that may hold some."""
    names = ("customer_first_name", "customer_last_name", "customer_full_name")
    kept = ("order_id", "order_name", "order_created_at", "total_price", "line_item_count")
    return Order.model_validate(
        {name: getattr(order, name) for name in (*kept, "statuses", "exception_statuses")}
        | {name: _initial(getattr(order, name)) for name in names}
        | {
            "order_email": mask_email(order.order_email),
            "fulfillments": [masked_parcel(parcel) for parcel in order.fulfillments],
        }
    )


def masked_parcel(parcel: Fulfillment) -> Fulfillment:
    """Return a parcel with only the end of its tracking number, which opens the carrier's page."""
    number = parcel.tracking_number
    kept = ("fulfillment_id", "carrier", "shopify_carrier", "fulfillment_status")
    status = ("shipment_status", "exception_status", "latest_status", "status")
    return Fulfillment.model_validate(
        {name: getattr(parcel, name) for name in (*kept, *status)}
        | {
            "tracking_number": f"***{number[-_LAST_DIGITS:]}" if number else None,
            "line_items": [
                {"name": redact(item.name or ""), "quantity": item.quantity}
                for item in parcel.line_items
            ],
        }
    )


def _initial(name: str | None) -> str | None:
    # nothing of a name with a single character
    return f"{name[: len(name) > 1]}***" if name else None


def preview(
    template: EmailTemplate,
    order: Order | None,
    fulfillments: Sequence[Fulfillment] | None,
    shop: ShopInfo | None,
    *,
    about: About,
    language: str | None,
) -> RenderedEmail:
    """Render the message for a made-up order, or for a masked one."""
    shown = made_up_order(about) if order is None else masked(order)
    language = language or language_of(template, order or shown, about)
    parcels = shown.fulfillments
    if fulfillments is not None:
        parcels = tuple(masked_parcel(parcel) for parcel in fulfillments)
    return render_email(template, shown, parcels, shop or _SHOP, about=about, language=language)


def verify(template: EmailTemplate) -> None:
    """Render each message of a template, in each language, with all details and with few."""
    for about in KINDS:
        few = Order.model_validate({"order_id": 1002, "fulfillments": [{"fulfillment_id": 8}]})
        for order in (made_up_order(about), few):
            for language in _languages(template, about):
                parcels = order.fulfillments
                render_email(template, order, parcels, _SHOP, about=about, language=language)


def _languages(template: EmailTemplate, about: str) -> list[str]:
    known = dict.fromkeys([*LANGUAGES, *(words.language for words in template.words)])
    return [code for code in known if not missing_words(about, code, template.words)]


def write_gallery(folder: Path, templates: Mapping[str, EmailTemplate]) -> Path:
    """Write all messages of templates in all languages, and a page with links to them."""
    messages = {name: _write_all(folder / name, template) for name, template in templates.items()}
    index = folder / "index.html"
    page = Environment(autoescape=True).from_string(frame("gallery.html.jinja"))
    index.write_text(page.render(templates=messages), encoding="utf-8")
    return index


def _write_all(folder: Path, template: EmailTemplate) -> dict[str, list[tuple[str, str]]]:
    """Write a template's messages; return their files and subjects by kind of message."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        about: [_write(folder, template, about, code) for code in _languages(template, about)]
        for about in KINDS
    }


def _write(folder: Path, template: EmailTemplate, about: About, language: str) -> tuple[str, str]:
    try:
        email = template.preview(about=about, language=language)
    except TemplateError as error:
        return "", str(error)
    file = f"{about}-{language}.html"
    (folder / file).write_text(email.html, encoding="utf-8")
    return file, email.subject
