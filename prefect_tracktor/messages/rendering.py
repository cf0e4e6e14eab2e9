"""Content of a message: words, facts about the order, and the frame around them."""

import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from operator import itemgetter
from typing import Any
from urllib.parse import quote

from prefect_tracktor.messages.limited_jinja import failure, render_template
from prefect_tracktor.messages.template import Brand, EmailTemplate, RenderedEmail, ShopInfo
from prefect_tracktor.messages.values import one_line, tracking_page_address, web_address
from prefect_tracktor.messages.words import About, missing_words, no_words, words_for
from prefect_tracktor.models import Fulfillment, Order, ShipmentStatus, status_key
from prefect_tracktor.times import parse_zone

# a larger message is clipped by Gmail
_MOST_PARCELS = 20
_MOST_ITEMS = 10
_LONGEST_NAME = 120
_LONGEST_PREHEADER = 150

_STAGES = ("ordered", "shipped", "out_for_delivery", "delivered")
# the stage of the parcels in a message, whatever their status: at least, or exactly
_FROM_STAGE = {"expired": 1, "stalled": 1, "in_transit": 1}
_AT_STAGE = {"not_shipped": 0, "out_for_delivery": 2, "delivered": 3, "all_delivered": 3}
_TO_REPLY = frozenset({"expired", "exception"})
_NOTHING_TO_TRACK = frozenset({"not_shipped", "delivered", "all_delivered", "status"})

_FONT = "font-family:-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif;"
_BREAKS = "word-break:break-word;overflow-wrap:anywhere;"
_STYLES = {
    "font": _FONT,
    "words": f"{_FONT}font-size:16px;line-height:1.5;color:#1f2430;{_BREAKS}",
    "quiet": f"{_FONT}font-size:13px;line-height:1.5;color:#5b6472;{_BREAKS}",
    "small": f"{_FONT}font-size:12px;line-height:1.4;color:#5b6472;{_BREAKS}",
}
_WHITE_CARD, _DARK_CARD = "#ffffff", "#22252c"
_VISIBLE = 3.0  # WCAG 2.2, 1.4.11


def render_email(
    template: EmailTemplate,
    order: Order,
    fulfillments: Sequence[Fulfillment],
    shop: ShopInfo,
    *,
    about: About,
    language: str | None,
) -> RenderedEmail:
    """Render the message for an order."""
    about = _of_status(fulfillments) if about == "status" else about
    language = language or language_of(template, order, about)
    if missing_words(about, language, template.words):
        raise no_words(language)
    sentences, labels = words_for(about, language, template.words)
    brand = template.brand
    context: dict[str, Any] = {
        "order": order,
        "fulfillments": tuple(fulfillments),
        "is_part": about != "all_delivered" and _is_part(order, fulfillments),
        "several": len(fulfillments) > 1,
        "status": _status(_shown_status(order, fulfillments), labels),
        "language": language,
        "shop": ShopInfo(
            one_line(brand.shop_name or shop.name),
            web_address(shop.url),
            brand.contact or shop.email,
        ),
        "tracking_page": tracking_page_address(shop.url, order),
    }
    named = labels["part_of_your_order" if context["is_part"] else "your_order"]
    context["your_order"] = f"{named} {one_line(order.order_name)}".rstrip()
    context["this_order"] = labels["this_part" if context["is_part"] else "this_order"]
    texts = {
        name: render_template(f"{name} ({language})", source, context, escape=False)
        for name, source in sentences.items()
        if not (name == "subject" and template.subject)
    }
    if template.subject:
        texts["subject"] = render_template("subject", template.subject, context, escape=False)
    subject = one_line(texts["subject"])
    framed = context | {
        "labels": labels,
        "colon": "\u00a0:" if language.startswith("fr") else ":",
        "brand": brand,
        "look": _look(brand.color),
        "mail": _mail(subject, texts, context, labels, brand, about),
    }
    parts = {"subject": subject}
    for part, name in (("text", "frame.txt.jinja"), ("html", "frame.html.jinja")):
        own = getattr(template, part)
        source, known = (own, context) if own else (frame(name), framed)
        parts[part] = render_template(part, source, known, escape=part == "html")
    for part, words in parts.items():
        if not words.strip():
            raise failure(part, order.order_id, "its result is empty")
    return RenderedEmail(**parts)


