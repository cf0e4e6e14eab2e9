"""Deliveries of webhooks: in the background, sent again, to this machine only."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from pydantic_core import to_json

from prefect_tracktor.models import ShipmentStatus
from prefect_tracktor.sandbox.faults import Fault, FaultInjector
from prefect_tracktor.sandbox.response_format import ResponseFormat
from prefect_tracktor.sandbox.shop import ChangedOrder

_AT_ONCE_PER_ADDRESS = 8
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0

_log = logging.getLogger(__name__)


class Delivery(NamedTuple):
    """The outcome of a webhook delivery.

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
    status: int | None = None
    message: int = 1
    order_id: int | None = None
    fulfillment_id: int | None = None
    status_key: str = ""
    fault: Fault | None = None
    attempts: int = 0

    @property
    def taken(self) -> bool:
        """Whether the receiver accepted it."""
        return self.status is not None and 200 <= self.status < 300


class Deliveries:
    """Posts to webhooks' addresses, several messages at once to each; nobody waits for them."""

    def __init__(self) -> None:
        self.done: list[Delivery] = []
        self.under_way: set[asyncio.Task[None]] = set()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        self._turns: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._messages = 0

    def post(
        self,
        changed: ChangedOrder,
        webhooks: list[dict[str, Any]],
        answers: ResponseFormat,
        injector: FaultInjector,
    ) -> None:
        """Send what each webhook is to be told about a change, or what is drawn instead."""
        shape = answers.model_copy(update={"wrapped": answers.wrapped_deliveries})
        for hook in webhooks:
            for name, subject in _subjects(hook["topic"], changed):
                if not _is_on_this_machine(hook["address"]):
                    _log.warning(
                        "webhook %s is not delivered: the sandbox posts to this machine only",
                        hook["id"],
                    )
                    continue
                self._messages += 1
                delivery = Delivery(
                    *(hook["id"], hook["topic"], hook["address"]),
                    message=self._messages,
                    order_id=subject["order_id"],
                    fulfillment_id=subject.get("fulfillment_id"),
                    status_key=changed.status_key,
                )
                self._send(delivery, to_json(shape.shaped(name, subject)), injector)

    async def settle(self) -> None:
        """Wait until nothing is left to deliver."""
        while self.under_way:
            await asyncio.wait(self.under_way)

    async def close(self) -> None:
        """Give up what is not delivered yet."""
        for task in self.under_way:
            task.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)
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
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def _deliver(
        self, delivery: Delivery, body: bytes, patience: float, after_seconds: float
    ) -> None:
        """Send a message until it is taken, or patience is at its end."""
        await asyncio.sleep(after_seconds)
        # one turn for all messages about an order; a second copy must not wait for the first
        turn = (delivery.order_id or 0) + (delivery.fault is Fault.DUPLICATED)
        async with self._turns[delivery.address, turn % _AT_ONCE_PER_ADDRESS]:
            loop = asyncio.get_running_loop()
            patient_until, pause = loop.time() + patience, _FIRST_PAUSE_SECONDS
            while True:
                status = await self._attempt(delivery.address, body)
                delivery = delivery._replace(status=status, attempts=delivery.attempts + 1)
                if delivery.taken or loop.time() + pause > patient_until:
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        self.done.append(delivery)

    async def _attempt(self, address: str, body: bytes) -> int | None:
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                address, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


def _is_on_this_machine(address: str) -> bool:
    try:
        host = urlsplit(address).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _subjects(topic: str, changed: ChangedOrder) -> Iterator[tuple[str, dict[str, Any]]]:
    subject, _, event = topic.partition("/")
    # a ready order is not in transit yet [inferred]
    is_ready = changed.status_key == ShipmentStatus.ORDER_READY
    if event not in {"all", "pre_transit" if is_ready else changed.status_key}:
        return
    if subject == "order":
        yield "order", changed.order
    else:
        for parcel in changed.moved:
            yield "fulfillment", parcel
