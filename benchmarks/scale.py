"""Scanning a shop in one process, in a process pool and on Dask, with and without latency.

Run it with `python -m benchmarks.scale`. The sandbox runs in another process and uses a core, so a
machine with two has one left for the readers. The limits of the credentials apply to all processes
together. Two figures are separate from the rate: the time to start the processes, and the CPU time
of the flow's process per order, as that process receives all orders.
"""

import logging
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect import flow
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from prefect.testing.utilities import prefect_test_harness
from prefect_dask.task_runners import DaskTaskRunner

from prefect_tracktor import ReadingOptions, TracktorCredentials, TransportLimits
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.sandbox import sandbox_process

ROUNDS = 3
ORDERS = 2_000
CHUNK_SIZE = 250
REQUESTS_AT_ONCE = 64

# the latency of the sandbox in milliseconds
CASES = {"latency of 150 ms": 150, "no latency": 0}
ONE = "1 process"
WAYS: dict[str, tuple[Callable[[], Any], int]] = {
    ONE: (ThreadPoolTaskRunner, 1),
    "process pool, 2": (lambda: ProcessPoolTaskRunner(max_workers=2), 2),
    "Dask, 2 workers": (
        lambda: DaskTaskRunner(
            cluster_kwargs={
                "n_workers": 2,
                "threads_per_worker": 1,
                "host": "127.0.0.1",
                "dashboard_address": None,
                "memory_limit": 0,
                "silence_logs": logging.ERROR,
            }
        ),
        2,
    ),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """The time to start the processes, the rate after it, and the flow's CPU time per order."""

    start_seconds: float
    orders_a_second: float
    work_ms: float


@flow
def scan(credentials: TracktorCredentials, orders: list[int], chunks_at_once: int) -> Figures:
    """Start the processes, then read all orders."""
    before = time.perf_counter()
    read(credentials, orders[:chunks_at_once], 1, chunks_at_once)
    started, worked = time.perf_counter(), time.process_time()
    count = read(credentials, orders, CHUNK_SIZE, chunks_at_once)
    if count != len(orders):
        raise AssertionError(f"read {count} of {len(orders)}")
    return Figures(
        start_seconds=started - before,
        orders_a_second=count / (time.perf_counter() - started),
        work_ms=1000 * (time.process_time() - worked) / count,
    )


def read(
    credentials: TracktorCredentials, orders: list[int], chunk_size: int, chunks_at_once: int
) -> int:
    """Read orders as the ready-made flows do, and return how many were found."""
    reading = ReadingOptions(chunk_size=chunk_size, chunks_at_once=chunks_at_once)
    batches = Scan(credentials, orders, reading)
    return sum(len(batch.found) for batch in batches)


def compare(case: str, latency_ms: int) -> None:
    """Scan in all three ways, alternately, and print their rates and ratios."""
    ratios: dict[str, list[float]] = defaultdict(list)
    with sandbox_process(orders=ORDERS, prepared=True, latency_seconds=latency_ms / 1000) as shop:
        credentials = TracktorCredentials(
            uuid=shop.uuid,
            api_key=shop.api_key,
            base_url=shop.base_url,
            limits=TransportLimits(max_concurrency=REQUESTS_AT_ONCE),
        )
        for _ in range(ROUNDS):
            figures = {}
            for way, (runner, chunks_at_once) in WAYS.items():
                on = scan.with_options(task_runner=runner())
                figures[way] = now = on(credentials, list(shop.order_ids), chunks_at_once)
                ratios[way].append(now.orders_a_second / figures[ONE].orders_a_second)
                print(
                    f"{case}: {way}: start {now.start_seconds:.1f} s, then"
                    f" {now.orders_a_second:.0f} orders/s, own work {now.work_ms:.2f} ms an order"
                )
    for way, measured in ratios.items():
        low, high = min(measured), max(measured)
        middle = statistics.median(measured)
        print(f"{case}: {way}: {middle:.2f} times as fast ({low:.2f} to {high:.2f})")


def main() -> None:
    """Print all figures."""
    with prefect_test_harness(server_startup_timeout=300):
        for case, latency_ms in CASES.items():
            compare(case, latency_ms)


if __name__ == "__main__":
    main()
