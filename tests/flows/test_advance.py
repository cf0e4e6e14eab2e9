"""Orders move through the shop's own stages as they grow older, and only ever forward."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_tracktor import (
    InvalidInput,
    LimitExceeded,
    ShopifyCredentials,
    ShopifyOrders,
    StatusStage,
    TracktorCredentials,
)
from prefect_tracktor.flows import advance_custom_statuses
from prefect_tracktor.sandbox import Sandbox, Shop

pytestmark = pytest.mark.usefixtures("prefect_api")

STAGES = [StatusStage("Cutting", 10), StatusStage("Sewing", 40), StatusStage("Gravur läuft", 80)]


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A shop whose orders are up to 120 days old today; half of them are in production."""
    shop = Shop(orders=80, expired=0, now=datetime.now(UTC))
    for order_id in shop.order_ids[::2]:
        shop.set_status(order_id, status="Order ready", automatic_carrier_updates=False)
    with Sandbox(shop) as sandbox:
        yield sandbox


def advance(credentials: TracktorCredentials, tracktor: Sandbox, **options: Any) -> Any:
    usual: dict[str, Any] = {"orders": list(tracktor.shop.order_ids), "stages": STAGES}
    return advance_custom_statuses(**({"credentials": credentials} | usual | options))


def stage_of(order: dict[str, Any]) -> str:
    age = datetime.now(UTC) - datetime.fromisoformat(order["order_created_at"])
    reached = [stage.status for stage in STAGES if stage.age <= age]
    return reached[-1] if reached else "order_ready"


def test_each_order_gets_the_stage_of_its_age(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    ids = tracktor.shop.order_ids[::2]
    report = advance(credentials, tracktor)
    assert set(report.written) >= set(report.planned)
    orders = [tracktor.shop.order(order_id) for order_id in ids]
    assert [set(order["statuses"]) for order in orders] == [{stage_of(order)} for order in orders]
    assert len({stage_of(order) for order in orders}) == 4


def test_what_the_carrier_updates_or_delivered_is_never_touched(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    def on_its_way(order: dict[str, Any]) -> bool:
        return bool(order["fulfillments"]) and order["automatic_carrier_updates"]

    shown = {
        order_id: order["statuses"]
        for order_id in tracktor.shop.order_ids
        if on_its_way(order := tracktor.shop.order(order_id)) or "delivered" in order["statuses"]
    }
    report = advance(credentials, tracktor)
    assert len(shown) > 20
    assert not set(report.written) & set(shown)
    assert all(tracktor.shop.order(order_id)["statuses"] == was for order_id, was in shown.items())


def test_a_second_run_writes_nothing(credentials: TracktorCredentials, tracktor: Sandbox) -> None:
    advance(credentials, tracktor)
    tracktor.reset_calls()
    assert advance(credentials, tracktor).written == ()
    assert not [path for method, path in tracktor.calls if method == "POST"]


def test_an_order_that_is_further_on_stays_there(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    order_id = tracktor.shop.order_ids[0]
    tracktor.shop.set_status(order_id, status="Gravur läuft")
    age = datetime.now(UTC) - datetime.fromisoformat(
        tracktor.shop.order(order_id)["order_created_at"]
    )
    late = (age + timedelta(days=1)).total_seconds() / 86400
    stages = [StatusStage("Cutting", 0), StatusStage("Gravur läuft", late)]
    report = advance(credentials, tracktor, orders=[order_id], stages=stages)
    assert report.protected == (order_id,)


def test_a_dry_run_writes_nothing(credentials: TracktorCredentials, tracktor: Sandbox) -> None:
    report = advance(credentials, tracktor, dry_run=True)
    assert report.planned
    assert not [path for method, path in tracktor.calls if method == "POST"]


def test_more_writes_than_allowed_stop_the_run_before_the_first(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    with pytest.raises(LimitExceeded, match="max_updates is 1"):
        advance(credentials, tracktor, max_updates=1)
    assert not [path for method, path in tracktor.calls if method == "POST"]


def test_an_unknown_stage_is_refused_before_an_order_is_read(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    with pytest.raises(InvalidInput, match=r"stages\[0\] \('Sowing'\): .* meant: 'Sewing'\?"):
        advance(credentials, tracktor, stages=[StatusStage("Sowing", 1)])
    assert tracktor.calls == [("GET", "status-options.json")]


def test_orders_from_shopify_must_hold_those_that_are_still_being_made(
    credentials: TracktorCredentials, tracktor: Sandbox, shopify: ShopifyCredentials
) -> None:
    with pytest.raises(InvalidInput, match="orders leaves out what is still being made"):
        advance(credentials, tracktor, orders=ShopifyOrders(credentials=shopify))
    assert not tracktor.calls
    being_made = ShopifyOrders(credentials=shopify, fulfillment="unfulfilled")
    assert advance(credentials, tracktor, orders=being_made, dry_run=True).planned
