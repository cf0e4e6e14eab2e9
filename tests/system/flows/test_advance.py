"""`advance_custom_statuses`: orders move through a shop's stages by age, only forward."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from prefect_tracktor import (
    InvalidInput,
    LimitExceeded,
    OrderFile,
    ShopifyCredentials,
    ShopifyOrders,
    StatusStage,
    TracktorCredentials,
)
from prefect_tracktor.flows import advance_custom_statuses
from prefect_tracktor.sandbox import Sandbox, Shop
from tests.support.orders import OrderServer, order, parcel

pytestmark = pytest.mark.usefixtures("prefect_api")

STAGES = [StatusStage("Cutting", 10), StatusStage("Sewing", 40), StatusStage("Gravur läuft", 80)]


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A shop with orders of up to 120 days; some are in production."""
    shop = Shop(orders=400, expired=0, now=datetime.now(UTC))
    for order_id in in_production(shop):
        shop.set_status(order_id, status="Order ready", automatic_carrier_updates=False)
    with Sandbox(shop) as sandbox:
        yield sandbox


def in_production(shop: Shop) -> list[int]:
    """The orders without a parcel."""
    return [i for i in shop.order_ids if not shop.order(i)["fulfillments"]]


def advance(credentials: TracktorCredentials, tracktor: Sandbox, **options: Any) -> Any:
    shop = tracktor.shop
    orders = [*in_production(shop), *shop.order_ids[:60]]
    usual: dict[str, Any] = {"orders": orders, "stages": STAGES}
    return advance_custom_statuses(**({"credentials": credentials} | usual | options))


def stage_of(order: dict[str, Any]) -> str:
    age = datetime.now(UTC) - datetime.fromisoformat(order["order_created_at"])
    reached = [stage.status for stage in STAGES if stage.age <= age]
    return reached[-1] if reached else "order_ready"


