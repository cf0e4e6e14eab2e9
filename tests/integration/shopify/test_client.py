"""Shopify client: access tokens, retries, throttling, parsing of responses."""

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
import stamina

from prefect_tracktor import (
    APIConnectionError,
    AuthenticationError,
    InvalidResponse,
    NotFound,
    OrderFacts,
    RateLimited,
    ServerError,
    ShopifyCredentials,
    TracktorError,
    TransportLimits,
    UnprocessableValue,
)
from prefect_tracktor.sandbox import Sandbox, ShopifyRules
from prefect_tracktor.shopify.api import AddressesDenied, TooCostly
from prefect_tracktor.shopify.client import ShopifyClient
from tests.support.scripted import DROP, DrippingServer, ScriptedServer, answer

TOKEN = "t0ken-to-hide"
SCOPES = {"currentAppInstallation": {"accessScopes": [{"handle": "read_orders"}]}}


def data(value: Any, **more: Any) -> bytes:
    return answer(body=json.dumps({"data": value} | more))


def error_response(code: str, message: str = "no", **more: Any) -> bytes:
    errors = [{"message": message, "extensions": {"code": code}}]
    return answer(body=json.dumps({"errors": errors, "data": None} | more))


def client_of(server: ScriptedServer, **options: Any) -> ShopifyClient:
    """Make a client with an access token, or with the client id and secret in `options`."""
    login = {} if "client_id" in options else {"access_token": TOKEN}
    fields = {"shop": "your-store", "base_url": server.address} | login | options
    return ShopifyCredentials.model_validate(fields).get_client()


def page(nodes: list[Any] | None = None, **page_info: Any) -> dict[str, Any]:
    info = {"hasNextPage": False, "endCursor": None} | page_info
    return {"orders": {"nodes": nodes or [], "pageInfo": info}}


def node(**fields: Any) -> dict[str, Any]:
    usual = {"legacyResourceId": "7", "createdAt": "2026-06-01T12:00:00Z", "fulfillments": []}
    return usual | fields


@pytest.fixture
def _without_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=8, cap=True):
        yield


def test_a_shopify_query_sends_the_token_to_the_api_version() -> None:
    with ScriptedServer([data(SCOPES)]) as server, client_of(server) as client:
        assert client.granted_scopes() == {"read_orders"}
    [request] = server.requests
    assert request.line == "POST /admin/api/2026-10/graphql.json"
    assert f"x-shopify-access-token: {TOKEN}" in request.headers
    assert "shopify-search-query-debug: 1" in request.headers


def test_clients_of_one_shopify_app_share_one_access_token() -> None:
    granted = answer(body=f'{{"access_token": "{TOKEN}", "scope": "", "expires_in": 86399}}')
    with ScriptedServer([granted, data(SCOPES)]) as server:
        for _ in range(2):
            with client_of(server, client_id="abc", client_secret="x&y") as client:
                client.granted_scopes()
    grant, *queries = server.requests
    assert grant.line == "POST /admin/oauth/access_token"
    assert grant.body == "grant_type=client_credentials&client_id=abc&client_secret=x%26y"
    assert "content-type: application/x-www-form-urlencoded" in grant.headers.lower()
    assert len(queries) == 2
    assert all(f"x-shopify-access-token: {TOKEN}" in query.headers for query in queries)


def test_concurrent_threads_request_one_shopify_token(
    shopify_credentials: ShopifyCredentials, tracktor: Sandbox
) -> None:
    begin = threading.Barrier(8)

    def verify(_number: int) -> None:
        begin.wait()
        shopify_credentials.verify()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(verify, range(8)))
    assert tracktor.shopify.grants == 1


def test_a_shopify_token_is_renewed_before_it_expires(
    shopify_credentials: ShopifyCredentials, tracktor: Sandbox
) -> None:
    tracktor.shopify.rules = ShopifyRules(token_seconds=299)
    with shopify_credentials.get_client() as client:
        for _ in range(3):
            client.granted_scopes()
    assert tracktor.shopify.grants == 3
    tracktor.shopify.rules = ShopifyRules(token_seconds=400)
    with shopify_credentials.get_client() as client:
        for _ in range(3):
            client.granted_scopes()
    assert tracktor.shopify.grants == 4


def test_a_rejected_shopify_token_is_renewed_once(
    shopify_credentials: ShopifyCredentials, tracktor: Sandbox
) -> None:
    with shopify_credentials.get_client() as client:
        client.granted_scopes()
        tracktor.shopify.revoke_tokens()
        client.granted_scopes()
        assert tracktor.shopify.grants == 2
        tracktor.shopify.rules = ShopifyRules(token_seconds=0)
        tracktor.shopify.revoke_tokens()
        with pytest.raises(AuthenticationError):
            client.granted_scopes()
    assert tracktor.shopify.grants == 3


