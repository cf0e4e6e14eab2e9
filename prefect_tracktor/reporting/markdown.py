"""Markdown in which text from outside stays text: cells, tables, links."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from prefect_tracktor.messages.values import web_address
from prefect_tracktor.models import Fulfillment, Order

_CELL_CHARACTERS_AT_MOST = 500
_URL_CHARACTERS_AT_MOST = 1000

# by backslashes, not entities: Prefect's older UI shows entities as they are written
_ESCAPED = str.maketrans({mark: f"\\{mark}" for mark in "&<>|`*_[]()!~#$\\"})
_START_OF_A_LIST = re.compile(r"^(\d{0,9})([-+.])(?=[\s-]|$)")
_WORD_JOINER = "\u2060"
_INSIDE_A_LINK = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
# what ends neither a markdown link nor a table cell; without a semicolon there is no entity
_SAFE_IN_URL = "/:?#@!&'*+,=%~-._"


@dataclass(frozen=True, slots=True)
class Link:
    """A cell that links to a web address; text alone if the address is not http or https."""

    text: str
    url: str

    def __str__(self) -> str:
        return self.text

    @property
    def markdown(self) -> str:
        """The link as markdown, whatever its text and its address hold."""
        url = web_address(self.url)
        if not url or len(url) > _URL_CHARACTERS_AT_MOST:
            return plain(self.text)
        # the older UI shows a link's text as it is written, so nothing is escaped without need
        text = plain(self.text).replace("\\#", "#") or "link"
        return f"[{text}]({quote(url, safe=_SAFE_IN_URL, errors='replace')})"


Cell = str | int | Link
Row = Mapping[str, Cell]


def clean(text: object) -> str:
    """One line without control characters, of a length that fits into a table."""
    line = " ".join(str(text).split())
    cleaned = "".join(character for character in line if character.isprintable())
    if len(cleaned) > _CELL_CHARACTERS_AT_MOST:
        return cleaned[:_CELL_CHARACTERS_AT_MOST] + "…"
    return cleaned


def plain(text: object) -> str:
    """Write text so that markdown shows it as it is: no markup, HTML, link or line break."""
    escaped = _START_OF_A_LIST.sub(r"\1\\\2", clean(text).translate(_ESCAPED))
    # a reader turns even escaped addresses into links; an unseen character inside prevents it
    return _INSIDE_A_LINK.sub(_WORD_JOINER, escaped)


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Write a markdown table whose cells are shown as they are, whatever they hold."""
    if any(len(row) != len(headers) for row in rows):
        raise ValueError(f"each row must have {len(headers)} cells, one for each header")
    numeric = [
        bool(rows) and all(isinstance(cell, int) for cell in column)
        for column in zip(*rows, strict=True)
    ]
    rule = ["---:" if right else "---" for right in numeric or [False] * len(headers)]
    lines = [map(plain, headers), rule, *(map(cell_markdown, row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def cell_markdown(cell: Cell) -> str:
    """A cell of a markdown table."""
    if isinstance(cell, Link):
        return cell.markdown
    return f"{cell:,}" if isinstance(cell, int) else plain(cell)


def admin_link(order: Order) -> Cell:
    """The order's name, linked to its page in the Shopify admin as far as the shop is known."""
    name = order.order_name or str(order.order_id)
    url = admin_url(shop_of(order.fulfillments), order.order_id)
    return Link(name, url) if url else name


def admin_url(shop: str, order_id: int | None) -> str:
    """The address of an order's page in the Shopify admin; empty if something is not known."""
    if not (shop and order_id):
        return ""
    handle = shop.removesuffix(".myshopify.com")
    # a shop's own domain leads to its admin, too
    admin = f"{shop}/admin" if handle == shop else f"admin.shopify.com/store/{handle}"
    return f"https://{admin}/orders/{order_id}"


def shop_of(parcels: Iterable[Fulfillment]) -> str:
    """The host name of the shop of some parcels; empty if it is not known."""
    url = next((parcel.shop_url for parcel in parcels if parcel.shop_url), None)
    return urlsplit(web_address(url)).hostname or ""


def tracking_link(parcel: Fulfillment) -> Cell:
    """The carrier's name, linked to the parcel's tracking page as far as there is one."""
    name = carrier_of(parcel)
    url = web_address((parcel.tracking_url or "").partition(", ")[0])
    return Link(name or urlsplit(url).hostname or "", url) if url else name


def carrier_of(parcel: Fulfillment) -> str:
    """The name of a parcel's carrier; empty if it is not known."""
    carrier = parcel.carrier
    return (carrier and (carrier.name or carrier.slug)) or parcel.shopify_carrier or ""
