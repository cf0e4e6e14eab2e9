"""Simulated part of Shopify over HTTP: tokens, queries, paging, points, access."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from prefect_tracktor.sandbox import Fault, Faults, Sandbox, Shop, ShopifyRules
from prefect_tracktor.shopify.api import list_orders

EVERYTHING = ShopifyRules(scopes=frozenset({"read_orders", "read_all_orders"}))


class Api:
    """A client with an access token."""

    def __init__(self, tracktor: Sandbox) -> None:
        self.http = httpx.Client(base_url=tracktor.shopify_url, trust_env=False)
        self.token = tracktor.shopify_access_token

    def send(self, body: object) -> httpx.Response:
        return self.http.post(
            "/admin/api/2026-10/graphql.json",
            headers={"x-shopify-access-token": self.token, "shopify-search-query-debug": "1"},
            json=body,
        )

    def search(self, search: str = "", first: int = 25, after: str = "") -> httpx.Response:
        """Send the query that `ShopifyOrders` sends."""
        query = list_orders(search, first=first, after=after, api_version="2026-10")
        return self.send(query.json)

    def orders(self, search: str = "", **page: Any) -> Any:
        return self.search(search, **page).json()["data"]["orders"]

    def codes(self, search: str = "", **page: Any) -> list[str]:
        response = self.search(search, **page)
        assert response.status_code == 200
        return [error["extensions"]["code"] for error in response.json()["errors"]]


@pytest.fixture
def api(tracktor: Sandbox) -> Iterator[Api]:
    tracktor.shopify.rules = EVERYTHING
    api = Api(tracktor)
    with api.http:
        yield api


def test_shopify_lists_the_orders_of_the_shop(tracktor: Sandbox, api: Api) -> None:
    nodes, after = [], ""
    while True:
        page = api.orders(after=after)
        nodes += page["nodes"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert [int(node["legacyResourceId"]) for node in nodes] == list(tracktor.shop.order_ids)
    for node in nodes:
        order = tracktor.shop.order(int(node["legacyResourceId"]))
        delivered = [parcel["shipment_status"] == "delivered" for parcel in order["fulfillments"]]
        shown = [parcel["displayStatus"] == "DELIVERED" for parcel in node["fulfillments"]]
        assert shown == delivered


def test_carrier_updates_are_visible_in_shopify(tracktor: Sandbox, api: Api) -> None:
    order_id = next(iter(tracktor.shop.customers_to_write_to()))
    for parcel in tracktor.shop.order(order_id)["fulfillments"]:
        tracktor.shop.set_parcel(parcel["fulfillment_id"], shipment_status="delivered")
    [node] = api.orders(f"id:{order_id}")["nodes"]
    assert {parcel["displayStatus"] for parcel in node["fulfillments"]} == {"DELIVERED"}


def test_shopify_lists_only_60_days_without_read_all_orders(tracktor: Sandbox, api: Api) -> None:
    everything = api.orders(first=250)["nodes"]
    tracktor.shopify.rules = ShopifyRules()
    recent = api.orders(first=250)["nodes"]
    assert recent == [node for node in everything if node["createdAt"] >= "2026-04-02T12:00:00Z"]
    assert 0 < len(recent) < len(everything)


def test_shopify_searches_find_described_tags_and_cancellations(
    tracktor: Sandbox, api: Api
) -> None:
    tagged, cancelled = tracktor.shop.order_ids[:2]
    tracktor.shopify.describe(tagged, tags=["vip"])
    tracktor.shopify.describe(cancelled, cancelled=True)
    assert [node["legacyResourceId"] for node in api.orders("tag:VIP")["nodes"]] == [str(tagged)]
    assert len(api.orders("-status:cancelled", first=250)["nodes"]) == 59


def test_shopify_pages_end_at_the_limit_of_results(tracktor: Sandbox, api: Api) -> None:
    tracktor.shopify.rules = EVERYTHING.model_copy(update={"results_at_most": 30})
    first = api.orders()
    second = api.orders(after=first["pageInfo"]["endCursor"])
    assert len(second["nodes"]) == 5
    assert not second["pageInfo"]["hasNextPage"]


def test_unsupported_graphql_queries_get_errors_with_status_200(api: Api) -> None:
    for response in (
        api.send({"query": "{ products(first: 3) { nodes { id } } }"}),
        api.search(first=251),
        api.search(after="x"),
        api.search("(tag:vip"),
    ):
        assert response.status_code == 200
        assert response.json()["errors"]


def test_an_unknown_search_filter_gets_a_warning(api: Api) -> None:
    [entry] = api.search("colour:blue").json()["extensions"]["search"]
    assert entry["warnings"][0]["field"] == "colour"


def test_a_shopify_query_is_throttled_when_points_are_missing(tracktor: Sandbox, api: Api) -> None:
    tracktor.shopify.rules = EVERYTHING.model_copy(
        update={"bucket_points": 17, "restored_per_second": 0.001}
    )
    cost = api.search().json()["extensions"]["cost"]
    assert 0 < cost["actualQueryCost"] < cost["requestedQueryCost"] < 17
    assert cost["throttleStatus"]["currentlyAvailable"] < 17
    assert api.codes() == ["THROTTLED"]
    assert tracktor.shopify.throttled == 1


def test_a_shopify_query_above_1000_points_is_refused(tracktor: Sandbox, api: Api) -> None:
    tracktor.shopify.rules = EVERYTHING.model_copy(update={"points_per_object": 1.0})
    assert api.codes(first=250) == ["MAX_COST_EXCEEDED"]
    assert api.orders(first=50)["nodes"]


def test_orders_are_denied_without_the_read_orders_scope(tracktor: Sandbox, api: Api) -> None:
    tracktor.shopify.rules = ShopifyRules(scopes=frozenset({"read_products"}))
    assert api.codes() == ["ACCESS_DENIED"]


def test_shopify_tokens_expire_and_can_be_revoked(tracktor: Sandbox, api: Api) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": tracktor.shopify_client_id,
        "client_secret": tracktor.shopify_client_secret,
    }
    granted = api.http.post("/admin/oauth/access_token", data=form).json()
    assert granted["scope"] == "read_all_orders,read_orders"
    assert granted["expires_in"] == 86_399
    api.token = granted["access_token"]
    assert api.search().status_code == 200
    tracktor.shopify.revoke_tokens()
    assert api.search().status_code == 401
    tracktor.shopify.rules = ShopifyRules(token_seconds=0)
    api.token = api.http.post("/admin/oauth/access_token", data=form).json()["access_token"]
    assert api.search().status_code == 401


@pytest.mark.parametrize(
    "change", [{"client_secret": "wrong"}, {"client_id": "wrong"}, {"grant_type": "password"}]
)
def test_a_token_request_with_wrong_credentials_is_refused(
    tracktor: Sandbox, api: Api, change: dict[str, str]
) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": tracktor.shopify_client_id,
        "client_secret": tracktor.shopify_client_secret,
    }
    assert api.http.post("/admin/oauth/access_token", data=form | change).status_code == 400
    assert api.http.post("/admin/oauth/access_token", json=form).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/admin/oauth/access_token", 405),
        ("POST", "/admin/api/newest/graphql.json", 404),
        ("POST", "/admin/api/2026-10/orders.json", 404),
    ],
)
def test_other_shopify_paths_and_methods_are_refused(
    api: Api, method: str, path: str, status: int
) -> None:
    assert api.http.request(method, path).status_code == status


def test_a_body_without_a_graphql_query_gets_a_400(api: Api) -> None:
    headers = {"x-shopify-access-token": api.token}
    for body in (b"", b"[]", b"{}"):
        response = api.http.post("/admin/api/2026-10/graphql.json", content=body, headers=headers)
        assert response.status_code == 400


def test_faults_apply_to_shopify_requests(tracktor: Sandbox, api: Api) -> None:
    tracktor.faults = Faults(too_many_requests=1)
    response = api.search()
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert tracktor.faults_met[Fault.TOO_MANY_REQUESTS] == 1


def test_the_present_time_of_a_shop_is_june_2026_by_default() -> None:
    assert Shop(orders=1).now.isoformat() == "2026-06-01T12:00:00+00:00"


def test_an_order_with_an_unsent_line_is_partially_fulfilled(tracktor: Sandbox, api: Api) -> None:
    orders = map(tracktor.shop.order, tracktor.shop.order_ids)
    order = next(
        order for order in orders if order["fulfillments"] and order["line_item_count"] > 1
    )

    def state() -> str:
        [node] = api.orders(f"id:{order['order_id']}")["nodes"]
        return str(node["displayFulfillmentStatus"])

    assert state() == "FULFILLED"
    first = order["fulfillments"][0]
    first["line_items"] = first["line_items"][:1]
    tracktor.shop.replace(order | {"fulfillments": [first]})
    assert state() == "PARTIALLY_FULFILLED"
