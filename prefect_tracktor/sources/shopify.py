"""Order source: a search in Shopify for orders that may still be under way."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from prefect_tracktor.block import TracktorBlock, handbook, logo
from prefect_tracktor.errors import InvalidInput, InvalidResponse
from prefect_tracktor.shopify.api import (
    READ_ALL_ORDERS,
    AddressesDenied,
    ListedOrder,
    OrderPage,
    TooCostly,
)
from prefect_tracktor.shopify.client import ShopifyClient
from prefect_tracktor.shopify.credentials import ShopifyCredentials
from prefect_tracktor.sources.found_orders import FoundOrder, FoundOrders

# Shopify returns 25,000 results of one search at most, and does not say that there are more
RESULTS_A_SEARCH = 20_000

_MAX_PAGE_SIZE = 250
_DELIVERED = "delivered"
_NO_COUNTRIES = (
    "without their country, as Shopify has not approved the app for addresses (Dev Dashboard: API"
    " access, protected customer data)"
)
_DAYS_WITHOUT_READ_ALL_ORDERS = 60
_FULFILLMENT = {
    "fulfilled": "fulfillment_status:fulfilled",
    "partial": "fulfillment_status:partial",
    "fulfilled or partial": "(fulfillment_status:fulfilled OR fulfillment_status:partial)",
    "unfulfilled": "fulfillment_status:unfulfilled",
    "any": "",
}
_QUOTED_OR_PARENTHESIS = re.compile(
    r"""\\.|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|["'()\\]""", re.DOTALL
)


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line of printable characters; take out line breaks and tabs")
    return value.strip()


def _self_contained(search: str) -> str:
    """Refuse a search that would not stay within the parentheses around it."""
    depth = 0
    for mark in _QUOTED_OR_PARENTHESIS.findall(search):
        if mark in {'"', "'", "\\"}:
            raise ValueError(f"the {mark} has no counterpart; close it, or put a \\ before it")
        depth += {"(": 1, ")": -1}.get(mark, 0)
        if depth < 0:
            break
    if depth:
        raise ValueError("the parentheses do not match; close each, or put a \\ before it")
    return search


class ShopifyOrders(TracktorBlock):
    """Finds orders in Shopify that meet all of the conditions below.

    By default these are orders of the last 45 days that have a shipped part, are not cancelled, and
    have a parcel that is not delivered. Each order costs one API call to Tracktor, which may count
    for its plan.

    Attributes:
        credentials: The shop, and the app that may read its orders.
        fulfillment: Which orders to find. Only unfulfilled and any include orders without a shipped
            part; statuses such as Cutting need these.
        created_within_days: Orders created in this many periods of 24 hours before the run; 0 for
            no limit. Beyond 60 days the app also needs the scope read_all_orders.
        updated_within_days: Orders changed in Shopify in this many periods of 24 hours before the
            run reads them; 0 for no limit.
        tag: Orders with this tag; empty for all.
        search: Your own search in Shopify's search syntax, in addition to the other conditions.
        include_delivered: Include orders whose parcels are all delivered according to Shopify.
        include_cancelled: Include cancelled orders.

    Raises:
        pydantic.ValidationError: A value is invalid.

    Example:
        Load a stored block and find the orders:
        ```python
        from prefect_tracktor import ShopifyOrders

        shopify_orders = ShopifyOrders.load("BLOCK_NAME")
        for found in shopify_orders.find_orders():
            print(found.order_id, found.facts.country)
        ```
    """

    _block_type_name = "Tracktor Shopify Orders"
    _block_type_slug = "tracktor-shopify-orders"
    _logo_url = logo("package-variant-closed")
    _description = "Finds the orders in Shopify that flows read in Tracktor."
    _documentation_url = handbook("how-to/shopify-orders.md#which-orders-are-found")

    credentials: ShopifyCredentials = Field(title="Shop")
    fulfillment: Literal["fulfilled", "partial", "fulfilled or partial", "unfulfilled", "any"] = (
        "fulfilled or partial"
    )
    created_within_days: int = Field(default=45, ge=0, le=10_000)
    updated_within_days: int = Field(default=0, ge=0, le=10_000, title="Changed within (days)")
    tag: Annotated[str, AfterValidator(_one_line)] = Field(default="", max_length=255)
    search: Annotated[str, AfterValidator(_one_line), AfterValidator(_self_contained)] = Field(
        default="", max_length=2000, examples=["delivery_method:shipping -tag:wholesale"]
    )
    include_delivered: bool = Field(default=False, title="Include delivered orders")
    include_cancelled: bool = Field(default=False, title="Include cancelled orders")

    @property
    def finds_unfulfilled(self) -> bool:
        """Whether orders without a shipped part are found."""
        return self.fulfillment in {"unfulfilled", "any"}

    def find_orders(self) -> FoundOrders:
        """Find the orders, each once, oldest first.

        Returns:
            The orders, read page by page as you iterate, each with its id and Shopify's facts;
            `note` has the number of orders left out as delivered.

        Raises:
            InvalidInput: While reading: `created_within_days` is more than the app may read. The
                message says what to do.
            AuthenticationError: While reading: Shopify refuses the credentials, or the scope
                `read_orders` is missing.
            TracktorError: While reading: any other error.
        """
        left_out: Counter[str] = Counter()
        hints: list[str] = []
        return FoundOrders(
            self._find(left_out, hints),
            left_out=left_out,
            why_none=lambda: self._why_none(left_out),
            hints=hints,
        )

    def _find(self, left_out: Counter[str], hints: list[str]) -> Iterator[FoundOrder]:
        now = datetime.now(UTC)
        seen: set[int] = set()
        with self.credentials.get_client() as client:
            self._check_window(client)
            search = _OrderSearch(client, self._conditions(now), hints)
            for order in search.orders_since(_back(now, self.created_within_days)):
                if order.order_id in seen:
                    continue
                seen.add(order.order_id)
                if self.include_delivered or not order.is_delivered:
                    yield FoundOrder(order.order_id, order.facts)
                else:
                    left_out[_DELIVERED] += 1

    def _why_none(self, left_out: Counter[str]) -> str:
        if left_out:
            return (
                f"Shopify knows every parcel of the {left_out[_DELIVERED]:,} orders that it finds"
                " as delivered; if they are wanted, set include_delivered of the ShopifyOrders"
            )
        search = self._conditions(datetime.now(UTC)) or "none"
        days = (
            f"the last {self.created_within_days} days" if self.created_within_days else "all time"
        )
        return (
            f"Shopify finds no order of {days} that meets the conditions ({search}); check the shop"
            " and the conditions of the ShopifyOrders"
        )

    def verify(self) -> None:
        """Read the first page of orders, as a check of the search.

        Raises:
            InvalidInput: `created_within_days` is more than the app may read.
            AuthenticationError: Shopify refuses the credentials, or the scope `read_orders` is
                missing.
            TracktorError: Any other error.
        """
        credentials = self.credentials.for_a_check
        next(self.model_copy(update={"credentials": credentials}).find_orders(), None)

    def _check_window(self, client: ShopifyClient) -> None:
        """Refuse a window whose older orders Shopify would leave out without an error."""
        scopes = client.granted_scopes()
        if 0 < self.created_within_days <= _DAYS_WITHOUT_READ_ALL_ORDERS:
            return
        if READ_ALL_ORDERS not in scopes:
            raise InvalidInput(
                f"created_within_days is {self.created_within_days or 'without limit'}, but without"
                f" the scope {READ_ALL_ORDERS} Shopify shows an app the orders of the last"
                f" {_DAYS_WITHOUT_READ_ALL_ORDERS} days only. Set it to"
                f" {_DAYS_WITHOUT_READ_ALL_ORDERS} or less, or request that scope for the app in"
                " the Dev Dashboard."
            )

    def _conditions(self, now: datetime) -> str:
        """Return all conditions in Shopify's search syntax, except for the time of creation."""
        conditions = (
            _FULFILLMENT[self.fulfillment],
            "" if self.include_cancelled else "-status:cancelled",
            _since("updated_at", _back(now, self.updated_within_days)),
            f"tag:{quoted(self.tag)}" if self.tag else "",
            f"({self.search})" if self.search else "",
        )
        return " ".join(filter(None, conditions))


