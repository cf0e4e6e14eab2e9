"""Sources of orders and desired statuses: lists, files, queries, Shopify, events."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Protocol, TypeVar, runtime_checkable

from prefect.utilities.collections import batched_iterable
from pydantic import BaseModel, BeforeValidator

from prefect_tracktor.sources.event_orders import EventOrders
from prefect_tracktor.sources.found_orders import FoundOrder, FoundOrders
from prefect_tracktor.sources.order_file import OrderFile
from prefect_tracktor.sources.shopify import ShopifyOrders
from prefect_tracktor.sources.status_query import StatusQuery
from prefect_tracktor.sources.status_table import StatusFile, StatusTable
from prefect_tracktor.statuses.desired import DesiredRow, DesiredStatus, desired_rows_of
from prefect_tracktor.validation import checked_id, checked_ids

T = TypeVar("T")

__all__ = [
    "EventOrders",
    "FoundOrder",
    "FoundOrders",
    "OrderFile",
    "OrderSource",
    "Orders",
    "ShopifyOrders",
    "StatusFile",
    "StatusQuery",
    "chunked",
    "iter_desired",
    "iter_orders",
]


def _order_ids(orders: object) -> object:
    """Parse one id or several, as numbers or text; leave blocks and options to pydantic."""
    # with other keys, pydantic would raise a bare TypeError
    has_options = isinstance(orders, Mapping) and all(isinstance(key, str) for key in orders)
    is_source = has_options or isinstance(orders, BaseModel)
    return orders if is_source else checked_ids(orders, field="orders")


# the type of the flows' parameter `orders`: Prefect shows a form for each alternative
Orders = Annotated[list[int] | OrderFile | ShopifyOrders | EventOrders, BeforeValidator(_order_ids)]


@runtime_checkable
class OrderSource(Protocol):
    """Source of orders, such as an `OrderFile`."""

    def find_orders(self) -> Iterator[FoundOrder]:
        """Find the orders, each once."""


def iter_desired(desired: Sequence[DesiredStatus] | StatusTable) -> Iterator[DesiredRow]:
    """Yield the desired statuses of a list or source, each with its place."""
    if isinstance(desired, StatusTable):
        return desired.desired()
    return desired_rows_of(desired, field="desired")


def iter_orders(orders: Sequence[int | FoundOrder] | OrderSource) -> FoundOrders:
    """Return the orders of a list or source, each once, in the given order."""
    if isinstance(orders, OrderSource):
        found = orders.find_orders()
        if isinstance(found, FoundOrders):
            return found
        name = type(orders).__name__
        return FoundOrders(
            _each_once(found, field=f"orders of the {name}"),
            why_none=lambda: f"the {name} finds no order",
        )
    return FoundOrders(
        list(_each_once(orders, field="orders")), why_none=lambda: "the list `orders` is empty"
    )


def _each_once(orders: Iterable[int | FoundOrder], *, field: str) -> Iterator[FoundOrder]:
    seen: set[int] = set()
    for index, entry in enumerate(orders):
        order = entry if isinstance(entry, FoundOrder) else FoundOrder(entry)
        order_id = checked_id(order.order_id, field=f"{field}[{index}]")
        if order_id not in seen:
            seen.add(order_id)
            yield FoundOrder(order_id, order.facts)


def chunked(entries: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split a stream into lists of at most `size`, each read when it is needed."""
    return map(list, batched_iterable(entries, size))
