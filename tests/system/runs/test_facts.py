"""What a source knows of its orders comes with the orders that a scan reads."""

from datetime import UTC, datetime

import pytest
from prefect import flow

from prefect_tracktor import (
    Order,
    OrderFacts,
    ShopifyCredentials,
    ShopifyOrders,
    TracktorCredentials,
)
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.sandbox import Sandbox, Shop
from prefect_tracktor.sources import FoundOrder, OrderSource

pytestmark = pytest.mark.usefixtures("prefect_api")


@flow
def read_all(
    credentials: TracktorCredentials, orders: list[int | FoundOrder] | OrderSource
) -> dict[int, Order]:
    scan = Scan(credentials, orders, ReadingOptions(chunk_size=7, chunks_at_once=2))
    return {order.order_id: order for batch in scan for order in batch.found}


def test_orders_from_shopify_come_with_their_facts_and_are_cancelled_by_them() -> None:
    with Sandbox(Shop(orders=100, now=datetime.now(UTC))) as tracktor:
        credentials = TracktorCredentials(
            uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
        )
        shopify = ShopifyCredentials(
            shop="sandbox-shop",
            access_token=tracktor.shopify_access_token,
            base_url=tracktor.shopify_url,
        )
        source = ShopifyOrders(credentials=shopify)
        expected = dict(source.find_orders())
        refunded, *others = expected
        tracktor.shopify.describe(refunded, financial_status="REFUNDED")
        read = read_all(credentials, source)
    assert read.keys() == expected.keys()
    assert read[refunded].is_cancelled
    assert {order_id: read[order_id].facts for order_id in others} == {
        order_id: expected[order_id] for order_id in others
    }
    assert not any(read[order_id].is_cancelled for order_id in others)


def test_ids_have_no_facts_unless_they_come_with_them(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    first, *others = tracktor.shop.order_ids[:20]
    german = OrderFacts(country="DE")
    read = read_all(credentials, [FoundOrder(first, german), *others])
    assert read.pop(first).facts == german
    assert {order.facts for order in read.values()} == {OrderFacts()}
