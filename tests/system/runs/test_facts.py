"""Facts that a source has about orders, on the orders that a scan reads."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

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
from prefect_tracktor.sandbox import MailServer, Sandbox, Shop, ShopifyRules
from prefect_tracktor.sources import FoundOrder, OrderSource

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    rules = ShopifyRules(scopes=frozenset({"read_orders", "read_all_orders"}))
    shop = Shop(orders=60, expired=6, now=datetime.now(UTC))
    with Sandbox(shop, shopify=rules) as sandbox:
        yield sandbox


@pytest.fixture
def source(shopify: ShopifyCredentials) -> ShopifyOrders:
    return ShopifyOrders(credentials=shopify, created_within_days=0)


@flow
def read_all(
    credentials: TracktorCredentials, orders: list[int | FoundOrder] | OrderSource
) -> dict[int, Order]:
    scan = Scan(credentials, orders, ReadingOptions(chunk_size=7, chunks_at_once=2))
    return {order.order_id: order for batch in scan for order in batch.found}


def test_orders_from_shopify_carry_its_facts_such_as_a_refund(
    tracktor: Sandbox, credentials: TracktorCredentials, source: ShopifyOrders
) -> None:
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


def test_no_email_is_sent_about_an_order_refunded_in_shopify(
    tracktor: Sandbox, source: ShopifyOrders, run: Callable[..., Any], mail: MailServer
) -> None:
    refunded, *others = tracktor.shop.customers_to_write_to()
    tracktor.shopify.describe(refunded, financial_status="REFUNDED")
    report = run(orders=source)
    assert report.cancelled == (refunded,)
    assert sorted(report.sent) == sorted(others)
    assert len(mail.messages) == len(others)
    assert run(orders=source, include_cancelled=True).sent == (refunded,)


def test_order_ids_without_facts_are_read_without_facts(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    first, *others = tracktor.shop.order_ids[:20]
    german = OrderFacts(country="DE")
    read = read_all(credentials, [FoundOrder(first, german), *others])
    assert read.pop(first).facts == german
    assert {order.facts for order in read.values()} == {OrderFacts()}
