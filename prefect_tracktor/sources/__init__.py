"""Where orders and desired statuses come from: a list, a file, a query."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, BeforeValidator

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.sources.event_orders import EventOrders
from prefect_tracktor.sources.found_orders import FoundOrder, FoundOrders
from prefect_tracktor.sources.order_file import OrderFile
from prefect_tracktor.sources.shopify import ShopifyOrders
from prefect_tracktor.sources.status_file import StatusFile
from prefect_tracktor.sources.status_query import StatusQuery
from prefect_tracktor.sources.status_table import StatusTable
from prefect_tracktor.statuses.desired import DesiredRow, DesiredStatus, desired_rows_of
from prefect_tracktor.validation import checked_id

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
    """Take one id as a list of one, and text of digits as an id; leave blocks to pydantic."""
    if isinstance(orders, Mapping) and not all(isinstance(key, str) for key in orders):
        raise InvalidInput(
            "orders must be a list of Shopify order ids, or a block such as OrderFile"
        )
    if isinstance(orders, int | str):
        orders = [orders]
    if isinstance(orders, Mapping | bytes | bytearray | memoryview | BaseModel) or not isinstance(
        orders, Iterable
    ):
        return orders
    return [checked_id(entry, field=f"orders[{index}]") for index, entry in enumerate(orders)]


# what flows take: Prefect draws a form for each of these
Orders = Annotated[list[int] | OrderFile | ShopifyOrders | EventOrders, BeforeValidator(_order_ids)]


@runtime_checkable
class OrderSource(Protocol):
    """Anything that finds orders, such as an `OrderFile`."""

    def find_orders(self) -> Iterator[FoundOrder]:
        """Find the orders, each once."""
        ...


def iter_desired(desired: Sequence[DesiredStatus] | StatusTable) -> Iterator[DesiredRow]:
    """Name the desired statuses of a list or of a source, each with its place."""
    if isinstance(desired, StatusTable):
        return desired.desired()
    return desired_rows_of(desired, field="desired")


def iter_orders(orders: Sequence[int | FoundOrder] | OrderSource) -> FoundOrders:
    """Find the orders of a list or of a source, each once and in their order."""
    if isinstance(orders, OrderSource):
        found = orders.find_orders()
        if isinstance(found, FoundOrders):
            return found
        return FoundOrders(found, why_none=lambda: f"the {type(orders).__name__} finds no order")
    found = (
        entry
        if isinstance(entry, FoundOrder)
        else FoundOrder(checked_id(entry, field=f"orders[{index}]"))
        for index, entry in enumerate(orders)
    )
    return FoundOrders(
        {order.order_id: order for order in found}.values(),
        why_none=lambda: "the list `orders` is empty",
    )


def chunked(entries: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of at most `size`, reading no further than asked."""
    if size < 1:
        raise InvalidInput(f"the size of a chunk must be 1 or more, not {size}")
    remaining = iter(entries)
    return iter(lambda: list(islice(remaining, size)), [])
