"""Orders from a list or a source, and chunks."""

import re
from collections.abc import Iterator
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.models import OrderFacts
from prefect_tracktor.sources import FoundOrder, Orders, OrderSource, chunked, iter_orders

GERMAN = OrderFacts(country="DE")


class Warehouse:
    """A source from another package."""

    def find_orders(self) -> Iterator[FoundOrder]:
        return iter([FoundOrder(7), FoundOrder(8, GERMAN)])


def test_a_list_of_orders_keeps_its_order_without_duplicates() -> None:
    assert list(iter_orders([3, 1, 3, 2, 1]).order_ids) == [3, 1, 2]


def test_a_list_may_contain_ids_and_found_orders() -> None:
    assert list(iter_orders([7, FoundOrder(8, GERMAN)])) == [(7, OrderFacts()), (8, GERMAN)]


def test_an_object_with_find_orders_is_an_order_source() -> None:
    assert isinstance(Warehouse(), OrderSource)
    assert list(iter_orders(Warehouse())) == [FoundOrder(7), (8, GERMAN)]


@pytest.mark.parametrize("orders", [{5001: "Sewing"}, None, b"5001"])
def test_a_flow_parameter_that_is_no_order_list_is_rejected(orders: object) -> None:
    with pytest.raises(ValidationError, match="orders must be a list of Shopify order ids, not"):
        TypeAdapter(Orders).validate_python(orders)


class Repeating:
    """A source that does not keep the promise of `find_orders`."""

    def __init__(self, *orders: object) -> None:
        self.orders = orders

    def find_orders(self) -> Iterator[FoundOrder]:
        return iter(self.orders)  # type: ignore[arg-type]


def test_a_source_that_repeats_orders_yields_each_once() -> None:
    source = Repeating(FoundOrder(7), FoundOrder(8, GERMAN), FoundOrder(7), 8, "9")
    assert list(iter_orders(source)) == [FoundOrder(7), FoundOrder(8, GERMAN), FoundOrder(9)]


@pytest.mark.parametrize("entry", [FoundOrder(0), FoundOrder(2**63), "#1001", None])
def test_an_invalid_id_from_a_source_is_reported_with_its_position(entry: object) -> None:
    orders = iter_orders(Repeating(FoundOrder(7), entry))
    assert next(orders) == FoundOrder(7)
    with pytest.raises(InvalidInput, match=r"orders of the Repeating\[1\] must be a positive"):
        next(orders)


@pytest.mark.parametrize("entry", [True, 0, -1, 2**63, 1.5, "#5001", None])
def test_an_invalid_order_id_is_rejected_before_the_first_is_yielded(
    entry: object,
) -> None:
    orders: list[int] = [1001, 1002, entry]  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match=re.escape("orders[2] must be a positive whole number")):
        iter_orders(orders)


@given(ids=st.lists(st.integers()), size=st.integers(min_value=1, max_value=20))
def test_chunks_contain_every_id_and_only_the_last_is_shorter(ids: list[int], size: int) -> None:
    chunks = list(chunked(ids, size))
    assert [entry for chunk in chunks for entry in chunk] == ids
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(chunks)


def test_an_endless_stream_is_split_into_chunks() -> None:
    assert list(islice(chunked(count(1), 2), 2)) == [[1, 2], [3, 4]]
