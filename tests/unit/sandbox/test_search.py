"""Parser of Shopify's search syntax, which is stricter than Shopify."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor.sandbox.search import MalformedSearch, parse_search
from prefect_tracktor.sources.shopify import quoted

ORDER: dict[str, Any] = {
    "legacyResourceId": "5001",
    "name": "#1001",
    "createdAt": "2026-06-01T12:00:00Z",
    "updatedAt": "2026-06-03T12:00:00Z",
    "cancelledAt": None,
    "tags": ["VIP", 'say "hello" (it\'s me)'],
    "displayFulfillmentStatus": "FULFILLED",
}


@pytest.mark.parametrize(
    ("search", "matches"),
    [
        ("", True),
        ("fulfillment_status:fulfilled", True),
        ("fulfillment_status:unfulfilled", False),
        ("status:cancelled", False),
        ("-status:cancelled", True),
        ("NOT status:cancelled AND tag:vip", True),
        ("created_at:>='2026-06-01T12:00:00Z'", True),
        ("created_at:>'2026-06-01T12:00:00Z'", False),
        ('created_at:<"2026-06-02" updated_at:>=2026-06-03', True),
        ("id:>=5001 id:<5002", True),
        ("name:1001", True),
        ("1001", True),
        ("vip", True),
        ("nobody", False),
        ("tag:nobody OR tag:vip", True),
        ("tag:nobody AND tag:vip", False),
        ("tag:nobody (tag:nobody OR tag:vip)", False),
        ("-(tag:nobody OR tag:vip)", False),
        (r'tag:"say \"hello\" (it' + "'" + r's me)"', True),
        (r"tag:'say \"hello\" (it\'s me)'", True),
    ],
)
def test_a_search_matches_as_shopify_documents(search: str, matches: bool) -> None:
    parsed = parse_search(search)
    assert parsed.matches(ORDER) is matches
    assert parsed.warnings == []


@pytest.mark.parametrize(
    "search", ["(tag:vip", "tag:vip)", "tag:'vip", "tag:", "NOT", "a OR", "OR a", "()", ":"]
)
def test_a_malformed_search_is_an_error(search: str) -> None:
    with pytest.raises(MalformedSearch):
        parse_search(search)


@pytest.mark.parametrize(
    "search",
    [
        "colour:blue",
        "fulfillment_status:done",
        "status:any",
        "created_at:>soon",
        "id:x",
        "tag:>vip",
    ],
)
def test_an_unknown_filter_is_ignored_with_a_warning(search: str) -> None:
    parsed = parse_search(search)
    assert parsed.matches(ORDER)
    assert parsed.warnings[0]["field"] == search.partition(":")[0]


@given(st.text())
def test_a_quoted_value_matches_only_that_value(value: str) -> None:
    search = parse_search(f"tag:{quoted(value)}")
    assert search.matches(ORDER | {"tags": [value]})
    assert not search.matches(ORDER | {"tags": [f"{value}x"]})
    assert search.warnings == []
