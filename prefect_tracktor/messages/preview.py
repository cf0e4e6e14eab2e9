"""Messages without personal data, to look at before any is sent."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from prefect_tracktor.errors import TemplateError
from prefect_tracktor.messages.template import EmailTemplate, RenderedEmail, ShopInfo
from prefect_tracktor.messages.words import KINDS, LANGUAGES, About, missing_words
from prefect_tracktor.messages.writing import language_of, write
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.text import mask_email, redact

_SHOP = ShopInfo("Your Shop", "https://shop.example", "help@shop.example")
_LAST_DIGITS = 4

_STATES: dict[str, dict[str, Any]] = {
    "expired": {"exception_status": "expired", "shipment_status": "in_transit"},
    "exception": {"exception_status": "exception", "shipment_status": "in_transit"},
    "stalled": {"shipment_status": "in_transit"},
    "not_shipped": {"tracking_number": None, "tracking_url": None, "latest_status": None},
    "in_transit": {"shipment_status": "in_transit"},
    "out_for_delivery": {"shipment_status": "out_for_delivery"},
    "delivered": {"shipment_status": "delivered"},
    "all_delivered": {"shipment_status": "delivered"},
    "status": {"shipment_status": "Sewing", "tracking_number": None, "tracking_url": None},
}

_INDEX = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Messages to customers</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root {{ color-scheme: light dark; font-family: system-ui, sans-serif; }}
body {{ margin: 2em auto; max-width: 60em; padding: 0 1em; }} td, th {{ padding: .3em 1em .3em 0;
text-align: left; vertical-align: top; }}</style></head>
<body><h1>Messages to customers</h1><p>Written for a made-up order. Nothing was sent.</p>
{tables}</body></html>
"""


def made_up_order(about: About) -> Order:
    """An order with all details, in the state that a message is about."""
    state = _STATES[about]
    parcel = {
        "fulfillment_id": 7,
        "shop_url": "shop.example",
        "order_name": "#1001",
        "carrier": {"slug": "example-post", "name": "Example Post"},
        "tracking_number": "AB123456789",
        "tracking_url": "https://post.example/AB123456789",
        "latest_status": {
            "key": state.get("shipment_status"),
            "datetime": "2026-01-31T10:00:00Z",
        },
        "line_items": [{"name": "Blue mug", "quantity": 2}, {"name": "Linen shirt", "quantity": 1}],
    }
    return Order.model_validate(
        {
            "order_id": 1001,
            "order_name": "#1001",
            "order_email": "ada@example.com",
            "customer_first_name": "Ada",
            "customer_last_name": "Lovelace",
            "customer_full_name": "Ada Lovelace",
            "total_price": "59.90",
            "fulfillments": [parcel | state],
        }
    )


def masked(order: Order) -> Order:
    """An order with its personal data made unreadable, and without fields that may hold some."""
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
    """A parcel with the end of its tracking number only, which opens the carrier's page."""
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
    # a name may have a single character
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
    """Write the message for a made-up order, or for one whose personal data is masked."""
    shown = made_up_order(about) if order is None else masked(order)
    language = language or language_of(template, order or shown, about)
    parcels = shown.fulfillments
    if fulfillments is not None:
        parcels = tuple(masked_parcel(parcel) for parcel in fulfillments)
    return write(template, shown, parcels, shop or _SHOP, about=about, language=language)


def verify(template: EmailTemplate) -> None:
    """Write each message of a template, in each language, with all details and with few."""
    for about in KINDS:
        few = Order.model_validate({"order_id": 1002, "fulfillments": [{"fulfillment_id": 8}]})
        for order in (made_up_order(about), few):
            for language in _languages(template, about):
                parcels = order.fulfillments
                write(template, order, parcels, _SHOP, about=about, language=language)


def _languages(template: EmailTemplate, about: str) -> list[str]:
    known = dict.fromkeys([*LANGUAGES, *(words.language for words in template.words)])
    return [one for one in known if not missing_words(about, one, template.words)]


def write_gallery(folder: Path, templates: Mapping[str, EmailTemplate]) -> Path:
    """Write all messages of templates in all languages, and the page that links them."""
    tables = [
        f"<h2>{escape(name)}</h2>{_write_template(folder / name, template)}"
        for name, template in templates.items()
    ]
    index = folder / "index.html"
    index.write_text(_INDEX.format(tables="\n".join(tables)), encoding="utf-8")
    return index


def _write_template(folder: Path, template: EmailTemplate) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for about in KINDS:
        languages = _languages(template, about)
        cells = "".join(_write(folder, template, about, language) for language in languages)
        rows.append(f"<tr><th>{about}</th>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _write(folder: Path, template: EmailTemplate, about: About, language: str) -> str:
    try:
        email = template.preview(about=about, language=language)
    except TemplateError as error:
        return f"<td>{escape(str(error))}</td>"
    file = folder / f"{about}-{language}.html"
    file.write_text(email.html, encoding="utf-8")
    return f'<td><a href="{folder.name}/{file.name}">{escape(email.subject)}</a></td>'
