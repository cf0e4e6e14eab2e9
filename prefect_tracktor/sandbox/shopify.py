"""The slice of Shopify that finds orders: tokens, two queries, paging, throttle; over a shop."""

import datetime as dt
import re
import secrets
import time
from bisect import bisect_right
from collections.abc import Collection, Iterator
from http import HTTPStatus
from itertools import chain, islice
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json

from prefect_tracktor.models import ShipmentStatus
from prefect_tracktor.sandbox.replies import Refusal, reply
from prefect_tracktor.sandbox.search import MalformedSearch, Search, parse_search
from prefect_tracktor.sandbox.shop import Shop

CLIENT_ID = "sandbox-client-id"
CLIENT_SECRET = "sandbox-client-secret"  # noqa: S105  # it opens nothing but the sandbox
ACCESS_TOKEN = "sandbox-access-token"  # noqa: S105  # ditto

# the last order's id, and how many results there were so far
_CURSOR = re.compile(r"(\d+)\.(\d+)", re.ASCII)
_SINGLE_QUERY_POINTS = 1000
_LARGEST_PAGE = 250
_WITHOUT_READ_ALL_ORDERS = dt.timedelta(days=60)
_DISPLAY_STATUS = {
    ShipmentStatus.ORDER_READY: "CONFIRMED",
    ShipmentStatus.IN_TRANSIT: "IN_TRANSIT",
    ShipmentStatus.OUT_FOR_DELIVERY: "OUT_FOR_DELIVERY",
    ShipmentStatus.DELIVERED: "DELIVERED",
}
# each with the language of its customers
_COUNTRIES = (("DE", "de"), ("US", "en"), ("FR", "fr"), ("GB", "en"), ("PL", "pl"))


