"""Simulated part of Shopify that finds orders: tokens, two queries, paging, throttling."""

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
from prefect_tracktor.sandbox.replies import Refusal
from prefect_tracktor.sandbox.search import MalformedSearch, Search, parse_search
from prefect_tracktor.sandbox.shop import Shop

CLIENT_ID = "sandbox-client-id"
CLIENT_SECRET = "sandbox-client-secret"  # noqa: S105  # it opens nothing but the sandbox
ACCESS_TOKEN = "sandbox-access-token"  # noqa: S105  # ditto

# the last order's id, and the number of results so far
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
    """Settings of the simulated part of Shopify.

    Attributes:
        scopes: The scopes that the app was granted.
        token_seconds: The lifetime of a token.
        bucket_points: The number of points in a full bucket.
        restored_per_second: The number of points restored in a second.
        points_per_object: The cost of an object that a response may contain. Shopify's costs are
            not published in full; the default is close to what others have measured.
        results_at_most: The limit of results of one search; results beyond it are silently missing.
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
    """The simulated part of Shopify that finds orders, with the orders of a shop.

    Its time is the shop's present time, also for the limit of 60 days of the scope `read_orders`:
    give `Shop(now=...)` the real time for searches whose window ends now.

    Args:
        shop: The shop.
        rules: The settings; can be replaced at any time.

    Attributes:
        rules: The settings.
        grants: The number of granted tokens.
        throttled: The number of queries that were refused because points were missing.
        searches: The search of each requested page.

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
        """Set the values of an order that only Shopify has; those left out return to their default.

        Args:
            order_id: The id of an order of the shop.
            tags: The order's tags.
            cancelled: Whether it was cancelled.
            partly_fulfilled: Whether some of its items are not in a parcel yet.
            financial_status: Such as PAID or REFUNDED.
            shipping_method: The shipping method's title.
            country: A two-letter code; by default one of five, which depends on the order's id.
            locale: The customer's language; by default the country's.
        """
        default, language = _COUNTRIES[order_id % len(_COUNTRIES)]
        fields = {
            "tags": list(tags),
            "displayFinancialStatus": financial_status,
            "customerLocale": locale or dict(_COUNTRIES).get(country or default, language),
            "shippingLine": {"title": shipping_method},
            "shippingAddress": {"countryCodeV2": country or default},
        }
        self._described[order_id] = fields, cancelled, partly_fulfilled

    def revoke_tokens(self) -> None:
        """Invalidate all tokens."""
        self._tokens.clear()

    async def grant(self, request: web.Request) -> web.Response:
        """Respond to the request for a token."""
        given = parse_qs((await request.read()).decode("utf-8", "replace"))
        expected = {
            "grant_type": ["client_credentials"],
            "client_id": [CLIENT_ID],
            "client_secret": [CLIENT_SECRET],
        }
        if given != expected or request.content_type != "application/x-www-form-urlencoded":
            error = {"error": "invalid_client", "error_description": "no such app on this shop"}
            return web.json_response(error, status=HTTPStatus.BAD_REQUEST)
        token, lifetime = secrets.token_hex(16), self.rules.token_seconds
        self.grants += 1
        self._tokens[token] = time.monotonic() + lifetime
        scope = ",".join(sorted(self.rules.scopes))
        grant = {"access_token": token, "scope": scope, "expires_in": lifetime}
        return web.json_response(grant)

    async def graphql(self, request: web.Request) -> web.Response:
        """Respond to one of the two supported queries: for orders, and for scopes."""
        self._check_token(request.headers.get("x-shopify-access-token", ""))
        query, variables = _query(await request.read())
        is_orders = "orders(" in query
        if not is_orders and "currentAppInstallation" not in query:
            raise _refusal("Field doesn't exist on type 'QueryRoot'", "undefinedField")
        objects = _max_objects(variables) if is_orders else len(self.rules.scopes)
        requested = self.rules.points_per_object * objects
        if requested > _SINGLE_QUERY_POINTS:
            message = f"Query cost is {requested:g}, which exceeds the single query max cost limit"
            raise _refusal(message, "MAX_COST_EXCEEDED")
        if not self._has_points(requested):
            self.throttled += 1
            errors, cost = [_error("Throttled", "THROTTLED")], self._cost(requested)
            return web.json_response({"errors": errors, "extensions": {"cost": cost}})
        warnings: list[dict[str, str]] = []
        if is_orders:
            search = self._search(variables["search"])
            data = {"orders": self._page(query, variables, search)}
            warnings = search.warnings
        else:
            scopes = [{"handle": scope} for scope in sorted(self.rules.scopes)]
            data = {"currentAppInstallation": {"accessScopes": scopes}}
        actual = min(requested, self.rules.points_per_object * _objects_in(data))
        self._points -= actual
        extensions: dict[str, Any] = {"cost": self._cost(requested, actual)}
        if warnings and "shopify-search-query-debug" in request.headers:
            extensions["search"] = [{"path": ["orders"], "warnings": warnings}]
        return web.json_response({"data": data, "extensions": extensions})

    def _check_token(self, token: str) -> None:
        if token != ACCESS_TOKEN and time.monotonic() >= self._tokens.get(token, 0.0):
            message = "[API] Invalid API key or access token (unrecognized login or wrong password)"
            raise Refusal(HTTPStatus.UNAUTHORIZED, message)

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
        """Yield the matching orders after an id, oldest first, as Shopify returns them."""
        order_ids = self._shop.order_ids
        since = self._shop.now - _WITHOUT_READ_ALL_ORDERS
        sees_all = "read_all_orders" in self.rules.scopes
        for index in range(bisect_right(order_ids, after), len(order_ids)):
            order = self._order(order_ids[index])
            visible = sees_all or dt.datetime.fromisoformat(order["createdAt"]) >= since
            if visible and search.matches(order):
                yield order

    def _order(self, order_id: int) -> dict[str, Any]:
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

    def _page(self, query: str, variables: dict[str, Any], search: Search) -> dict[str, Any]:
        first, cursor = variables["first"], _CURSOR.fullmatch(variables["after"] or "0.0")
        if not 1 <= first <= _LARGEST_PAGE or cursor is None:
            raise _refusal("Invalid page size, or invalid cursor for current pagination sort.")
        last_id, before = map(int, cursor.groups())
        if "shippingAddress" in query and not self.rules.addresses:
            message = "This app is not approved to access the MailingAddress object."
            raise _refusal(message, "ACCESS_DENIED")
        limit = max(0, min(first, self.rules.results_at_most - before))
        found = list(islice(self.orders(search, after=last_id), limit + 1))
        requested, parcels = set(re.findall(r"\w+", query)), variables["parcels"]
        nodes = [
            {name: value for name, value in node.items() if name in requested}
            | {"fulfillments": node["fulfillments"][:parcels]}
            for node in found[:limit]
        ]
        end = f"{found[:limit][-1]['legacyResourceId']}.{before + limit}" if nodes else None
        more = len(found) > limit and before + limit < self.rules.results_at_most
        return {"nodes": nodes, "pageInfo": {"hasNextPage": more, "endCursor": end}}

    def _search(self, text: str) -> Search:
        if not self.rules.scopes & {"read_orders", "write_orders"}:
            message = "Access denied for orders field. Required access: `read_orders` access scope."
            raise _refusal(message, "ACCESS_DENIED")
        self.searches.append(text)
        try:
            return parse_search(text)
        except MalformedSearch as malformed:
            raise _refusal(f"the search is malformed: {malformed}") from None


def _query(body: bytes) -> tuple[str, dict[str, Any]]:
    """Parse a query and its variables, which have defaults for a search of orders."""
    defaults = {"search": "", "first": 1, "after": None, "parcels": 1}
    try:
        fields = from_json(body)
        return str(fields["query"]), defaults | (fields.get("variables") or {})
    except (ValueError, TypeError, KeyError):
        raise Refusal(
            HTTPStatus.BAD_REQUEST, {"query": "Required parameter missing or invalid"}
        ) from None


def _max_objects(variables: dict[str, Any]) -> int:
    """Return the limit of objects in a page: orders, parcels, addresses and shipping lines."""
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
    """Return an error in a response of status 200, as GraphQL does."""
    return Refusal(HTTPStatus.OK, [_error(message, code)])
