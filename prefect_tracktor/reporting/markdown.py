"""Markdown cells, tables and links, safe for text from outside."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from prefect_tracktor.messages.values import web_address
from prefect_tracktor.models import Fulfillment, Order

_CELL_CHARACTERS_AT_MOST = 500
_URL_CHARACTERS_AT_MOST = 1000

# with backslashes: Prefect's older UI does not decode entities
_ESCAPED = str.maketrans({mark: f"\\{mark}" for mark in "&<>|`*_[]()!~#$\\"})
_START_OF_A_LIST = re.compile(r"^(\d{0,9})([-+.])(?=[\s-]|$)")
_WORD_JOINER = "\u2060"
_INSIDE_A_LINK = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
# none of these ends a markdown link or a table cell; without a semicolon there is no entity
_SAFE_IN_URL = "/:?#@!&'*+,=%~-._"


@dataclass(frozen=True, slots=True)
class Link:
    """Cell with a link to an http or https address; for any other address, text alone."""

    text: str
    url: str

    def __str__(self) -> str:
        return self.text

    @property
    def markdown(self) -> str:
        url = web_address(self.url)
        if not url or len(url) > _URL_CHARACTERS_AT_MOST:
            return plain(self.text)
        # the older UI shows backslashes in a link's text, so it has no more than it needs
        text = plain(self.text).replace("\\#", "#") or "link"
        return f"[{text}]({quote(url, safe=_SAFE_IN_URL, errors='replace')})"


Cell = str | int | Link
Row = Mapping[str, Cell]


def clean(text: object) -> str:
    """Return one line without control characters, truncated for a table."""
    line = " ".join(str(text).split())
    cleaned = "".join(character for character in line if character.isprintable())
    if len(cleaned) > _CELL_CHARACTERS_AT_MOST:
        return cleaned[:_CELL_CHARACTERS_AT_MOST] + "…"
    return cleaned


def plain(text: object) -> str:
    """Escape text, so that markdown shows it as it is: no markup, HTML, link or line break."""
    escaped = _START_OF_A_LIST.sub(r"\1\\\2", clean(text).translate(_ESCAPED))
    # markdown turns even escaped addresses into links; an invisible character prevents it
    return _INSIDE_A_LINK.sub(_WORD_JOINER, escaped)


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a markdown table, with all cells escaped."""
    if any(len(row) != len(headers) for row in rows):
        raise ValueError(f"each row must have {len(headers)} cells, one for each header")
    numeric = [
        bool(rows) and all(isinstance(cell, int) for cell in column)
        for column in zip(*rows, strict=True)
    ]
    rule = ["---:" if right else "---" for right in numeric or [False] * len(headers)]
    lines = [map(plain, headers), rule, *(map(_cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        return cell.markdown
    return f"{cell:,}" if isinstance(cell, int) else plain(cell)


def admin_link(order: Order) -> Cell:
    """Return the order's name, with a link to its page in the Shopify admin if known."""
    name = order.order_name or str(order.order_id)
    url = admin_url(shop_of(order.fulfillments), order.order_id)
    return Link(name, url) if url else name


def admin_url(shop: str, order_id: int | None) -> str:
    """Return the address of an order's page in the Shopify admin; empty if unknown."""
    if not (shop and order_id):
        return ""
    handle = shop.removesuffix(".myshopify.com")
    # the admin is at a custom domain, too
    admin = f"{shop}/admin" if handle == shop else f"admin.shopify.com/store/{handle}"
    return f"https://{admin}/orders/{order_id}"


def shop_of(parcels: Iterable[Fulfillment]) -> str:
    """Return the host name of the parcels' shop; empty if unknown."""
    url = next((parcel.shop_url for parcel in parcels if parcel.shop_url), None)
    return urlsplit(web_address(url)).hostname or ""


def tracking_link(parcel: Fulfillment) -> Cell:
    """Return the carrier's name, with a link to the parcel's tracking page if there is one."""
    name = carrier_of(parcel)
    url = web_address((parcel.tracking_url or "").partition(", ")[0])
    return Link(name or urlsplit(url).hostname or "", url) if url else name


def carrier_of(parcel: Fulfillment) -> str:
    """Return the name of a parcel's carrier; empty if unknown."""
    carrier = parcel.carrier
    return (carrier and (carrier.name or carrier.slug)) or parcel.shopify_carrier or ""
