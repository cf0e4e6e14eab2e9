"""CPU time of a validated read compared with that of the bare transport.

Run it with `python -m benchmarks.http_reads`. The sandbox runs in another process and is not
measured. Both ways alternate, and read the same orders with 32 requests at once.
"""

import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio
import httpx

from prefect_tracktor import AsyncTracktorClient, TransportLimits
from prefect_tracktor.sandbox import RunningSandbox, sandbox_process

ROUNDS = 7
ORDERS = 4_000
AT_ONCE = 32


async def at_once(read: Callable[[int], Awaitable[object]], order_ids: Iterable[int]) -> None:
    """Read orders with a limited number of requests at once."""
    waiting = iter(order_ids)

    async def work() -> None:
        for order_id in waiting:
            await read(order_id)

    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(work)


async def bare(shop: RunningSandbox) -> float:
    """Read with bare httpx transports, one connection each; return the CPU time per read in ms."""
    one = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    pools = [httpx.AsyncHTTPTransport(limits=one) for _ in range(AT_ONCE)]
    headers = {"host": httpx.URL(shop.base_url).netloc.decode(), "x-api-key": shop.api_key}

    async def read(order_id: int) -> None:
        pool = pools.pop()
        url = f"{shop.base_url}/{shop.uuid}/orders/{order_id}.json"
        response = await pool.handle_async_request(httpx.Request("GET", url, headers=headers))
        await response.aread()
        await response.aclose()
        pools.append(pool)

    try:
        return await cpu_ms(read, shop.order_ids)
    finally:
        for pool in pools:
            await pool.aclose()


async def validated(shop: RunningSandbox) -> float:
    """Read with the client; return the CPU time per read in ms."""
    async with AsyncTracktorClient(
        uuid=shop.uuid,
        api_key=shop.api_key,
        base_url=shop.base_url,
        limits=TransportLimits(max_concurrency=AT_ONCE),
    ) as client:
        return await cpu_ms(client.get_order, shop.order_ids)


async def cpu_ms(read: Callable[[int], Awaitable[object]], order_ids: Sequence[int]) -> float:
    """Connect and warm up; then measure."""
    await at_once(read, order_ids[: 4 * AT_ONCE])
    start = time.process_time()
    await at_once(read, order_ids)
    return 1000 * (time.process_time() - start) / len(order_ids)


def main() -> None:
    """Print both figures of each round, and the median of the ratios."""
    ratios = []
    with sandbox_process(orders=ORDERS, prepared=True) as shop:
        for _ in range(ROUNDS):
            below, whole = anyio.run(bare, shop), anyio.run(validated, shop)
            ratios.append(whole / below)
            print(f"bare {below:.3f} ms, validated {whole:.3f} ms, ratio {whole / below:.2f}")
    print(f"median ratio of {ROUNDS} rounds: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