def quoted(value: str) -> str:
    r"""Quote a value for Shopify's search syntax."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _back(now: datetime, days: int) -> datetime | None:
    return now - timedelta(days=days) if days else None


def _since(field: str, time: datetime | None) -> str:
    """Return a condition on the time of a field, to the second; empty without a time."""
    return f"{field}:>='{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}'" if time else ""


class _OrderSearch:
    """Search for orders, oldest first, whatever their number; some are found twice."""

    def __init__(self, client: ShopifyClient, conditions: str, hints: list[str]) -> None:
        self._client = client
        self._conditions = conditions
        self._hints = hints
        self._page_size = _MAX_PAGE_SIZE
        self._addresses = True

    def orders_since(self, since: datetime | None) -> Iterator[ListedOrder]:
        """Search again from the last order on whenever Shopify may have left out later ones."""
        created = _since("created_at", since)
        while True:
            length = 0
            for order in islice(self._orders(created), RESULTS_A_SEARCH):
                length += 1
                yield order
            if length < RESULTS_A_SEARCH:
                return
            before, created = created, _since("created_at", order.created_at)
            if created == before:
                raise InvalidResponse(
                    f"Shopify lists more than {RESULTS_A_SEARCH:,} orders of the same second;"
                    " narrow the search of the ShopifyOrders block."
                )

    def _orders(self, created: str) -> Iterator[ListedOrder]:
        search = f"{created} {self._conditions}".strip()
        after, cursors = "", {""}
        while True:
            page = self._page(search, after)
            yield from page.orders
            after = page.next_cursor
            if not after:
                return
            if after in cursors:
                raise InvalidResponse(
                    "Shopify gave the same cursor twice while listing orders, so the list cannot be"
                    " read to its end. Run it again."
                )
            cursors.add(after)

    def _page(self, search: str, after: str) -> OrderPage:
        """Read a page; from then on, pages are smaller or without addresses if Shopify says so."""
        while True:
            try:
                return self._client.list_orders(
                    search, after=after, first=self._page_size, addresses=self._addresses
                )
            except TooCostly:
                # Shopify has changed the cost of a query more than once
                if self._page_size == 1:
                    raise
                self._page_size //= 2
            except AddressesDenied:
                if not self._addresses:
                    raise
                self._addresses = False
                self._hints.append(_NO_COUNTRIES)