FAILURES = {
    "dropped": DROP,
    "truncated": answer(body='{"data": {"cur', length=500),
    "half JSON": answer(body='{"data": {"cur'),
    "HTML page": answer(body="<html>Something went wrong</html>"),
    "empty": answer(body=""),
    "502": answer(502, "<html>"),
    "503": answer(503),
    "429": answer(429),
    "internal error": error_response("INTERNAL_SERVER_ERROR"),
    "throttled": error_response("THROTTLED"),
}


@pytest.mark.usefixtures("_without_pauses")
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_a_shopify_query_is_retried_after_a_temporary_error(failure: bytes) -> None:
    with ScriptedServer([failure, failure, data(SCOPES)]) as server, client_of(server) as client:
        client.granted_scopes()
    assert len(server.requests) == 3


REFUSALS: dict[str, tuple[bytes, type[TracktorError], str]] = {
    "401": (
        answer(401, '{"errors": "[API] Invalid API key"}'),
        AuthenticationError,
        "Invalid API key",
    ),
    "404": (answer(404, "<title>Not here</title>"), NotFound, "this shop or API version"),
    "402": (answer(402), UnprocessableValue, "frozen"),
    "302": (answer(302, headers="Location: https://evil.example\r\n"), InvalidResponse, "shop of"),
    "denied": (
        error_response("ACCESS_DENIED", "no access"),
        AuthenticationError,
        "no access.*Dev Dashboard",
    ),
    "costly": (error_response("MAX_COST_EXCEEDED"), TooCostly, "smaller page"),
    "undefined": (
        error_response("undefinedField", "no such field"),
        UnprocessableValue,
        "no such field",
    ),
    "plain text": (
        answer(body='{"errors": "ask ada@example.com"}'),
        UnprocessableValue,
        r"query\. Check",
    ),
    "null": (answer(body="null"), InvalidResponse, "unexpected response"),
    "list": (answer(body="[]"), InvalidResponse, "unexpected response"),
    "no data": (answer(body="{}"), InvalidResponse, "unexpected response"),
}


@pytest.mark.parametrize(("reply", "kind", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_permanent_shopify_error_is_raised_without_a_retry(
    reply: bytes, kind: type[TracktorError], words: str
) -> None:
    with (
        ScriptedServer([reply]) as server,
        client_of(server) as client,
        pytest.raises(kind, match=words),
    ):
        client.granted_scopes()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, '{"error": "invalid_client"}'),
        (400, "<title>Oauth error shop_not_permitted</title>"),
        (403, "{}"),
    ],
)
def test_a_rejected_token_request_names_client_id_and_secret(status: int, body: str) -> None:
    with (
        ScriptedServer([answer(status, body)]) as server,
        client_of(server, client_id="abc", client_secret=TOKEN) as client,
        pytest.raises(AuthenticationError, match="one organization in the Dev Dashboard") as caught,
    ):
        client.granted_scopes()
    assert TOKEN not in str(caught.value)


def test_a_shopify_response_with_errors_is_rejected_despite_its_data() -> None:
    errors = [{"message": "not all data available", "extensions": {}}]
    with (
        ScriptedServer([data(SCOPES, errors=errors)]) as server,
        client_of(server) as client,
        pytest.raises(UnprocessableValue, match="not all data …"),
    ):
        client.granted_scopes()