@cache
def frame(name: str) -> str:
    """Read a frame, and inline its styles, as mail programs require."""
    source = (files(__package__) / "frames" / name).read_text("utf-8")
    for style, declarations in _STYLES.items():
        source = source.replace(f"[[{style}]]", declarations)
    return source


def language_of(template: EmailTemplate, order: Order, about: str) -> str:
    """Return the customer's language, or else the shop's, if there are words in it."""
    customers = re.split("[-_]", order.facts.locale or "")[0].lower()
    codes = [customers if template.customers_language else "", template.language]
    known = (code for code in codes if code and not missing_words(about, code, template.words))
    return next(known, "en")


def _of_status(fulfillments: Sequence[Fulfillment]) -> About:
    """Return the kind of message for the status that all parcels are in."""
    statuses = {parcel.current_status for parcel in fulfillments}
    for known in ("in_transit", "out_for_delivery", "delivered"):
        if statuses == {known}:
            return known
    return "status"


def _is_part(order: Order, fulfillments: Sequence[Fulfillment]) -> bool:
    is_unsent = any(
        (parcel.fulfillment_status or "").lower() == "partial" for parcel in order.fulfillments
    )
    return is_unsent or len(fulfillments) < len(order.fulfillments)


def _shown_status(order: Order, fulfillments: Sequence[Fulfillment]) -> str | None:
    """Return the parcels' status, or that of an order without parcels, if it has only one."""
    if fulfillments:
        return fulfillments[0].shown_status
    statuses = set(order.statuses)
    return str(statuses.pop()) if len(statuses) == 1 else None


def _status(status: str | None, labels: dict[str, str]) -> str:
    """Return a status in words: our label if there is one, or else the shop's."""
    key = status_key(status or "")
    return labels[key] if key in tuple(ShipmentStatus) else _short(one_line(status))


def _mail(
    subject: str,
    texts: dict[str, str],
    context: dict[str, Any],
    labels: dict[str, str],
    brand: Brand,
    about: About,
) -> dict[str, Any]:
    """Return the values for the frame."""
    order, shop, parcels = context["order"], context["shop"], context["fulfillments"]
    opening = _paragraphs(texts["opening"])
    parts = [_parcel(parcel, labels, brand) for parcel in parcels[:_MOST_PARCELS]]
    track = _track_link(texts, context, labels, parts, about)
    reply = {"label": labels["reply"], "address": _mail_address(shop.email, f"Re: {subject}")}
    buttons = [reply] if shop.email and about in _TO_REPLY else []
    return {
        "subject": subject,
        "headline": one_line(texts.get("headline")) or subject,
        "preheader": one_line(opening[0])[:_LONGEST_PREHEADER] if opening else "",
        "name": one_line(order.customer_first_name),
        "opening": opening,
        "stages": _stages(parcels, labels, about),
        "parcels": parts,
        "more": _more(parcels, _MOST_PARCELS, labels),
        "total": _money(order.total_price, labels, brand.currency),
        "track": track,
        "buttons": [*buttons, *([track] if track else [])],
        "advice": _paragraphs(texts.get("advice", "")),
        "closing": _paragraphs(texts["closing"]),
        "footer": [texts["why"], *_lines(brand.address), *_lines(brand.imprint)],
        "contact_link": _mail_address(brand.contact, f"Re: {subject}"),
    }


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def _lines(text: str) -> list[str]:
    return [line for line in map(one_line, text.splitlines()) if line]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1].rstrip()}…"


def _mail_address(address: str, subject: str) -> str:
    return f"mailto:{quote(address, safe='@')}?subject={quote(subject)}"


def _track_link(
    texts: dict[str, str],
    context: dict[str, Any],
    labels: dict[str, str],
    parcels: Sequence[dict[str, Any]],
    about: str,
) -> dict[str, str] | None:
    links = {parcel["link"] for parcel in parcels}
    address = context["tracking_page"] or (links.pop() if len(links) == 1 else "")
    label = labels["see" if about in _NOTHING_TO_TRACK else "track"]
    label = one_line(texts.get("button")) or label
    return {"label": label, "address": address} if address else None


