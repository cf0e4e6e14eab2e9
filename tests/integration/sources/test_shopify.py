"""Orders found by a search in Shopify."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
import stamina
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor import (
    AuthenticationError,
    InvalidInput,
    InvalidResponse,
    OrderFacts,
    ShopifyCredentials,
    ShopifyOrders,
    UnprocessableValue,
)
from prefect_tracktor.sandbox import Faults, Sandbox, Shop, ShopifyRules
from prefect_tracktor.sandbox.search import MalformedSearch, parse_search
from prefect_tracktor.sources import FoundOrder, OrderSource, iter_orders, shopify
from tests.support.scripted import ScriptedServer, answer

ALL_SCOPES = ShopifyRules(scopes=frozenset({"read_orders", "read_all_orders"}))

Orders = Callable[..., ShopifyOrders]


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    # the current time: in an older shop, fewer orders are within 45 days
    with Sandbox(Shop(orders=600, now=datetime.now(UTC)), shopify=ALL_SCOPES) as sandbox:
        yield sandbox


@pytest.fixture
def orders(tracktor: Sandbox) -> Orders:
    credentials = ShopifyCredentials.model_validate(
        {
            "shop": "sandbox-shop",
            "client_id": tracktor.shopify_client_id,
            "client_secret": tracktor.shopify_client_secret,
            "base_url": tracktor.shopify_url,
        }
    )

    def orders(**fields: Any) -> ShopifyOrders:
        return ShopifyOrders.model_validate({"credentials": credentials} | fields)

    return orders


def expected(
    shop: Shop, wanted: Callable[[dict[str, Any]], bool], *, days: float = 10_000
) -> list[int]:
    since = shop.now - timedelta(days=days)
    return [
        order_id
        for order_id in shop.order_ids
        if datetime.fromisoformat((order := shop.order(order_id))["order_created_at"]) >= since
        and wanted(order)
    ]


def is_undelivered(order: dict[str, Any]) -> bool:
    return any(parcel["shipment_status"] != "delivered" for parcel in order["fulfillments"])


def is_incomplete(order: dict[str, Any]) -> bool:
    return int(order["order_id"]) % 3 == 0


def test_shopify_orders_are_an_order_source(orders: Orders) -> None:
    assert isinstance(orders(), OrderSource)
    assert list(iter_orders(orders())) == list(orders().find_orders())


def test_recent_orders_with_an_undelivered_parcel_are_found_by_default(
    tracktor: Sandbox, orders: Orders
) -> None:
    ids = orders().find_orders()
    found = list(ids.order_ids)
    assert found == expected(tracktor.shop, is_undelivered, days=45)
    assert len(found) > 100
    sent = expected(tracktor.shop, lambda order: bool(order["fulfillments"]), days=45)
    assert ids.note == f"left out: {len(sent) - len(found)} delivered"


def test_all_orders_with_an_expired_tracking_are_found(tracktor: Sandbox, orders: Orders) -> None:
    found = set(orders(created_within_days=0).find_orders().order_ids)
    assert found >= tracktor.shop.customers_to_write_to().keys()
    assert len(found) < len(tracktor.shop.order_ids)


@pytest.mark.parametrize(
    ("fulfillment", "wanted"),
    [
        ("fulfilled", lambda order: bool(order["fulfillments"]) and not is_incomplete(order)),
        ("partial", lambda order: bool(order["fulfillments"]) and is_incomplete(order)),
        ("fulfilled or partial", lambda order: bool(order["fulfillments"])),
        ("unfulfilled", lambda order: not order["fulfillments"]),
        ("any", lambda _order: True),
    ],
)
def test_orders_are_found_by_their_fulfillment_status(
    tracktor: Sandbox,
    orders: Orders,
    fulfillment: str,
    wanted: Callable[[dict[str, Any]], bool],
) -> None:
    for order_id in tracktor.shop.order_ids:
        if is_incomplete(tracktor.shop.order(order_id)):
            tracktor.shopify.describe(order_id, partly_fulfilled=True)
    source = orders(fulfillment=fulfillment, created_within_days=0, include_delivered=True)
    found = list(source.find_orders().order_ids)
    assert found == expected(tracktor.shop, wanted)
    assert found


def test_partly_fulfilled_orders_are_found_by_default(tracktor: Sandbox, orders: Orders) -> None:
    half_sent = next(iter(orders().find_orders().order_ids))
    tracktor.shopify.describe(half_sent, partly_fulfilled=True)
    assert half_sent in set(orders().find_orders().order_ids)
    assert half_sent not in set(orders(fulfillment="fulfilled").find_orders().order_ids)


def test_updated_within_days_narrows_created_within_days(tracktor: Sandbox, orders: Orders) -> None:
    since = tracktor.shop.now - timedelta(days=10)

    def changed(order: dict[str, Any]) -> bool:
        times = [parcel["latest_status"]["datetime"] for parcel in order["fulfillments"]]
        return is_undelivered(order) and max(map(datetime.fromisoformat, times)) >= since

    found = list(orders(created_within_days=30, updated_within_days=10).find_orders().order_ids)
    assert found == expected(tracktor.shop, changed, days=30)
    assert 0 < len(found) < len(expected(tracktor.shop, is_undelivered, days=30))


def test_cancelled_orders_are_left_out_unless_included(tracktor: Sandbox, orders: Orders) -> None:
    cancelled = next(iter(orders().find_orders().order_ids))
    tracktor.shopify.describe(cancelled, cancelled=True)
    assert cancelled not in set(orders().find_orders().order_ids)
    assert cancelled in set(orders(include_cancelled=True).find_orders().order_ids)


@pytest.mark.parametrize(
    "tag",
    [
        "vip",
        "vip OR status:any",
        'vip" OR "',
        "vip' OR tag:'x",
        "\\",
        'a\\" OR b',
        "(",
        "-x",
        "é 🎁",
    ],
)
def test_search_syntax_in_a_tag_is_escaped(tracktor: Sandbox, orders: Orders, tag: str) -> None:
    tagged = list(orders().find_orders().order_ids)[3]
    tracktor.shopify.describe(tagged, tags=[tag])
    assert list(orders(tag=tag).find_orders().order_ids) == [tagged]
    none = orders(tag=tag + "x").find_orders()
    assert list(none) == []
    assert none.why_none.startswith("Shopify finds no order of the last 45 days that meets")


def test_a_custom_search_only_narrows_the_result(tracktor: Sandbox, orders: Orders) -> None:
    usual = list(orders().find_orders().order_ids)
    tracktor.shopify.describe(usual[5], tags=["vip"])
    tracktor.shopify.describe(tracktor.shop.order_ids[0], tags=["vip"])  # too old
    assert list(orders(search="tag:vip OR tag:gold").find_orders().order_ids) == [usual[5]]
    assert list(orders(search="-tag:vip").find_orders().order_ids) == [*usual[:5], *usual[6:]]


@pytest.mark.parametrize(
    ("search", "problem"),
    [
        ("tag:vip) OR (status:cancelled", "the parentheses do not match"),
        ("(tag:vip", "the parentheses do not match"),
        ("tag:'vip", "the ' has no counterpart"),
        ('tag:"vip', 'the " has no counterpart'),
        ("tag:vip\\", r"the \\ has no counterpart"),
        ("tag:vip\nOR tag:x", "one line of printable characters"),
    ],
)
def test_a_search_with_unbalanced_quotes_or_parentheses_is_rejected(
    orders: Orders, search: str, problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        orders(search=search)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(["tag:x", " ", "(", ")", '"', "'", "\\", " OR ", " AND ", "-", "vip"]),
        max_size=12,
    ).map("".join)
)
def test_a_custom_search_cannot_override_the_other_conditions(orders: Orders, search: str) -> None:
    try:
        source = orders(search=search)
    except ValidationError:
        return
    order = {"name": "#1", "tags": ["x", "vip"], "cancelledAt": None}
    try:
        within = parse_search(f"tag:nobody ({source.search})")
    except MalformedSearch:
        return
    assert not within.matches(order)


@pytest.mark.parametrize("days", [0, 61])
def test_a_window_beyond_60_days_needs_the_scope_read_all_orders(
    tracktor: Sandbox, orders: Orders, days: int
) -> None:
    tracktor.shopify.rules = ShopifyRules()
    with pytest.raises(InvalidInput, match=r"read_all_orders .* 60 or less, or request"):
        list(orders(created_within_days=days).find_orders().order_ids)
    assert tracktor.shopify.searches == []
    assert list(orders(created_within_days=60).find_orders().order_ids)


def test_a_missing_scope_is_reported_before_the_first_search(
    tracktor: Sandbox, orders: Orders
) -> None:
    tracktor.shopify.rules = ShopifyRules(scopes=frozenset())
    with pytest.raises(AuthenticationError, match="read_orders"):
        list(orders().find_orders().order_ids)
    assert tracktor.shopify.searches == []


def test_an_unknown_search_filter_is_an_error(orders: Orders) -> None:
    with pytest.raises(UnprocessableValue, match=r"ignore a part of the search.*colour"):
        list(orders(search="colour:blue").find_orders().order_ids)


def test_a_found_order_has_the_facts_from_shopify(tracktor: Sandbox, orders: Orders) -> None:
    first, second = islice(orders().find_orders(), 2)
    assert first.facts.shipping_method == "Standard"
    tracktor.shopify.describe(
        first.order_id,
        tags=["vip", "gift wrap"],
        partly_fulfilled=True,
        shipping_method="Express",
        country="BR",
        locale="pt-BR",
    )
    tracktor.shopify.describe(second.order_id, financial_status="REFUNDED", cancelled=True)
    found, cancelled = islice(orders(include_cancelled=True).find_orders(), 2)
    created = datetime.fromisoformat(tracktor.shop.order(first.order_id)["order_created_at"])
    assert found == FoundOrder(
        first.order_id,
        OrderFacts(
            created_at=created.replace(microsecond=0),
            cancelled=False,
            financial_status="paid",
            fulfillment_status="partially_fulfilled",
            country="BR",
            shipping_method="Express",
            tags=frozenset({"vip", "gift wrap"}),
            locale="pt-BR",
        ),
    )
    assert not found.facts.is_cancelled
    assert (cancelled.facts.cancelled, cancelled.facts.financial_status) == (True, "refunded")


def test_an_app_without_access_to_addresses_finds_orders_without_country(
    tracktor: Sandbox, orders: Orders
) -> None:
    usual = list(orders().find_orders().order_ids)
    assert orders().find_orders().note == ""
    tracktor.shopify.rules = ALL_SCOPES.model_copy(update={"addresses": False})
    found = orders().find_orders()
    refused = len(tracktor.shopify.searches)
    facts = dict(found)
    assert list(facts) == usual
    assert {fact.country for fact in facts.values()} == {None}
    assert {fact.shipping_method for fact in facts.values()} == {"Standard"}
    assert "without their country, as Shopify has not approved the app" in found.note
    assert len(tracktor.shopify.searches) - refused == 2, (
        "addresses are requested once, not for every page"
    )
    orders().verify()


def test_shopify_pages_are_requested_only_when_needed(tracktor: Sandbox, orders: Orders) -> None:
    reading = orders(created_within_days=0).find_orders()
    assert tracktor.shopify.searches == []
    next(reading)
    assert len(tracktor.shopify.searches) == 1


def test_results_beyond_the_search_limit_are_read_by_further_searches(
    tracktor: Sandbox, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracktor.shopify.rules = ALL_SCOPES.model_copy(update={"results_at_most": 260})
    every = {"fulfillment": "any", "created_within_days": 0, "include_delivered": True}
    assert len(list(orders(**every).find_orders().order_ids)) == 260, (
        "Shopify omits the rest without an error"
    )
    monkeypatch.setattr(shopify, "RESULTS_A_SEARCH", 200)
    assert list(orders(**every).find_orders().order_ids) == list(tracktor.shop.order_ids)
    assert len(set(tracktor.shopify.searches)) > 3


def test_a_page_that_is_too_costly_is_requested_smaller(tracktor: Sandbox, orders: Orders) -> None:
    usual = list(orders().find_orders().order_ids)
    tracktor.shopify.rules = ALL_SCOPES.model_copy(
        update={"points_per_object": 1.0, "restored_per_second": 100_000}
    )
    assert list(orders().find_orders().order_ids) == usual


def test_every_order_is_found_although_a_fifth_of_requests_fail(
    tracktor: Sandbox, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = {"fulfillment": "any", "created_within_days": 0, "include_delivered": True}
    monkeypatch.setattr(shopify, "RESULTS_A_SEARCH", 20)
    tracktor.faults = Faults.everything(rate=0.2, seed=3, retry_after_seconds=0)
    with stamina.set_testing(True, attempts=20):
        assert list(orders(**every).find_orders().order_ids) == list(tracktor.shop.order_ids)
    assert sum(tracktor.faults_met.values()) > 2


def _page(*order_ids: int, after: str, at: str = "2026-06-01T12:00:00Z") -> bytes:
    nodes = ",".join(
        f'{{"legacyResourceId": "{order_id}", "createdAt": "{at}", "fulfillments": []}}'
        for order_id in order_ids
    )
    info = f'{{"hasNextPage": true, "endCursor": "{after}"}}'
    return answer(body=f'{{"data": {{"orders": {{"nodes": [{nodes}], "pageInfo": {info}}}}}}}')


SCOPES = answer(
    body='{"data": {"currentAppInstallation": {"accessScopes": [{"handle": "read_orders"}]}}}'
)


def scripted(server: ScriptedServer) -> ShopifyOrders:
    return ShopifyOrders.model_validate(
        {
            "credentials": ShopifyCredentials.model_validate(
                {"shop": "your-store", "access_token": "t0ken", "base_url": server.address}
            )
        }
    )


def test_a_repeated_cursor_is_an_error() -> None:
    pages = [_page(1, after="a"), _page(2, after="b"), _page(1, 3, after="a")]
    found: list[int] = []
    with (
        ScriptedServer([SCOPES, *pages]) as server,
        pytest.raises(InvalidResponse, match="the same cursor twice"),
    ):
        found.extend(scripted(server).find_orders().order_ids)
    assert len(server.requests) == 4


def test_overlapping_pages_yield_each_order_once() -> None:
    pages = [_page(1, 2, after="a"), _page(2, 3, after="b"), _page(3, 4, after="b")]
    with ScriptedServer([SCOPES, *pages]) as server:
        reading = scripted(server).find_orders()
        assert list(islice(reading.order_ids, 4)) == [1, 2, 3, 4]


def test_more_orders_of_one_second_than_the_search_limit_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shopify, "RESULTS_A_SEARCH", 2)
    with (
        ScriptedServer([SCOPES, _page(1, 2, 3, after="a")]) as server,
        pytest.raises(InvalidResponse, match="of the same second"),
    ):
        list(scripted(server).find_orders().order_ids)


@pytest.mark.parametrize(
    "fields",
    [
        {"created_within_days": -1},
        {"fulfillment": "done"},
        {"tag": "x" * 256},
        {"tag": "vip\n"},
        {"credentials": None},
    ],
)
def test_shopify_orders_with_an_invalid_field_are_rejected(
    orders: Orders, fields: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        orders(**fields)
