"""How webhooks reach their addresses: in the background, sent again, on this machine only."""

import asyncio
import logging
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from pydantic_core import to_json

from prefect_tracktor.models import ShipmentStatus
from prefect_tracktor.sandbox.faults import DeliveryFault, DeliveryFaults, FaultInjector
from prefect_tracktor.sandbox.response_format import ResponseFormat
from prefect_tracktor.sandbox.shop import ChangedOrder

_AT_ONCE_PER_ADDRESS = 8
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0
_TIMEOUT = aiohttp.ClientTimeout(total=5)

_log = logging.getLogger(__name__)


class Delivery(NamedTuple):
    """What became of a webhook's message.

    `status` is what the receiver answered at last; `None` if it could not be reached, or if the
    message was lost on purpose. `message` is the message's number: both copies of a duplicated one
    have the same. `fulfillment_id` is `None` for a message about an order. `fault` is what happened
    to it on purpose: of a duplicated message only the second copy has it. `attempts` is how often
    it was sent: 0 if it was lost.

    Example:
        >>> Delivery(webhook_id=1, topic="order/all", address="http://127.0.0.1/", status=200).taken
        True
    """

    webhook_id: int
    topic: str
    address: str
    status: int | None
    message: int = 1
    order_id: int | None = None
    fulfillment_id: int | None = None
    status_key: str = ""
    fault: DeliveryFault | None = None
    attempts: int = 1

    @property
    def taken(self) -> bool:
        """Whether the receiver took the message."""
        return self.status is not None and 200 <= self.status < 300


class _Post(NamedTuple):
    """A message to send; `delivery` says so far which one it is."""

    delivery: Delivery
    body: bytes
    patience_seconds: float


class Deliveries:
    """Posts to webhooks' addresses, several messages at once to each; nobody waits for them."""

    def __init__(self) -> None:
        self.done: list[Delivery] = []
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        self._queues: dict[tuple[str, int], asyncio.Queue[_Post]] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._messages = 0
        self._left = 0
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def left(self) -> int:
        """How many messages are neither delivered nor given up."""
        return self._left

    def post(
        self,
        changed: ChangedOrder,
        webhooks: list[dict[str, Any]],
        shape: ResponseFormat,
        injector: FaultInjector[DeliveryFault] | None = None,
        patience_seconds: float = DeliveryFaults().patience_seconds,
    ) -> None:
        """Queue what each webhook is to be told about a change."""
        injector = injector or FaultInjector(DeliveryFaults())
        shaped = shape.model_copy(update={"wrapped": shape.wrapped_deliveries})
        for webhook in webhooks:
            for name, subject in _subjects(webhook["topic"], changed):
                if is_on_this_machine(webhook["address"]):
                    delivery = self._planned(webhook, subject, changed.status_key)
                    body = to_json(shaped.shaped(name, subject))
                    self._send(_Post(delivery, body, patience_seconds), injector)
                else:
                    _log.warning(
                        "webhook %s is not delivered: the sandbox posts to this machine only",
                        webhook["id"],
                    )

    async def settle(self) -> None:
        """Wait until nothing is left to deliver."""
        await self._settled.wait()

    async def close(self) -> None:
        """Give up what is not delivered yet."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._session.close()

    def _planned(
        self, webhook: dict[str, Any], subject: dict[str, Any], status_key: str
    ) -> Delivery:
        """A delivery before anything was sent."""
        self._messages += 1
        return Delivery(
            webhook["id"],
            webhook["topic"],
            webhook["address"],
            status=None,
            message=self._messages,
            order_id=subject["order_id"],
            fulfillment_id=subject.get("fulfillment_id"),
            status_key=status_key,
            attempts=0,
        )

    def _send(self, post: _Post, injector: FaultInjector[DeliveryFault]) -> None:
        """Send a message, or what is drawn instead."""
        injected = injector.next()
        marked = post._replace(delivery=post.delivery._replace(fault=injected.kind))
        match injected.kind:
            case None:
                self._queue(post)
            case DeliveryFault.LOST:
                self.done.append(marked.delivery)
            case DeliveryFault.REORDERED:
                self._queue(marked, after_seconds=injected.delay_seconds)
            case DeliveryFault.DUPLICATED:
                self._queue(post)
                self._queue(marked, after_seconds=injected.delay_seconds)

    def _queue(self, post: _Post, after_seconds: float = 0.0) -> None:
        self._left += 1
        self._settled.clear()
        queue = self._queue_for(post.delivery)
        if after_seconds:
            asyncio.get_running_loop().call_later(after_seconds, queue.put_nowait, post)
        else:
            queue.put_nowait(post)

    def _queue_for(self, delivery: Delivery) -> asyncio.Queue[_Post]:
        """One for all messages about an order; a second copy must not wait for the first."""
        is_copy = delivery.fault is DeliveryFault.DUPLICATED
        writer = ((delivery.order_id or 0) + is_copy) % _AT_ONCE_PER_ADDRESS
        key = delivery.address, writer
        if key not in self._queues:
            self._queues[key] = asyncio.Queue()
            self._workers.append(asyncio.create_task(self._work(self._queues[key])))
        return self._queues[key]

    async def _work(self, queue: asyncio.Queue[_Post]) -> None:
        while True:
            self.done.append(await self._deliver(await queue.get()))
            self._left -= 1
            if not self._left:
                self._settled.set()

    async def _deliver(self, post: _Post) -> Delivery:
        """Send a message until it is taken, or patience is at its end."""
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + post.patience_seconds
        delivery, pause = post.delivery, _FIRST_PAUSE_SECONDS
        while True:
            status = await self._attempt(post)
            delivery = delivery._replace(status=status, attempts=delivery.attempts + 1)
            if delivery.taken or loop.time() + pause > patient_until:
                return delivery
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _attempt(self, post: _Post) -> int | None:
        try:
            async with self._session.post(
                post.delivery.address,
                data=post.body,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


def is_on_this_machine(address: str) -> bool:
    """Whether the sandbox posts to an address."""
    try:
        host = urlsplit(address).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _subjects(topic: str, changed: ChangedOrder) -> Iterator[tuple[str, dict[str, Any]]]:
    subject, _, event = topic.partition("/")
    if event not in {"all", _event(changed.status_key)}:
        return
    if subject == "order":
        yield "order", changed.order
    else:
        for parcel in changed.moved:
            yield "fulfillment", parcel


def _event(status_key: str) -> str:
    """Which topic tells of a status; a ready order is not in transit yet [inferred]."""
    return "pre_transit" if status_key == ShipmentStatus.ORDER_READY else status_key
