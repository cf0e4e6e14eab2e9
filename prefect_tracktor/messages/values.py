"""Safe values for messages: one line, no control characters, web addresses."""

import re
from urllib.parse import quote, urlencode, urlsplit

from prefect_tracktor.models import Order

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def one_line(value: str | None) -> str:
    """Fold all white space to single blanks, and remove control characters."""
    return " ".join(clean(value or "").split())


def clean(text: str) -> str:
    """Remove control characters and half surrogate pairs, and normalize line breaks."""
    lines = valid_unicode(text).splitlines()
    return "\n".join(_CONTROL_CHARACTERS.sub("", line).rstrip() for line in lines)


def valid_unicode(text: str) -> str:
    """Replace half surrogate pairs, which UTF-8 cannot encode."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def web_address(value: str | None) -> str:
    """Return an http or https address that is safe to link to, or nothing."""
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
    """Return the address of the customer's tracking page for an order [vendor]."""
    shop = urlsplit(web_address(shop_url))
    if not (shop.netloc and order.order_name and order.order_email):
        return ""
    query = urlencode(
        {"order": order.order_name, "email": order.order_email}, errors="replace", quote_via=quote
    )
    return f"{shop.scheme}://{shop.netloc}{shop.path.rstrip('/')}/apps/tracktor/track?{query}"