def test_orders_get_the_stage_of_their_age_once(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    def in_transit(order: dict[str, Any]) -> bool:
        return bool(order["fulfillments"]) and order["automatic_carrier_updates"]

    before = {
        order_id: order["statuses"]
        for order_id in tracktor.shop.order_ids
        if in_transit(order := tracktor.shop.order(order_id)) or "delivered" in order["statuses"]
    }
    ids = in_production(tracktor.shop)
    report = advance(credentials, tracktor)
    assert set(report.written) >= set(report.planned)
    orders = [tracktor.shop.order(order_id) for order_id in ids]
    assert [set(order["statuses"]) for order in orders] == [{stage_of(order)} for order in orders]
    assert len({stage_of(order) for order in orders}) == 4
    # orders that a carrier updates or delivered stay unchanged
    assert len(before) > 20
    assert not set(report.written) & set(before)
    assert all(tracktor.shop.order(order_id)["statuses"] == was for order_id, was in before.items())
    tracktor.reset_calls()
    assert advance(credentials, tracktor).written == ()
    assert not [path for method, path in tracktor.calls if method == "POST"]


def test_unfulfilled_orders_of_an_export_advance_and_cancelled_ones_are_left_out(
    credentials: TracktorCredentials, tracktor: Sandbox, tmp_path: Path
) -> None:
    made, cancelled = tracktor.shop.order_ids[0:4:2]
    export = tmp_path / "orders.csv"
    export.write_text(
        "Id,Fulfillment Status,Cancelled at\n"
        f"{made},unfulfilled,\n{cancelled},unfulfilled,2026-11-02 10:00:00 -0500\n"
    )
    report = advance(credentials, tracktor, orders=OrderFile(path=str(export)))
    assert report.read == (made,)
    assert report.left_out == {"cancelled": 1}


def test_an_order_in_a_later_stage_is_not_moved_back(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    order_id = in_production(tracktor.shop)[0]
    tracktor.shop.set_status(order_id, status="Gravur läuft")
    age = datetime.now(UTC) - datetime.fromisoformat(
        tracktor.shop.order(order_id)["order_created_at"]
    )
    late = (age + timedelta(days=1)).total_seconds() / 86400
    stages = [StatusStage("Cutting", 0), StatusStage("Gravur läuft", late)]
    report = advance(credentials, tracktor, orders=[order_id], stages=stages)
    assert report.protected == (order_id,)


def test_too_many_stage_changes_stop_the_run_before_the_first(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    with pytest.raises(LimitExceeded, match="max_updates is 1"):
        advance(credentials, tracktor, max_updates=1)
    assert not [path for method, path in tracktor.calls if method == "POST"]


def test_an_unknown_stage_is_refused_before_an_order_is_read(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    with pytest.raises(InvalidInput, match=r"stages\[0\] \('Sowing'\): .* did you mean 'Sewing'\?"):
        advance(credentials, tracktor, stages=[StatusStage("Sowing", 1)])
    assert tracktor.calls == [("GET", "status-options.json")]


def test_a_shopify_source_must_include_unfulfilled_orders(
    credentials: TracktorCredentials, tracktor: Sandbox, shopify: ShopifyCredentials
) -> None:
    with pytest.raises(InvalidInput, match="orders leaves out unfulfilled orders"):
        advance(credentials, tracktor, orders=ShopifyOrders(credentials=shopify))
    assert not tracktor.calls
    being_made = ShopifyOrders(credentials=shopify, fulfillment="unfulfilled")
    # a dry run writes nothing
    before = {i: tracktor.shop.order(i)["statuses"] for i in in_production(tracktor.shop)}
    assert advance(credentials, tracktor, orders=being_made, dry_run=True).planned
    assert {i: tracktor.shop.order(i)["statuses"] for i in before} == before


@pytest.fixture
def server() -> Iterator[OrderServer]:
    """Twenty orders in production, five days old."""
    placed = (datetime.now(UTC) - timedelta(days=5)).isoformat()
    with OrderServer() as server:
        for number in range(1, 21):
            manual = {"automatic_carrier_updates": False, "order_created_at": placed}
            server.orders[number] = order(number, statuses=["Order ready"], **manual)
        yield server


def ship(server: OrderServer) -> None:
    """Fulfill every order; the manual status stays."""
    for number, entry in server.orders.items():
        entry["fulfillments"] = [parcel(number, "Cutting", is_automatic=False)]


def test_shipped_orders_are_handed_back_to_the_carrier(server: OrderServer) -> None:
    ids = list(server.orders)
    cutting = advance_custom_statuses(server.credentials, ids, [StatusStage("Cutting", 1)])
    assert cutting.written == tuple(ids)
    ship(server)
    both = [StatusStage("Cutting", 1), StatusStage("Sewing", 3)]
    report = advance_custom_statuses(server.credentials, ids, both)
    assert report.written == tuple(ids)
    assert report.complete
    assert all(entry["automatic_carrier_updates"] for entry in server.orders.values())
    assert {status for entry in server.orders.values() for status in entry["statuses"]} == {
        "Cutting"
    }
    assert advance_custom_statuses(server.credentials, ids, both).right == tuple(ids)


def test_shipped_orders_stay_unchanged_without_release_fulfilled(server: OrderServer) -> None:
    ship(server)
    report = advance_custom_statuses(
        server.credentials, list(server.orders), [StatusStage("Sewing", 3)], release_fulfilled=False
    )
    assert report.protected == tuple(server.orders)
    assert not report.written


def test_an_order_shipped_after_the_plan_gets_no_stage(server: OrderServer) -> None:
    reads = len(server.orders) + 1

    def ship_then(_path: str) -> None:
        if len(server.calls) == reads:
            ship(server)

    server.before_answer = ship_then
    report = advance_custom_statuses(
        server.credentials, list(server.orders), [StatusStage("Sewing", 3)]
    )
    assert report.planned == report.written == tuple(server.orders)
    assert all("Sewing" not in entry["statuses"] for entry in server.orders.values())
