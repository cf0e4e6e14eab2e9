"""Reading orders in a flow: one task run per chunk against one task run per order.

Run it with `make benchmark`. The sandbox runs in a process of its own, so that it is not what is
measured; both ways read the same shop through the same client, alternately.
"""

import statistics
import time
from collections.abc import Callable, Sequence

from prefect import flow, unmapped
from prefect.testing.utilities import prefect_test_harness

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.flows.scan import scan
from prefect_tracktor.sandbox import sandbox_process
from prefect_tracktor.tasks import get_order

ROUNDS = 3
IN_BULK = 4_000
ONE_BY_ONE = 200


@flow
def read_in_bulk(credentials: TracktorCredentials, orders: list[int]) -> int:
    """One task run per 500 orders, as the ready-made flows do it."""
    return sum(len(batch.found) for batch in scan(credentials, orders, chunk_size=500))


@flow
def read_one_by_one(credentials: TracktorCredentials, orders: list[int]) -> int:
    """One task run per order."""
    return len(get_order.map(unmapped(credentials), orders).result())


def orders_a_second(
    read: Callable[[TracktorCredentials, list[int]], int],
    credentials: TracktorCredentials,
    orders: Sequence[int],
) -> float:
    """Run a flow and measure it as a whole, with what Prefect spends on the flow run.

    Args:
        read: The flow.
        credentials: The sandbox's.
        orders: What to read.

    Returns:
        Orders read per second.

    Raises:
        AssertionError: It did not read them all.
    """
    start = time.perf_counter()
    read_orders = read(credentials, list(orders))
    seconds = time.perf_counter() - start
    if read_orders != len(orders):
        raise AssertionError(f"read {read_orders} of {len(orders)}")
    return len(orders) / seconds


def main() -> None:
    """Print the rate of both ways in each round, and the median of the ratios."""
    ratios = []
    with (
        prefect_test_harness(server_startup_timeout=300),
        sandbox_process(orders=IN_BULK, prepared=True) as shop,
    ):
        credentials = TracktorCredentials(
            uuid=shop.uuid, api_key=shop.api_key, base_url=shop.base_url
        )
        for number in range(1, ROUNDS + 1):
            single = orders_a_second(read_one_by_one, credentials, shop.order_ids[:ONE_BY_ONE])
            bulk = orders_a_second(read_in_bulk, credentials, shop.order_ids)
            ratios.append(bulk / single)
            print(
                f"round {number}: one by one {single:.0f} orders/s, in bulk {bulk:.0f} orders/s,"
                f" ratio {bulk / single:.1f}"
            )
    print(f"median ratio of {ROUNDS} rounds: {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
