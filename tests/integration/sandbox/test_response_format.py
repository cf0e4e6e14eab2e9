"""Response formats: the client reads the same order in each of them."""

from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_tracktor import api
from prefect_tracktor.sandbox import ResponseFormat, Sandbox, Shop

FORMATS = st.builds(ResponseFormat, **{name: st.booleans() for name in ResponseFormat.model_fields})
SHOP = Shop(orders=24, expired=4)


@given(response_format=FORMATS, order_id=st.sampled_from(SHOP.order_ids))
@settings(deadline=None)
def test_an_order_reads_the_same_in_every_response_format(
    response_format: ResponseFormat, order_id: int
) -> None:
    order = SHOP.order(order_id)
    read = api.get_order(order_id).read
    assert read(response_format.shaped("order", order)) == read(order)


@given(response_format=FORMATS)
def test_the_status_options_read_the_same_in_every_response_format(
    response_format: ResponseFormat,
) -> None:
    read = api.get_status_options().read
    labels = [
        option.label
        for option in read(response_format.shaped("status_options", SHOP.status_options))
    ]
    assert labels == [option["label"] for option in SHOP.status_options]


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        ({}, {"fulfillment": {"id": 7, "status": [{"key": "a"}], "name": None}}),
        ({"wrapped": False}, {"id": 7, "status": [{"key": "a"}], "name": None}),
        (
            {"status_as_object": True},
            {"fulfillment": {"id": 7, "status": {"a": {"key": "a"}}, "name": None}},
        ),
        (
            {"numbers_as_strings": True, "empty_strings_for_null": True},
            {"fulfillment": {"id": "7", "status": [{"key": "a"}], "name": ""}},
        ),
    ],
)
def test_each_response_format_option_changes_the_response(
    response_format: dict[str, bool], expected: dict[str, Any]
) -> None:
    fulfillment = {"id": 7, "status": [{"key": "a"}], "name": None}
    assert ResponseFormat(**response_format).shaped("fulfillment", fulfillment) == expected


def test_numbers_as_strings_does_not_change_booleans() -> None:
    response_format = ResponseFormat(wrapped=False, numbers_as_strings=True)
    assert response_format.shaped("order", {"automatic": True, "price": 4.9}) == {
        "automatic": True,
        "price": "4.9",
    }


def test_the_response_format_can_change_while_the_sandbox_runs(
    tracktor: Sandbox, api: httpx.Client
) -> None:
    path = f"orders/{tracktor.shop.order_ids[0]}.json"
    assert set(api.get(path).json()) == {"order"}
    tracktor.response_format = ResponseFormat(wrapped=False, numbers_as_strings=True)
    assert api.get(path).json()["order_id"] == str(tracktor.shop.order_ids[0])