def _stages(
    parcels: Iterable[Fulfillment], labels: dict[str, str], about: str
) -> list[dict[str, Any]]:
    """Return the progress bar, for the parcel that is least advanced."""
    known = min(map(_stage_of, parcels), default=0)
    reached = _AT_STAGE.get(about, max(known, _FROM_STAGE.get(about, 0)))
    return [
        {"label": labels[name], "reached": place <= reached, "current": place == reached}
        for place, name in enumerate(_STAGES)
    ]


def _stage_of(parcel: Fulfillment) -> int:
    if parcel.is_delivered:
        return 3
    if parcel.current_status == "out_for_delivery":
        return 2
    return int(parcel.has_shipped)


def _parcel(parcel: Fulfillment, labels: dict[str, str], brand: Brand) -> dict[str, Any]:
    named = [parcel.carrier.name, parcel.carrier.slug] if parcel.carrier else []
    carrier = next(filter(None, [*named, parcel.shopify_carrier]), "")
    items = [item for item in parcel.line_items if item.name]
    return {
        "carrier": _short(one_line(carrier)),
        "number": _short(one_line(parcel.tracking_number)),
        "link": web_address(parcel.tracking_url),
        "latest": _latest(parcel, labels, brand),
        "contents": [
            {"quantity": item.quantity, "name": _short(one_line(item.name))}
            for item in items[:_MOST_ITEMS]
        ],
        "more": _more(items, _MOST_ITEMS, labels),
    }


def _more(things: Sequence[Any], most: int, labels: dict[str, str]) -> str:
    left = len(things) - most
    return labels["more"].replace("{count}", str(left)) if left > 0 else ""


def _latest(parcel: Fulfillment, labels: dict[str, str], brand: Brand) -> str:
    """Return time and status of the last scan."""
    dated = [(step.datetime, step) for step in parcel.all_steps if step.datetime]
    if not dated:
        return ""
    time, step = max(dated, key=itemgetter(0))
    at = time.astimezone(parse_zone(brand.time_zone))
    date = labels["date"]
    for name, value in (
        ("day", str(at.day)),
        ("month", labels["months"].split(" ")[at.month - 1]),
        ("year", str(at.year)),
        ("time", at.strftime("%H:%M %Z")),
    ):
        date = date.replace(f"{{{name}}}", value)
    is_built_in = step.key in tuple(ShipmentStatus)
    status = _status(step.key if is_built_in else step.label or step.key, labels)
    return f"{date} ({status})" if status else date


def _money(amount: Any, labels: dict[str, str], currency: str) -> str:
    """Format an amount for its language; empty without a currency."""
    if amount is None or not currency or not amount.is_finite():
        return ""
    whole, _, cents = f"{amount:,f}".partition(".")
    thousands, decimal = tuple(labels["separators"])
    digits = whole.replace(",", thousands) + (decimal + cents.ljust(2, "0") if cents else "")
    is_sign_before = labels["separators"] == ",." and not currency[-1].isalpha()
    return f"{currency}{digits}" if is_sign_before else f"{digits}\u00a0{currency}"


@lru_cache(maxsize=64)
def _look(color: str) -> dict[str, str]:
    """Return the brand's color, visible on light and dark, and the color of text on it."""
    ink = max(("#ffffff", "#000000"), key=lambda ink: contrast(ink, color))
    return {
        "ink": ink,
        "on_white": _visible(color, _WHITE_CARD, toward=0),
        "on_dark": _visible(color, _DARK_CARD, toward=255),
    }


def _visible(color: str, ground: str, *, toward: int) -> str:
    """Mix a color with black or white until it is visible on the ground."""
    for tenth in range(11):
        mixed = [round(part + (toward - part) * tenth / 10) for part in _parts(color)]
        result = "#" + "".join(f"{part:02x}" for part in mixed)
        if contrast(result, ground) >= _VISIBLE:
            break
    return result


def _parts(color: str) -> list[int]:
    return [int(color[place : place + 2], 16) for place in (1, 3, 5)]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colors, from 1 to 21 (WCAG 2.2)."""
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    shares = [part / 255 for part in _parts(color)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(
        share * weight for share, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True)
    )