class ShopifyRules(BaseModel):
    """How the slice of Shopify behaves.

    Attributes:
        scopes: What the app has been granted.
        token_seconds: How long a granted token is good for.
        bucket_points: How many points there are when nobody has asked for a while.
        restored_per_second: How many come back in a second.
        points_per_object: How many points an object costs that might be in an answer. How Shopify
            weighs is not published in full; this is near what others have measured.
        results_at_most: How many results of one search can be paged through; the rest is silently
            missing.
        addresses: Whether the app is approved for customers' addresses.

    Example:
        >>> sorted(ShopifyRules().scopes)
        ['read_orders']
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scopes: frozenset[str] = frozenset({"read_orders"})
    token_seconds: int = Field(default=86_399, ge=0)
    bucket_points: float = Field(default=2000, gt=0)
    restored_per_second: float = Field(default=100, gt=0)
    points_per_object: float = Field(default=0.05, gt=0)
    results_at_most: int = Field(default=25_000, gt=0)
    addresses: bool = True


class Shopify:
    """The slice of Shopify that finds orders, about the very orders of a shop.

    The shop's present counts, also for the 60 days that the scope `read_orders` reaches back: give
    `Shop(now=...)` the real present for searches with a window that ends there.

    Args:
        shop: The shop.
        rules: How it behaves; can be replaced at any time.

    Attributes:
        rules: The same.
        grants: How many tokens were granted.
        throttled: How many queries were refused for want of points.
        searches: The searches that were made, page by page.

    Example:
        >>> shopify = Shopify(Shop(orders=3), ShopifyRules(scopes=frozenset()))
        >>> shopify.grants
        0
    """

    def __init__(self, shop: Shop, rules: ShopifyRules) -> None:
        self.rules = rules
        self.grants = 0
        self.throttled = 0
        self.searches: list[str] = []
        self._shop = shop
        self._tokens: dict[str, float] = {}
        self._described: dict[int, tuple[dict[str, Any], bool, bool]] = {}
        self._points = rules.bucket_points
        self._counted_at = time.monotonic()

    def describe(
        self,
        order_id: int,
        *,
        tags: Collection[str] = (),
        cancelled: bool = False,
        partly_fulfilled: bool = False,
        financial_status: str = "PAID",
        shipping_method: str = "Standard",
        country: str | None = None,
        locale: str | None = None,
    ) -> None:
        """Set what Shopify alone knows of an order, all at once.

        Args:
            order_id: One of the shop's.
            tags: The order's tags.
            cancelled: Whether it was cancelled.
            partly_fulfilled: Whether something is to be sent later, beside the parcels it has.
            financial_status: Such as PAID or REFUNDED.
            shipping_method: The shipping method's title.
            country: A two-letter code; by default one of a few, drawn by the order's id.
            locale: The customer's language; by default that of the country.
        """
        drawn, language = _COUNTRIES[order_id % len(_COUNTRIES)]
        fields = {
            "tags": list(tags),
            "displayFinancialStatus": financial_status,
            "customerLocale": locale or dict(_COUNTRIES).get(country or drawn, language),
            "shippingLine": {"title": shipping_method},
            "shippingAddress": {"countryCodeV2": country or drawn},
        }
        self._described[order_id] = fields, cancelled, partly_fulfilled

    def revoke_tokens(self) -> None:
        """Make all tokens invalid that were granted so far."""
        self._tokens.clear()

    async def grant(self, request: web.Request) -> web.Response:
        """Answer the request for a token."""
        given = parse_qs((await request.read()).decode("utf-8", "replace"))
        wanted = {
            "grant_type": ["client_credentials"],
            "client_id": [CLIENT_ID],
            "client_secret": [CLIENT_SECRET],
        }
        if given != wanted or request.content_type != "application/x-www-form-urlencoded":
            problem = {"error": "invalid_client", "error_description": "no such app on this shop"}
            return reply(problem, HTTPStatus.BAD_REQUEST)
        token, lifetime = secrets.token_hex(16), self.rules.token_seconds
        self.grants += 1
        self._tokens[token] = time.monotonic() + lifetime
        scope = ",".join(sorted(self.rules.scopes))
        return reply({"access_token": token, "scope": scope, "expires_in": lifetime})

    async def graphql(self, request: web.Request) -> web.Response:
        """Answer one of the two queries that are known here: for orders, and for scopes."""
        self._check_token(request.headers.get("x-shopify-access-token", ""))
        query, variables = _query(await request.read())
        asks_orders = "orders(" in query
        if not asks_orders and "currentAppInstallation" not in query:
            raise _refusal("Field doesn't exist on type 'QueryRoot'", "undefinedField")
        objects = _objects_asked_for(variables) if asks_orders else len(self.rules.scopes)
        requested = self.rules.points_per_object * objects
        if requested > _SINGLE_QUERY_POINTS:
            message = f"Query cost is {requested:g}, which exceeds the single query max cost limit"
            raise _refusal(message, "MAX_COST_EXCEEDED")
        if not self._has_points(requested):
            self.throttled += 1
            throttled = [_error("Throttled", "THROTTLED")]
            return reply({"errors": throttled, "extensions": {"cost": self._cost(requested)}})
        told: dict[str, Any] = {}
        if asks_orders:
            data = {"orders": self._page(query, variables, told)}
        else:
            scopes = [{"handle": scope} for scope in sorted(self.rules.scopes)]
            data = {"currentAppInstallation": {"accessScopes": scopes}}
        actual = min(requested, self.rules.points_per_object * _objects_in(data))
        self._points -= actual
        extensions = {"cost": self._cost(requested, actual)}
        if "shopify-search-query-debug" in request.headers:
            extensions |= told
        return reply({"data": data, "extensions": extensions})

    def _check_token(self, token: str) -> None:
        if token != ACCESS_TOKEN and time.monotonic() >= self._tokens.get(token, 0.0):
            problem = "[API] Invalid API key or access token (unrecognized login or wrong password)"
            raise Refusal(HTTPStatus.UNAUTHORIZED, problem)

    def _has_points(self, requested: float) -> bool:
        now = time.monotonic()
        restored = (now - self._counted_at) * self.rules.restored_per_second
        self._points = min(self.rules.bucket_points, self._points + restored)
        self._counted_at = now
        return requested <= self._points

    def _cost(self, requested: float, actual: float | None = None) -> dict[str, Any]:
        throttle = {
            "maximumAvailable": self.rules.bucket_points,
            "currentlyAvailable": max(0, int(self._points)),
            "restoreRate": self.rules.restored_per_second,
        }
        return {
            "requestedQueryCost": requested,
            "actualQueryCost": actual,
            "throttleStatus": throttle,
        }

    def orders(self, search: Search, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """The orders behind an id that match, oldest first, as the schema shows them."""
        order_ids = self._shop.order_ids
        since = self._shop.now - _WITHOUT_READ_ALL_ORDERS
        sees_all = "read_all_orders" in self.rules.scopes
        for index in range(bisect_right(order_ids, after), len(order_ids)):
            order = self._shown(order_ids[index])
            visible = sees_all or dt.datetime.fromisoformat(order["createdAt"]) >= since
            if visible and search.matches(order):
                yield order

    def _shown(self, order_id: int) -> dict[str, Any]:
        if order_id not in self._described:
            self.describe(order_id)
        described, is_cancelled, is_partly_fulfilled = self._described[order_id]
        order = self._shop.order(order_id)
        parcels = [
            {"displayStatus": _DISPLAY_STATUS.get(parcel["shipment_status"], "FULFILLED")}
            for parcel in order["fulfillments"]
        ]
        fulfillment = "UNFULFILLED"
        if parcels:
            items = chain.from_iterable(parcel["line_items"] for parcel in order["fulfillments"])
            lines = len({item["id"] for item in items})
            is_whole = lines >= order["line_item_count"] and not is_partly_fulfilled
            fulfillment = "FULFILLED" if is_whole else "PARTIALLY_FULFILLED"
        changes = [parcel["latest_status"]["datetime"] for parcel in order["fulfillments"]]
        created = _utc(order["order_created_at"])
        return described | {
            "id": f"gid://shopify/Order/{order_id}",
            "legacyResourceId": str(order_id),
            "name": order["order_name"],
            "createdAt": created,
            "updatedAt": max([created, *map(_utc, filter(None, changes))]),
            "cancelledAt": created if is_cancelled else None,
            "displayFulfillmentStatus": fulfillment,
            "fulfillments": parcels,
        }

    def _page(self, query: str, variables: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
        """A page of orders; `told` takes what is told beside the data."""
        if not self.rules.scopes & {"read_orders", "write_orders"}:
            message = "Access denied for orders field. Required access: `read_orders` access scope."
            raise _refusal(message, "ACCESS_DENIED")
        first, cursor = variables["first"], _CURSOR.fullmatch(variables["after"] or "0.0")
        if not 1 <= first <= _LARGEST_PAGE or cursor is None:
            raise _refusal("Invalid page size, or invalid cursor for current pagination sort.")
        last_id, before = map(int, cursor.groups())
        search = self._search(variables["search"], told)
        if "shippingAddress" in query and not self.rules.addresses:
            message = "This app is not approved to access the MailingAddress object."
            raise _refusal(message, "ACCESS_DENIED")
        shown = max(0, min(first, self.rules.results_at_most - before))
        found = list(islice(self.orders(search, after=last_id), shown + 1))
        asked, parcels = set(re.findall(r"\w+", query)), variables["parcels"]
        nodes = [
            {name: value for name, value in node.items() if name in asked}
            | {"fulfillments": node["fulfillments"][:parcels]}
            for node in found[:shown]
        ]
        end = f"{found[:shown][-1]['legacyResourceId']}.{before + shown}" if nodes else None
        more = len(found) > shown and before + shown < self.rules.results_at_most
        return {"nodes": nodes, "pageInfo": {"hasNextPage": more, "endCursor": end}}

    def _search(self, text: str, told: dict[str, Any]) -> Search:
        self.searches.append(text)
        try:
            search = parse_search(text)
        except MalformedSearch as malformed:
            raise _refusal(f"the search is malformed: {malformed}") from None
        if search.warnings:
            told["search"] = [{"path": ["orders"], "query": text, "warnings": search.warnings}]
        return search


def _query(body: bytes) -> tuple[str, dict[str, Any]]:
    """A query and its variables, those of a search for orders if there are none."""
    usual = {"search": "", "first": 1, "after": None, "parcels": 1}
    try:
        fields = from_json(body)
        return str(fields["query"]), usual | (fields.get("variables") or {})
    except (ValueError, TypeError, KeyError):
        raise Refusal(
            HTTPStatus.BAD_REQUEST, {"query": "Required parameter missing or invalid"}
        ) from None


def _objects_asked_for(variables: dict[str, Any]) -> int:
    """How many objects a page of orders may hold: with each its parcels, address, shipping line."""
    return 2 + int(variables["first"]) * (3 + int(variables["parcels"]))


def _objects_in(data: Any) -> int:
    match data:
        case dict():
            return 1 + sum(map(_objects_in, data.values()))
        case list():
            return sum(map(_objects_in, data))
        case _:
            return 0


def _utc(time: str) -> str:
    return dt.datetime.fromisoformat(time).astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _error(message: str, code: str) -> dict[str, Any]:
    return {"message": message, "extensions": {"code": code}}


def _refusal(message: str, code: str = "BAD_USER_INPUT") -> Refusal:
    """An error inside of a 200, as GraphQL has them."""
    return Refusal(HTTPStatus.OK, [_error(message, code)])
