"""The slice of Shopify that finds orders: token grant, GraphQL, paging, throttle; over a shop."""

import datetime as dt
import re
import secrets
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLObjectType,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    execute_sync,
    get_named_type,
    parse,
    validate,
    value_from_ast_untyped,
)
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
_SCHEMA = build_schema("""
    scalar DateTime
    scalar UnsignedInt64
    enum OrderSortKeys { CREATED_AT ID }
    type Query {
      orders(
        first: Int!, after: String, query: String, sortKey: OrderSortKeys = ID
      ): OrderConnection!
      currentAppInstallation: AppInstallation!
    }
    type OrderConnection { nodes: [Order!]! pageInfo: PageInfo! }
    type PageInfo { hasNextPage: Boolean! endCursor: String }
    type Order {
      id: ID!
      legacyResourceId: UnsignedInt64!
      name: String!
      createdAt: DateTime!
      updatedAt: DateTime!
      cancelledAt: DateTime
      tags: [String!]!
      displayFinancialStatus: String
      displayFulfillmentStatus: String!
      customerLocale: String
      shippingLine: ShippingLine
      shippingAddress: MailingAddress
      fulfillments(first: Int): [Fulfillment!]!
    }
    type ShippingLine { title: String! }
    type MailingAddress { countryCodeV2: String }
    type Fulfillment { displayStatus: String }
    type AppInstallation { accessScopes: [AccessScope!]! }
    type AccessScope { handle: String! }
""")


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
        self._described: dict[int, dict[str, Any]] = {}
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
        self._described[order_id] = {
            "tags": list(tags),
            "cancelled": cancelled,
            "partly_fulfilled": partly_fulfilled,
            "displayFinancialStatus": financial_status,
            "customerLocale": locale or dict(_COUNTRIES).get(country or drawn, language),
            "shippingLine": {"title": shipping_method},
            "shippingAddress": {"countryCodeV2": country or drawn},
        }

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
        """Answer a query."""
        self._check_token(request.headers.get("x-shopify-access-token", ""))
        document, variables = _query(await request.read())
        errors = validate(_SCHEMA, document)
        if errors:
            return reply({"errors": [error.formatted for error in errors]})
        requested = self.rules.points_per_object * _objects_asked_for(document, variables)
        if requested > _SINGLE_QUERY_POINTS:
            message = f"Query cost is {requested:g}, which exceeds the single query max cost limit"
            return reply({"errors": [_error(message, "MAX_COST_EXCEEDED")]})
        if not self._has_points(requested):
            self.throttled += 1
            throttled = [_error("Throttled", "THROTTLED")]
            return reply({"errors": throttled, "extensions": self._cost(requested)})
        told: dict[str, Any] = {}
        scopes = [{"handle": scope} for scope in sorted(self.rules.scopes)]
        root = {
            "orders": partial(self._find, told),
            "currentAppInstallation": {"accessScopes": scopes},
        }
        result = execute_sync(_SCHEMA, document, root, variable_values=variables)
        actual = min(requested, self.rules.points_per_object * _objects_in(result.data))
        self._points -= actual
        extensions = self._cost(requested, actual)
        if "shopify-search-query-debug" in request.headers:
            extensions |= told
        return reply({**result.formatted, "extensions": extensions})

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
            "cost": {
                "requestedQueryCost": requested,
                "actualQueryCost": actual,
                "throttleStatus": throttle,
            }
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
        described = self._described[order_id]
        order = self._shop.order(order_id)
        parcels = [
            {"displayStatus": _DISPLAY_STATUS.get(parcel["shipment_status"], "FULFILLED")}
            for parcel in order["fulfillments"]
        ]
        fulfillment = "UNFULFILLED"
        if parcels:
            fulfillment = "PARTIALLY_FULFILLED" if described["partly_fulfilled"] else "FULFILLED"
        changes = [parcel["latest_status"]["datetime"] for parcel in order["fulfillments"]]
        created = _utc(order["order_created_at"])
        return described | {
            "id": f"gid://shopify/Order/{order_id}",
            "legacyResourceId": str(order_id),
            "name": order["order_name"],
            "createdAt": created,
            "updatedAt": max([created, *map(_utc, filter(None, changes))]),
            "cancelledAt": created if described["cancelled"] else None,
            "displayFulfillmentStatus": fulfillment,
            "fulfillments": lambda _info, first=None: parcels[:first],
        }

    def _find(
        self,
        extensions: dict[str, Any],
        _info: Any,
        first: int,
        after: str | None = None,
        query: str | None = None,
        **_sorting: str,
    ) -> dict[str, Any]:
        """A page of orders; `extensions` takes what is told beside the data."""
        if not self.rules.scopes & {"read_orders", "write_orders"}:
            message = "Access denied for orders field. Required access: `read_orders` access scope."
            raise GraphQLError(message, extensions={"code": "ACCESS_DENIED"})
        if not 1 <= first <= _LARGEST_PAGE:
            raise GraphQLError(f"first must be from 1 to {_LARGEST_PAGE}")
        cursor = _CURSOR.fullmatch(after or "0.0")
        if cursor is None:
            raise GraphQLError("Invalid cursor for current pagination sort.")
        last_id, before = map(int, cursor.groups())
        search = self._search(query or "", extensions)
        shown = max(0, min(first, self.rules.results_at_most - before))
        found = list(islice(self.orders(search, after=last_id), shown + 1))
        nodes = [node | {"shippingAddress": self._address(node)} for node in found[:shown]]
        end = f"{nodes[-1]['legacyResourceId']}.{before + shown}" if nodes else None
        more = len(found) > shown and before + shown < self.rules.results_at_most
        return {"nodes": nodes, "pageInfo": {"hasNextPage": more, "endCursor": end}}

    def _search(self, text: str, extensions: dict[str, Any]) -> Search:
        self.searches.append(text)
        try:
            search = parse_search(text)
        except MalformedSearch as malformed:
            raise GraphQLError(f"the search is malformed: {malformed}") from None
        if search.warnings:
            entry = {"path": ["orders"], "query": text, "warnings": search.warnings}
            extensions["search"] = [entry]
        return search

    def _address(self, node: Mapping[str, Any]) -> Callable[..., Any]:
        def address(_info: Any) -> Any:
            if self.rules.addresses:
                return node["shippingAddress"]
            message = "This app is not approved to access the MailingAddress object."
            raise GraphQLError(message, extensions={"code": "ACCESS_DENIED"})

        return address


