"""How webhooks reach their addresses: in the background, in order, on this machine only."""

import asyncio
import logging
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from pydantic_core import to_json

from prefect_tracktor.models import ShipmentStatus
from prefect_tracktor.sandbox.answers import AnswerShape
from prefect_tracktor.sandbox.shop import ChangedOrder

_ATTEMPTS = 4
_FIRST_PAUSE_SECONDS = 0.05
_TIMEOUT = aiohttp.ClientTimeout(total=5)

_log = logging.getLogger(__name__)


class Delivery(NamedTuple):
    """What became of a webhook's message.

    `status` is what the receiver answered; `None` if it could not be reached.

    Example:
        >>> Delivery(webhook_id=1, topic="order/all", address="http://127.0.0.1/", status=200).topic
        'order/all'
    """

    webhook_id: int
    topic: str
    address: str
    status: int | None


class _Letter(NamedTuple):
    webhook: dict[str, Any]
    body: bytes


class Deliveries:
    """Posts to webhooks' addresses, one queue for each address; nobody waits for them.

    Belongs to the event loop in which it was made.

    Example:
        >>> async def deliver() -> list[Delivery]:
        ...     deliveries = Deliveries()
        ...     await deliveries.close()
        ...     return deliveries.done
        >>> asyncio.run(deliver())
        []
    """

    def __init__(self) -> None:
        self.done: list[Delivery] = []
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        self._queues: dict[str, asyncio.Queue[_Letter]] = {}
        self._workers: list[asyncio.Task[None]] = []

    def post(
        self, changed: ChangedOrder, webhooks: list[dict[str, Any]], shape: AnswerShape
    ) -> None:
        """Queue what each webhook is to be told about a change.

        Args:
            changed: The change.
            webhooks: All webhooks there are.
            shape: How to write the objects.

        Example:
            >>> async def post() -> list[Delivery]:
            ...     deliveries = Deliveries()
            ...     deliveries.post(ChangedOrder({}, [], "delivered"), [], AnswerShape())
            ...     await deliveries.settle()
            ...     await deliveries.close()
            ...     return deliveries.done
            >>> asyncio.run(post())
            []
        """
        for webhook in webhooks:
            for name, subject in _subjects(webhook["topic"], changed):
                shaped = shape.model_copy(update={"wrapped": shape.wrapped_deliveries})
                self._queue(_Letter(webhook, to_json(shaped.shaped(name, subject))))

    async def settle(self) -> None:
        """Wait until nothing is left to deliver.

        Example:
            >>> async def settle() -> None:
            ...     deliveries = Deliveries()
            ...     await deliveries.settle()
            ...     await deliveries.close()
            >>> asyncio.run(settle())
        """
        for queue in list(self._queues.values()):
            await queue.join()

    async def close(self) -> None:
        """Give up what is not delivered yet.

        Example:
            >>> async def close() -> None:
            ...     await Deliveries().close()
            >>> asyncio.run(close())
        """
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._session.close()

    def _queue(self, letter: _Letter) -> None:
        address = letter.webhook["address"]
        if not is_on_this_machine(address):
            _log.warning(
                "webhook %s is not delivered: the sandbox posts to this machine only",
                letter.webhook["id"],
            )
            return
        if address not in self._queues:
            self._queues[address] = asyncio.Queue()
            self._workers.append(asyncio.create_task(self._work(self._queues[address])))
        self._queues[address].put_nowait(letter)

    async def _work(self, queue: asyncio.Queue[_Letter]) -> None:
        while True:
            letter = await queue.get()
            webhook = letter.webhook
            status = await self._deliver(letter)
            self.done.append(Delivery(webhook["id"], webhook["topic"], webhook["address"], status))
            queue.task_done()

    async def _deliver(self, letter: _Letter) -> int | None:
        status = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_FIRST_PAUSE_SECONDS * 2**attempt)
            status = await self._attempt(letter)
            if status is not None and status < 300:
                break
        return status

    async def _attempt(self, letter: _Letter) -> int | None:
        try:
            async with self._session.post(
                letter.webhook["address"],
                data=letter.body,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


def is_on_this_machine(address: str) -> bool:
    """Whether the sandbox posts to an address.

    Args:
        address: A web address.

    Returns:
        Whether its host is `localhost` or a loopback address.

    Example:
        >>> is_on_this_machine("http://127.0.0.1:8080/hook"), is_on_this_machine("https://a.example")
        (True, False)
    """
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
