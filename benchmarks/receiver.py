"""Webhook deliveries: 2,000 in a minute with kills of the receiver, then as fast as possible.

Run it with `make benchmark`. Sandbox, receiver and Prefect server run in separate processes. A
delivery is accepted when the receiver responds with 200, and lost if it then becomes no event.
"""

import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventOrder,
)
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.sandbox import RunningSandbox, sandbox_process
from prefect_tracktor.webhooks import WebhookQueue

A_MINUTE = 2_000
KILLS = 5
SENDERS = 50
TOKEN = "benchmark-0123456789abcdef"


class Receiver:
    """A receiver in another process, which can be killed and restarted on the same port."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._port = "0"
        self.start()

    def start(self) -> None:
        """Start the process, and wait until it listens."""
        command = [sys.executable, "-m", "prefect_tracktor", "receive", "--port", self._port]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                command, env=self._environment, stderr=log
            )
        while not (listening := re.search(r"listening on \S+ port (\d+)", self._log.read_text())):
            time.sleep(0.05)
        self._port = listening[1]

    def kill(self) -> None:
        """Kill the process as `kill -9` does."""
        self._process.kill()
        self._process.wait()

    @property
    def address(self) -> str:
        """The address for deliveries."""
        return f"http://127.0.0.1:{self._port}/{TOKEN}"


async def deliver(client: httpx.AsyncClient, receiver: Receiver, order_id: int) -> float:
    """Post a delivery until it is accepted, and return the time of the last request."""
    while True:
        start = time.perf_counter()
        try:
            response = await client.post(receiver.address, json={"order_id": order_id})
        except httpx.TransportError:
            await asyncio.sleep(0.2)
            continue
        if response.status_code == httpx.codes.OK:
            return time.perf_counter() - start
        await asyncio.sleep(0.2)


async def at_a_steady_rate(receiver: Receiver, order_ids: Sequence[int]) -> list[float]:
    """Deliver for a minute, and kill the receiver several times in it."""
    async with httpx.AsyncClient(timeout=60) as client, asyncio.TaskGroup() as group:
        kills = group.create_task(kill_now_and_then(receiver))
        deliveries = []
        start = time.perf_counter()
        for number, order_id in enumerate(order_ids):
            await asyncio.sleep(start + number * 60 / A_MINUTE - time.perf_counter())
            deliveries.append(group.create_task(deliver(client, receiver, order_id)))
        await kills
    return [delivery.result() for delivery in deliveries]


async def kill_now_and_then(receiver: Receiver) -> None:
    """Kill the receiver at even intervals over the minute."""
    for _ in range(KILLS):
        await asyncio.sleep(60 / (KILLS + 1))
        receiver.kill()
        await asyncio.to_thread(receiver.start)


async def as_fast_as_possible(receiver: Receiver, order_ids: Sequence[int]) -> list[float]:
    """Deliver with several senders at once."""
    waiting = iter(order_ids)

    async def send(client: httpx.AsyncClient) -> list[float]:
        return [await deliver(client, receiver, order_id) for order_id in waiting]

    async with httpx.AsyncClient(timeout=60) as client:
        took = await asyncio.gather(*(send(client) for _ in range(SENDERS)))
    return [seconds for some in took for seconds in some]


def events_by_order() -> dict[str, int]:
    """Count the events of each order in Prefect."""
    counts: dict[str, int] = {}
    query = EventFilter(
        event=EventNameFilter(prefix=["tracktor.order."]),
        occurred=EventOccurredFilter.model_validate(
            {"since": datetime(2000, 1, 1, tzinfo=UTC), "until": datetime.now(UTC)}
        ),
        order=EventOrder.ASC,
    )
    with get_client(sync_client=True) as client:
        page = client.read_events(query, limit=50)
        while True:
            for event in page.events:
                counts[event.resource.id] = counts.get(event.resource.id, 0) + 1
            if not page.next_page:
                return counts
            page = client.read_events_page(str(page.next_page))


def in_milliseconds(seconds: Sequence[float]) -> str:
    """Return the median and the 99th percentile as text."""
    median, last = statistics.median(seconds), statistics.quantiles(seconds, n=100)[-1]
    return f"median {median * 1000:.0f} ms, 99th percentile {last * 1000:.0f} ms"


def environment_of(sandbox: RunningSandbox, queue: WebhookQueue) -> dict[str, str]:
    """Return the environment of the receiver."""
    return os.environ | {
        "TRACKTOR_UUID": sandbox.uuid,
        "TRACKTOR_API_KEY": sandbox.api_key,
        "TRACKTOR_BASE_URL": sandbox.base_url,
        "TRACKTOR_RECEIVER_TOKEN": TOKEN,
        "TRACKTOR_QUEUE_URL": queue.url.get_secret_value(),
        "PREFECT_API_URL": PREFECT_API_URL.value() or "",
    }


def main() -> None:
    """Deliver in both ways, then count the events in Prefect."""
    with (
        prefect_test_harness(server_startup_timeout=300),
        sandbox_process(orders=2 * A_MINUTE, prepared=True) as sandbox,
        tempfile.TemporaryDirectory() as folder,
    ):
        account = TracktorCredentials(uuid=sandbox.uuid, api_key=sandbox.api_key).account
        queue = WebhookQueue(url=f"sqlite:///{Path(folder, 'queue.sqlite3')}")
        receiver = Receiver(environment_of(sandbox, queue), Path(folder, "receiver.log"))
        order_ids = list(sandbox.order_ids)
        try:
            took = asyncio.run(at_a_steady_rate(receiver, order_ids[:A_MINUTE]))
            print(f"{A_MINUTE} in a minute, {KILLS} kills: {in_milliseconds(took)}")
            start = time.perf_counter()
            took = asyncio.run(as_fast_as_possible(receiver, order_ids[A_MINUTE:]))
            rate = len(took) / (time.perf_counter() - start)
            print(f"{SENDERS} senders at once: {rate:.0f} a second, {in_milliseconds(took)}")
            start = time.perf_counter()
            while queue.waiting(account) != (0, 0) and time.perf_counter() - start < 600:
                time.sleep(1)
            print(f"{time.perf_counter() - start:.0f} s later all events were in Prefect")
        finally:
            receiver.kill()
        counts = events_by_order()
        print(f"{len(order_ids)} accepted, {len(order_ids) - len(counts)} lost,")
        print(f"{sum(counts.values()) - len(counts)} events twice")


if __name__ == "__main__":
    main()