def _query(body: bytes) -> tuple[DocumentNode, dict[str, Any]]:
    try:
        fields = from_json(body)
        return parse(fields["query"]), fields.get("variables") or {}
    except (ValueError, TypeError, KeyError, GraphQLError):
        raise Refusal(
            HTTPStatus.BAD_REQUEST, {"query": "Required parameter missing or invalid"}
        ) from None


def _objects_asked_for(document: DocumentNode, variables: dict[str, Any]) -> int:
    """How many objects an answer may hold: where there is `first`, as many times."""

    def within(selected: SelectionSetNode | None, parent: GraphQLObjectType) -> int:
        total = 0
        for node in selected.selections if selected else ():
            if isinstance(node, FieldNode) and node.name.value in parent.fields:
                field = parent.fields[node.name.value]
                named = get_named_type(field.type)
                if isinstance(named, GraphQLObjectType):
                    total += _times(node, variables) * (1 + within(node.selection_set, named))
        return total

    root = _SCHEMA.query_type
    operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
    return sum(within(operation.selection_set, root) for operation in operations if root)


def _times(node: FieldNode, variables: dict[str, Any]) -> int:
    for argument in node.arguments or ():
        if argument.name.value == "first":
            first = value_from_ast_untyped(argument.value, variables)
            return first if isinstance(first, int) else 1
    return 1


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
