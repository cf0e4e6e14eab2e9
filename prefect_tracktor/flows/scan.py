"""The first two steps of every flow that scans a shop: find the orders, read them in bulk."""

from collections.abc import Iterator, Sequence

from prefect_tracktor.bulk import Batch
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.models import Order
from prefect_tracktor.reporting import Progress
from prefect_tracktor.sources import OrderSource, chunked, iter_order_ids
from prefect_tracktor.tasks import get_orders


def scan(
    credentials: TracktorCredentials, orders: Sequence[int] | OrderSource, *, chunk_size: int
) -> Iterator[Batch[Order]]:
    """Read a shop's orders, one task run per chunk, on the task runner of the flow it is used in.

    One chunk is read at a time: a chunk is concurrent in itself, the limits of the credentials
    hold for the whole, and memory stays that of one chunk.

    Args:
        credentials: The account.
        orders: Order ids, or a source of them.
        chunk_size: How many orders a task run reads.

    Yields:
        The outcome of each chunk.

    Raises:
        InvalidInput: An order id is none; the message says where it stands.
        BadCredentials: Tracktor refuses the credentials.

    Example:
        >>> from prefect import flow
        >>> @flow
        ... def count(credentials: TracktorCredentials, orders: list[int]) -> int:
        ...     return sum(len(batch.found) for batch in scan(credentials, orders, chunk_size=2))
        >>> count(credentials, order_ids[:5])
        5
    """
    total = len(orders) if isinstance(orders, Sequence) else None
    with Progress("tracktor-scan", description="Orders read", total=total) as progress:
        for chunk in chunked(iter_order_ids(orders), chunk_size):
            yield get_orders.submit(credentials, chunk).result()
            progress.advance(len(chunk))
