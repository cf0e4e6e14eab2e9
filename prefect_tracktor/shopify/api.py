"""Calls of Shopify's API: requests and the parsing of their responses, without I/O."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import AliasPath, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from prefect_tracktor.errors import (
    AuthenticationError,
    RateLimited,
    ServerError,
    TracktorError,
    UnprocessableValue,
)
from prefect_tracktor.http.call import ApiCall, Service, quoted
from prefect_tracktor.models import OrderFacts, read_fact
from prefect_tracktor.parsing import LARGEST_ID
from prefect_tracktor.text import shortened
from prefect_tracktor.validation import checked_id

T = TypeVar("T")

READ_ORDERS = "read_orders"
READ_ALL_ORDERS = "read_all_orders"

# Shopify refills all points within twenty seconds
_LONGEST_PAUSE = timedelta(minutes=1)
_A_DAY_OF_SECONDS = 86_400

# an order with as many parcels may have more, so it does not count as delivered; the number is low
# because Shopify charges for the largest response that a query can have
_PARCELS_READ = 10

_ACCESS_REMEDY = (
    f"In the Dev Dashboard, release a version of the app with the scope {READ_ORDERS} (to set tags:"
    " write_orders), and let the store accept it; an app made in the Shopify admin gets it under"
    " Settings, Apps."
)

SHOPIFY = Service(
    name="Shopify",
    address="shop of the ShopifyCredentials block",
    unknown="this shop or API version",
    check_credentials="Check the ShopifyCredentials block: its token, or its client id and secret,"
    " belong to one app that is installed on this shop.",
    check_id="Check shop and api_version of the ShopifyCredentials block.",
    check_value="See its message; the owner has to reopen a shop that is frozen or locked.",
)
_GRANT = replace(
    SHOPIFY,
    unknown="this shop",
    check_credentials="Check client_id and client_secret of the ShopifyCredentials block. The app"
    " must be installed on this shop, and both must belong to one organization in the Dev"
    " Dashboard.",
    refuses_with_400=True,
)

_SCOPES = "query GrantedScopes { currentAppInstallation { accessScopes { handle } } }"
_ORDERS = """
query ListedOrders($search: String!, $first: Int!, $after: String, $parcels: Int!) {
  orders(first: $first, after: $after, query: $search, sortKey: CREATED_AT) {
    nodes {
      legacyResourceId
      createdAt
      cancelledAt
      displayFinancialStatus
      displayFulfillmentStatus
      tags
      customerLocale
      shippingLine { title }
      shippingAddress { countryCodeV2 }
      fulfillments(first: $parcels) { displayStatus }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""
_ADD_TAGS = """
mutation AddTags($id: ID!, $tags: [String!]!) {
  tagsAdd(id: $id, tags: $tags) { userErrors { message } }
}
"""
_WITHOUT_ADDRESSES = _ORDERS.replace("      shippingAddress { countryCodeV2 }\n", "")
_THROTTLE = ("extensions", "cost", "throttleStatus")
_FACTS = {fact.name for fact in fields(OrderFacts)} - {"cancelled"}


class AddressesDenied(AuthenticationError):
    """The app may read orders, but Shopify has not approved it for their addresses."""


class TooCostly(UnprocessableValue):
    """A query costs more than Shopify allows for one; a smaller page costs less."""


def _within(*path: str, **options: Any) -> Any:
    """Return a field whose value is nested in objects."""
    return Field(validation_alias=AliasPath(*path), **options)


class _Read(BaseModel):
    """Base class of the parts of a response; other fields are ignored."""

    model_config = ConfigDict(hide_input_in_errors=True)


class Grant(_Read):
    """An access token and its lifetime."""

    access_token: str = Field(repr=False)
    expires_in: float


class ListedOrder(_Read):
    """An order in a list."""

    order_id: Annotated[int, Field(gt=0, le=LARGEST_ID)] = _within("legacyResourceId")
    created_at: AwareDatetime = _within("createdAt")
    fulfillments: list[Any]
    # facts: a missing or unreadable one is unknown
    cancelled_at: Any = _within("cancelledAt", default=None)
    financial_status: Any = _within("displayFinancialStatus", default=None)
    fulfillment_status: Any = _within("displayFulfillmentStatus", default=None)
    tags: Any = None
    locale: Any = _within("customerLocale", default=None)
    shipping_method: Any = _within("shippingLine", "title", default=None)
    country: Any = _within("shippingAddress", "countryCodeV2", default=None)

    @property
    def is_delivered(self) -> bool:
        """Whether all parcels are delivered, and their list is complete."""
        statuses = {str(_at(parcel, "displayStatus")) for parcel in self.fulfillments}
        # a cancelled fulfillment has no parcel
        all_delivered = statuses - {"CANCELED"} == {"DELIVERED"}
        return all_delivered and len(self.fulfillments) < _PARCELS_READ

    @property
    def facts(self) -> OrderFacts:
        read = {name: read_fact(name, getattr(self, name)) for name in _FACTS}
        return OrderFacts(**read, cancelled=self.cancelled_at is not None)


class OrderPage(_Read):
    """A page of a list of orders."""

    orders: list[ListedOrder] = _within("orders", "nodes")
    has_next_page: bool = _within("orders", "pageInfo", "hasNextPage")
    end_cursor: str | None = _within("orders", "pageInfo", "endCursor", default=None)

    @model_validator(mode="after")
    def _has_its_cursor(self) -> Self:
        if self.has_next_page and not self.end_cursor:
            raise ValueError("a next page without a cursor")
        return self

    @property
    def next_cursor(self) -> str:
        """The cursor of the next page; empty on the last one."""
        return (self.end_cursor or "") if self.has_next_page else ""


@dataclass(frozen=True)  # generic: see Batch about slots
class Reply(Generic[T]):
    """The data of a response, and the pause before an equal query can be sent."""

    data: T
    pause: timedelta


def grant() -> ApiCall[Grant]:
    """Exchange an app's client id and secret, sent as form fields, for an access token."""
    return ApiCall("POST", "oauth/access_token", Grant.model_validate, service=_GRANT)


def granted_scopes(api_version: str) -> ApiCall[Reply[frozenset[str]]]:
    """Return the access scopes that the app has been granted on this shop."""

    def read(data: Any) -> frozenset[str]:
        granted = _at(data, "currentAppInstallation", "accessScopes")
        scopes = frozenset(scope["handle"] for scope in granted)
        # the right to write includes the right to read
        if not scopes & {READ_ORDERS, "write_orders"}:
            raise AuthenticationError(
                f"Shopify has not granted the app the scope {READ_ORDERS}. {_ACCESS_REMEDY}"
            )
        return scopes

    return _query(_SCOPES, {}, read, api_version=api_version)


def list_orders(
    search: str, *, after: str = "", first: int, addresses: bool = True, api_version: str
) -> ApiCall[Reply[OrderPage]]:
    """List the orders that match a search, oldest first, with or without their country."""
    document = _ORDERS if addresses else _WITHOUT_ADDRESSES
    variables = {
        "search": search,
        "first": first,
        "after": after or None,
        "parcels": _PARCELS_READ,
    }
    return _query(document, variables, OrderPage.model_validate, api_version=api_version)


def add_tags(order_id: int, tags: Iterable[str], *, api_version: str) -> ApiCall[Reply[None]]:
    """Add tags to an order, which keeps its present ones; none is added twice."""

    def read(data: Any) -> None:
        errors = _at(data, "tagsAdd", "userErrors")
        if errors != []:
            message = shortened("; ".join(str(_at(error, "message")) for error in errors or ()))
            quote = quoted(message, call="tagsAdd", ours=" ".join(variables["tags"]))
            raise UnprocessableValue(
                f"Shopify did not take the tags of order {order_id}. {quote}", server_said=message
            )

    order = f"gid://shopify/Order/{checked_id(order_id, field='order_id')}"
    variables: dict[str, Any] = {"id": order, "tags": list(tags)}
    return _query(_ADD_TAGS, variables, read, api_version=api_version)


def _query(
    document: str, variables: Mapping[str, Any], read: Callable[[Any], T], *, api_version: str
) -> ApiCall[Reply[T]]:
    path = f"api/{api_version}/graphql.json"

    def read_reply(body: Any) -> Reply[T]:
        response = _Response.model_validate(body)
        if response.errors:
            raise _error(f"POST {path}", response.errors, response.pause)
        search = str(variables.get("search", ""))
        _refuse_ignored_filters(f"POST {path}", response.searches, search)
        return Reply(read(response.data), min(response.pause, _LONGEST_PAUSE))

    body = {"query": document, "variables": variables}
    return ApiCall("POST", path, read_reply, json=body, service=SHOPIFY)


def _error(call: str, errors: list[Any] | str, pause: timedelta) -> TracktorError:
    """Return the error for a response that reports errors with status 200."""
    found = [entry for entry in errors if isinstance(entry, dict)]
    codes = {_at(entry, "extensions", "code") for entry in found}
    message = shortened(" ".join(str(entry.get("message", "")) for entry in found) or str(errors))
    if "THROTTLED" in codes:
        return RateLimited(
            f"{call}: Shopify asks for fewer requests (THROTTLED). Another program may use the same"
            " app; try again later.",
            call=call,
            retry_after=pause or None,
            may_have_arrived=False,
        )
    kind, advice = _meaning(codes)
    if found and all(map(_denies_addresses, found)):
        kind, advice = AddressesDenied, _ACCESS_REMEDY
    machine_words = sorted(code for code in codes if isinstance(code, str))
    quote = quoted(" ".join([*machine_words, message]), call=call)
    parts = (f"{call}: Shopify refused the query.", quote, advice)
    return kind(" ".join(filter(None, parts)), call=call, server_said=message)


def _meaning(codes: set[Any]) -> tuple[type[TracktorError], str]:
    if "MAX_COST_EXCEEDED" in codes:
        return TooCostly, "Ask for a smaller page."
    if "ACCESS_DENIED" in codes:
        return AuthenticationError, _ACCESS_REMEDY
    if codes & {"INTERNAL_SERVER_ERROR", "TIMEOUT"}:
        return ServerError, "Try again later."
    return UnprocessableValue, "Check api_version of the ShopifyCredentials block, and the search."


def _denies_addresses(error: dict[str, Any]) -> bool:
    path, message = str(error.get("path")), str(error.get("message"))
    denied = _at(error, "extensions", "code") == "ACCESS_DENIED" or "not approved" in message
    return denied and ("shippingAddress" in path + message or "MailingAddress" in message)


def _refuse_ignored_filters(call: str, searches: list[Any], search: str) -> None:
    """Refuse a result without a filter that Shopify did not understand: it has too many orders."""
    warnings = [warning for entry in searches for warning in _at(entry, "warnings") or ()]
    if warnings:
        words = (f"{_at(warning, 'field')}: {_at(warning, 'message')}" for warning in warnings)
        message = shortened("; ".join(words))
        raise UnprocessableValue(
            f"{call}: Shopify would ignore a part of the search."
            f" {quoted(message, call=call, ours=search)} Correct the search; its filters are those"
            " of Shopify's `orders` query.",
            call=call,
            server_said=message,
        )


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


class _Response(_Read):
    data: Any = None
    errors: list[Any] | str = []
    cost: float | None = _within("extensions", "cost", "requestedQueryCost", default=None)
    available: float = _within(*_THROTTLE, "currentlyAvailable", default=0)
    restored_per_second: float = _within(*_THROTTLE, "restoreRate", default=0)
    searches: list[Any] = _within("extensions", "search", default=[])

    @property
    def pause(self) -> timedelta:
        """The time until there are enough points for the same query again."""
        lacking = (self.cost or 0) - self.available
        if lacking <= 0 or self.restored_per_second <= 0:
            return timedelta(0)
        return timedelta(seconds=min(lacking / self.restored_per_second, _A_DAY_OF_SECONDS))
