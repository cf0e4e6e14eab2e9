"""Reading orders in a flow: one task run per chunk compared with one task run per order.

Run it with `make benchmark`. The sandbox runs in another process and is not measured. Both ways
alternate, and read the same shop through the same client.
"""

import statistics
import time
from collections.abc import Callable, Sequence

from prefect import flow, unmapped
from prefect.testing.utilities import prefect_test_harness

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.sandbox import sandbox_process
from prefect_tracktor.tasks import get_order

ROUNDS = 3
IN_BULK = 4_000
ONE_BY_ONE = 400
# Prefect's server needs some time to process hundreds of task runs
PAUSE_SECONDS = 30


def in_bulk(credentials: TracktorCredentials, orders: Sequence[int]) -> int:
    """Read with one task run per 500 orders, as the ready-made flows do."""
    return sum(len(batch.found) for batch in Scan(credentials, orders))


def one_by_one(credentials: TracktorCredentials, orders: Sequence[int]) -> int:
    """Read with one task run per order."""
    return len(get_order.map(unmapped(credentials), orders).result())


@flow
def compare(credentials: TracktorCredentials, orders: list[int]) -> float:
    """Read in both ways within one flow run, and print and return the ratio of their rates."""
    bulk = orders_a_second(in_bulk, credentials, orders)
    single = orders_a_second(one_by_one, credentials, orders[:ONE_BY_ONE])
    print(
        f"one by one {single:.0f} orders/s, in bulk {bulk:.0f} orders/s, ratio {bulk / single:.1f}"
    )
    return bulk / single


def orders_a_second(
    read: Callable[[TracktorCredentials, Sequence[int]], int],
    credentials: TracktorCredentials,
    orders: Sequence[int],
) -> float:
    """Measure the rate of a way to read orders, which must read all of them."""
    start = time.perf_counter()
    count = read(credentials, orders)
    seconds = time.perf_counter() - start
    if count != len(orders):
        raise AssertionError(f"read {count} of {len(orders)}")
    return len(orders) / seconds


def main() -> None:
    """Print both rates of each round, and the median of the ratios."""
    with (
        prefect_test_harness(server_startup_timeout=300),
        sandbox_process(orders=IN_BULK, prepared=True) as shop,
    ):
        credentials = TracktorCredentials(
            uuid=shop.uuid, api_key=shop.api_key, base_url=shop.base_url
        )
        ratios = []
        for _ in range(ROUNDS):
            ratios.append(compare(credentials, list(shop.order_ids)))
            time.sleep(PAUSE_SECONDS)
    print(f"median ratio of {ROUNDS} rounds: {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
