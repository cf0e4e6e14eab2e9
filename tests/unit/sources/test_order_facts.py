"""Order facts in export files."""

import json
from datetime import UTC, datetime
from typing import Any

import fsspec  # type: ignore[import-untyped]  # it brings no types
import pytest

from prefect_tracktor import OrderFacts, OrderFile
from prefect_tracktor.sources import FoundOrder

EXPORT = """\
Name,Email,Financial Status,Fulfillment Status,Shipping Method,Created at,Lineitem name,\
Shipping Name,Shipping Country,Cancelled at,Id,Tags
#11,a@example.com,partially_refunded,partial,Express,2026-10-03 09:00:00 -0400,Mug,Ann,US,,11,\
"vip, gift wrap"
#11,a@example.com,,,,,Cup,,,,,
#12,b@example.com,refunded,fulfilled,Standard,2026-10-04 09:00:00 +0000,Mug,Bo,,,12,
"""


def found(content: str, suffix: str = ".csv", **fields: Any) -> list[FoundOrder]:
    fsspec.filesystem("memory").pipe(f"/facts{suffix}", content.encode())
    file = OrderFile.model_validate({"path": f"memory://facts{suffix}"} | fields)
    return list(file.find_orders())


def facts(content: str, suffix: str = ".csv") -> OrderFacts:
    [(order_id, order_facts)] = found(content, suffix)
    assert order_id == 11
    return order_facts


def test_order_facts_are_read_from_a_shopify_export() -> None:
    first, refunded = found(EXPORT, include_cancelled=True)
    assert first.facts == OrderFacts(
        created_at=datetime(2026, 10, 3, 13, tzinfo=UTC),
        financial_status="partially_refunded",
        fulfillment_status="partially_fulfilled",
        country="US",
        shipping_method="Express",
        tags=frozenset({"vip", "gift wrap"}),
    )
    assert not first.facts.is_cancelled
    assert refunded.facts.is_cancelled
    assert refunded.facts.country is None


def test_orders_from_a_file_of_ids_have_no_facts() -> None:
    assert found("Id\n11\n") == [FoundOrder(11, OrderFacts())]
    assert found("11\n12\n", ".jsonl") == [FoundOrder(11), FoundOrder(12)]


def test_found_orders_contain_no_customer_data() -> None:
    found_facts = repr(found(EXPORT))
    assert not any(word in found_facts for word in ("Ann", "a@example.com", "Mug", "#11", "vip"))


@pytest.mark.parametrize(
    "line",
    [
        {
            "createdAt": "2026-10-03T13:00:00Z",
            "displayFinancialStatus": "PAID",
            "displayFulfillmentStatus": "PARTIALLY_FULFILLED",
            "shippingAddress": {"name": "Ann", "countryCodeV2": "US"},
            "shippingLine": {"title": "Express"},
            "tags": ["vip"],
            "customerLocale": "pt-BR",
        },
        {
            "created_at": "2026-10-03T09:00:00-04:00",
            "financial_status": "paid",
            "fulfillment_status": "partial",
            "shipping_address": {"name": "Ann", "country": "United States", "country_code": "US"},
            "shipping_lines": [{"title": "Express", "code": "x"}],
            "tags": "vip",
            "customer_locale": "pt-BR",
        },
    ],
)
def test_order_facts_are_read_from_the_json_of_shopify_apis(line: dict[str, Any]) -> None:
    assert facts(json.dumps(line | {"id": 11}), ".jsonl") == OrderFacts(
        created_at=datetime(2026, 10, 3, 13, tzinfo=UTC),
        financial_status="paid",
        fulfillment_status="partially_fulfilled",
        country="US",
        shipping_method="Express",
        tags=frozenset({"vip"}),
        locale="pt-BR",
    )


@pytest.mark.parametrize(
    "line",
    [
        {"tags": True, "created_at": "soon", "shipping_address": "Main St 1"},
        {"tags": {"a": 1}, "created_at": ["x"], "shippingLine": [], "locale": {}},
        {"tags": None, "created_at": None, "shipping_address": {}, "shipping_lines": {}},
        {"country": "US", "Shipping Country": "United States", "locale": "x" * 300},
    ],
)
def test_an_unreadable_order_fact_is_unknown(line: dict[str, Any]) -> None:
    assert facts(json.dumps(line | {"id": 11}), ".jsonl") == OrderFacts()


@pytest.mark.parametrize(
    "content",
    [
        "Id,Tags,Tags\n11,vip,other\n",
        "Id,Shipping Country,Tags\n11,US,vip\n12,DE,other\n13,FR,never seen",
        "Id,Tags,TAGS\n11,vip,\n",
    ],
)
def test_duplicate_columns_of_facts_are_accepted(content: str) -> None:
    first, *_ = found(content)
    assert first.facts.tags == {"vip"}


def test_a_later_line_of_an_order_adds_missing_facts() -> None:
    lines = "Financial Status,Shipping Country,Tags,Id\n,US,,11\npaid,,vip,11\n"
    found_facts = facts(lines)
    assert (found_facts.country, found_facts.financial_status) == ("US", "paid")
    assert found_facts.tags == {"vip"}
