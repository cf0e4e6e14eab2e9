"""Webhook deliveries in the background, with retries, to addresses on this machine."""

import asyncio
import logging
from collections import defaultdict
from typing import Any, NamedTuple

import aiohttp
from pydantic_core import to_json

from prefect_tracktor.models import ShipmentStatus
from prefect_tracktor.sandbox.faults import Fault, FaultInjector
from prefect_tracktor.sandbox.response_format import ResponseFormat
from prefect_tracktor.sandbox.shop import ChangedOrder
from prefect_tracktor.validation import is_loopback, parsed_address

_CONCURRENCY_PER_ADDRESS = 8
_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.1, 2.0

_log = logging.getLogger(__name__)


class Delivery(NamedTuple):
    """The outcome of a webhook delivery.

    `status` is the receiver's last response; `None` if it could not be reached, or if the delivery
    was lost by an injected fault. `fulfillment_id` is `None` for a delivery of an order. `fault` is
    the injected fault, for a duplicated delivery only of the second copy. `attempts` is how often
    it was sent: 0 if it was lost.

    Example:
        >>> Delivery(1, "order/all", "http://127.0.0.1/", status=200).is_accepted
        True
    """

    webhook_id: int
    topic: str
    address: str
    status: int | None = None
    order_id: int | None = None
    fulfillment_id: int | None = None
    status_key: str = ""
    fault: Fault | None = None
    attempts: int = 0

    @property
    def is_accepted(self) -> bool:
        """Whether the receiver accepted it."""
        return self.status is not None and 200 <= self.status < 300


class Deliveries:
    """Deliveries of webhooks as background tasks, several at a time to each address."""

    def __init__(self) -> None:
        self.done: list[Delivery] = []
        self.running: set[asyncio.Task[None]] = set()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        self._locks: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    def post(
        self,
        changed: ChangedOrder,
        webhooks: list[dict[str, Any]],
        response_format: ResponseFormat,
        injector: FaultInjector,
    ) -> None:
        """Deliver a change to each webhook with a matching topic, with injected faults."""
        bare = response_format.model_copy(update={"wrapped": False})
        for hook in webhooks:
            for subject in _subjects(hook["topic"], changed):
                if not _is_on_this_machine(hook["address"]):
                    _log.warning(
                        "webhook %s is not delivered: the sandbox only posts to this machine",
                        hook["id"],
                    )
                    continue
                delivery = Delivery(
                    *(hook["id"], hook["topic"], hook["address"]),
                    order_id=subject["order_id"],
                    fulfillment_id=subject.get("fulfillment_id"),
                    status_key=changed.status_key,
                )
                self._send(delivery, to_json(bare.shaped("", subject)), injector)

    async def wait(self) -> None:
        while self.running:
            await asyncio.wait(self.running)

    async def close(self) -> None:
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        await self._session.close()

    def _send(self, delivery: Delivery, body: bytes, injector: FaultInjector) -> None:
        injected, patience = injector.next_delivery(), injector.faults.patience_seconds
        marked = delivery._replace(fault=injected.kind)
        if injected.kind is Fault.LOST:
            self.done.append(marked)
            return
        if injected.kind is Fault.DUPLICATED:
            self._start(delivery, body, patience)
        self._start(marked, body, patience, after_seconds=injected.delay_seconds)

    def _start(
        self, delivery: Delivery, body: bytes, patience: float, *, after_seconds: float = 0
    ) -> None:
        task = asyncio.create_task(self._deliver(delivery, body, patience, after_seconds))
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _deliver(
        self, delivery: Delivery, body: bytes, patience: float, after_seconds: float
    ) -> None:
        """Send a delivery until it is accepted, or patience ends."""
        await asyncio.sleep(after_seconds)
        # deliveries for one order are sent in order, but a second copy does not wait for the first
        lane = (delivery.order_id or 0) + (delivery.fault is Fault.DUPLICATED)
        async with self._locks[delivery.address, lane % _CONCURRENCY_PER_ADDRESS]:
            loop = asyncio.get_running_loop()
            deadline, pause = loop.time() + patience, _MIN_PAUSE_SECONDS
            while True:
                status = await self._attempt(delivery.address, body)
                delivery = delivery._replace(status=status, attempts=delivery.attempts + 1)
                if delivery.is_accepted or loop.time() + pause > deadline:
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)
        self.done.append(delivery)

    async def _attempt(self, address: str, body: bytes) -> int | None:
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                address, data=body, headers=headers, allow_redirects=False
            ) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


def _is_on_this_machine(address: str) -> bool:
    url = parsed_address(address)
    return url is not None and is_loopback(url.host)


def _subjects(topic: str, changed: ChangedOrder) -> list[dict[str, Any]]:
    subject, _, event = topic.partition("/")
    # a ready order is not in transit yet [inferred]
    is_ready = changed.status_key == ShipmentStatus.ORDER_READY
    if event not in {"all", "pre_transit" if is_ready else changed.status_key}:
        return []
    return [changed.order] if subject == "order" else changed.moved