@pytest.mark.parametrize(
    "orders",
    [
        page([node(legacyResourceId="-7")]),
        page([node(legacyResourceId="seven")]),
        page([node(createdAt="yesterday")]),
        page([node(createdAt="2026-06-01T12:00:00")]),
        page([{"legacyResourceId": "7"}]),
        page(hasNextPage=True),
        {"orders": None},
    ],
)
def test_a_shopify_page_with_one_invalid_order_is_rejected(orders: Any) -> None:
    with (
        ScriptedServer([data(orders)]) as server,
        client_of(server) as client,
        pytest.raises(InvalidResponse),
    ):
        client.list_orders("")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"shippingAddress": None, "shippingLine": None, "tags": None, "customerLocale": ""},
        {"shippingAddress": "x", "shippingLine": ["y"], "tags": "", "displayFinancialStatus": 7},
        {"shippingAddress": {"countryCodeV2": "ZZZ"}, "shippingLine": {"title": None}},
    ],
)
def test_a_shopify_order_with_an_unreadable_fact_is_still_found(fields: Any) -> None:
    with (
        ScriptedServer([data(page([node(**fields)]))]) as server,
        client_of(server) as client,
    ):
        [order] = client.list_orders("").orders
    created = datetime.fromisoformat(node()["createdAt"])
    assert order.facts == OrderFacts(created_at=created, cancelled=False)


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ([{"path": ["orders", "nodes", 0, "shippingAddress"]}], AddressesDenied),
        ([{"message": "not approved to access the MailingAddress object."}], AddressesDenied),
        (
            [{"message": "not approved to use the shippingAddress field.", "extensions": {}}],
            AddressesDenied,
        ),
        ([{"path": ["orders"]}], AuthenticationError),
        ([{"path": ["orders"]}, {"path": ["orders", "shippingAddress"]}], AuthenticationError),
    ],
)
def test_denied_addresses_raise_another_error_than_denied_orders(
    errors: list[dict[str, Any]], kind: type[Exception]
) -> None:
    denied = [
        {"message": "no", "extensions": {"code": "ACCESS_DENIED"}} | error for error in errors
    ]
    with (
        ScriptedServer([answer(body=json.dumps({"errors": denied}))]) as server,
        client_of(server) as client,
        pytest.raises(AuthenticationError) as caught,
    ):
        client.list_orders("")
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("statuses", "delivered"),
    [
        ([], False),
        (["DELIVERED"], True),
        (["DELIVERED", "DELIVERED"], True),
        (["DELIVERED", "IN_TRANSIT"], False),
        (["DELIVERED", None], False),
        (["DELIVERED", "CANCELED"], True),
        (["CANCELED"], False),
        (["PICKED_UP"], False),
        (["DELIVERED"] * 9, True),
        (["DELIVERED"] * 10, False),
    ],
)
def test_an_order_counts_as_delivered_if_all_its_parcels_are(
    statuses: list[str | None], delivered: bool
) -> None:
    parcels = [{"displayStatus": status} for status in statuses]
    with (
        ScriptedServer([data(page([node(fulfillments=parcels)]))]) as server,
        client_of(server) as client,
    ):
        [order] = client.list_orders("").orders
    assert order.is_delivered is delivered


def test_a_throttled_query_waits_until_enough_points_are_restored() -> None:
    throttle = {"maximumAvailable": 1000, "currentlyAvailable": 5, "restoreRate": 100}
    cost = {"cost": {"requestedQueryCost": 25, "actualQueryCost": None, "throttleStatus": throttle}}
    with (
        ScriptedServer([error_response("THROTTLED", extensions=cost), data(SCOPES)]) as server,
        client_of(server) as client,
    ):
        client.granted_scopes()
    first, second = server.requests
    assert second.at - first.at >= 0.2


def test_a_throttled_query_fails_at_once_if_the_wait_exceeds_the_budget() -> None:
    throttle = {"currentlyAvailable": 0, "restoreRate": 0.01}
    cost = {"cost": {"requestedQueryCost": 500, "throttleStatus": throttle}}
    with (
        ScriptedServer([error_response("THROTTLED", extensions=cost)]) as server,
        client_of(server) as client,
        pytest.raises(RateLimited, match="THROTTLED"),
    ):
        client.granted_scopes()
    assert len(server.requests) == 1


def test_pages_are_requested_at_the_rate_that_points_are_restored(
    shopify_credentials: ShopifyCredentials, tracktor: Sandbox
) -> None:
    tracktor.shopify.rules = ShopifyRules(bucket_points=200, restored_per_second=2000)
    with shopify_credentials.get_client() as client:
        for _ in range(12):
            client.list_orders("tag:vip OR name:1001")
    assert tracktor.shopify.throttled == 0


@pytest.mark.parametrize("drop", [b"HTTP/1.1 100 Continue\r\n\r\n", b"x"])
def test_a_response_that_never_starts_times_out(drop: bytes) -> None:
    limits = TransportLimits(call_timeout_seconds=0.3, max_attempts=1)
    with (
        DrippingServer(b"", drop) as server,
        client_of(server, limits=limits) as client,
        pytest.raises(APIConnectionError, match="in time"),
    ):
        client.granted_scopes()


def test_an_unreachable_shopify_server_raises_a_connection_error() -> None:
    with ScriptedServer([]) as stopped:
        pass
    with (
        client_of(stopped, limits=TransportLimits(max_attempts=1)) as client,
        pytest.raises(APIConnectionError, match=r"Shopify could not .*shop of the Shopify"),
    ):
        client.granted_scopes()


@pytest.mark.usefixtures("_without_pauses")
@pytest.mark.parametrize("failure", [*FAILURES.values(), answer(401, f'{{"errors": "{TOKEN}"}}')])
def test_errors_and_logs_do_not_contain_the_access_token(
    failure: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        ScriptedServer([failure]) as server,
        client_of(server) as client,
        pytest.raises(TracktorError) as caught,
    ):
        client.granted_scopes()
    error = caught.value
    shown = f"{error!r} {error} {error.__cause__!r} {error.__context__!r} {caplog.text}"
    shown += "".join(str(vars(record)) for record in caplog.records)
    assert TOKEN not in shown
    assert isinstance(error, AuthenticationError | ServerError | RateLimited | APIConnectionError)
