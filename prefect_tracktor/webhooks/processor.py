"""Reads from Tracktor what deliveries were about, since a delivery proves nothing but an id.

The event says what the API says at this moment. So a forged delivery costs a few look-ups at most
and never makes a wrong event, and deliveries that arrive late or in the wrong order never bring
back a status that the parcel has left: a customer is not told that a parcel is on its way after it
has arrived.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import anyio
from anyio import CapacityLimiter
from prefect.events import Event

from prefect_tracktor import api
from prefect_tracktor.bulk import Batch, calls_for, send_all
from prefect_tracktor.client import AsyncTracktorClient
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import AuthenticationError, DatabaseError
from prefect_tracktor.events.schema import Kind, Subject, fulfillment_event, order_event
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.webhooks.queue import Waiting, WebhookQueue

T = TypeVar("T")

_AT_ONCE = 64
_UNKNOWN_AT_ONCE = 16
_LONGEST_PAUSE_SECONDS = 600
# who asks for more by Retry-After is asked again after this
_LONGEST_WISH = timedelta(hours=1)
_LONGEST_REST_SECONDS = 60
_MISSES_PER_HOUR = 500
_WARN_EVERY_SECONDS = 600
# Tracktor may tell of a parcel a little before its API knows it
_MISS_PAUSES_SECONDS = (10, 60, 530)
_UNKNOWN_FOR_SECONDS = 600
_CALL_SECONDS = 15
_HOUR_SECONDS = 3600

_log = logging.getLogger(__name__)


class SingleWriter:
    """Lets one statement at a time into the queue's database, and keeps the event loop free."""

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(1)

    async def run(self, function: Callable[..., T], *arguments: object, **options: object) -> T:
        """Call a function in a thread, when it is its turn."""
        call = partial(function, *arguments, **options)
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)


class MissAllowance:
    """How many look-ups of unknown ids somebody who knows the address may cause."""

    def __init__(self, *, per_hour: int) -> None:
        self._per_hour = per_hour
        self._stock = float(per_hour)
        self._as_of = time.monotonic()

    @property
    def left(self) -> int:
        """How many are allowed now."""
        now = time.monotonic()
        earned = (now - self._as_of) * self._per_hour / _HOUR_SECONDS
        self._stock = min(self._per_hour, self._stock + earned)
        self._as_of = now
        return max(0, int(self._stock))

    def spend(self, misses: int) -> None:
        """Take some out of the stock."""
        self._stock -= misses


@dataclass
class _Outcomes:
    """What a round has found out."""

    read: list[tuple[Waiting, Event]] = field(default_factory=list)
    dropped: list[Waiting] = field(default_factory=list)
    postponed: list[tuple[Waiting, datetime]] = field(default_factory=list)
    missed: list[tuple[Waiting, datetime]] = field(default_factory=list)

    def postpone(self, waiting: Iterable[Waiting], *, at_least: timedelta | None = None) -> None:
        for one in waiting:
            pause = min(_LONGEST_PAUSE_SECONDS, 2 ** min(one.failures, 10))
            asked = min(_LONGEST_WISH, at_least or timedelta()).total_seconds()
            self.postponed.append((one, _in_seconds(max(pause, asked))))

    def miss(self, one: Waiting, *, again_in: float) -> None:
        self.missed.append((one, _in_seconds(again_in)))


def _in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


class DeliveryProcessor:
    """Reads, round by round, what is due, and puts the events into the outbox."""

    def __init__(
        self,
        credentials: TracktorCredentials,
        queue: WebhookQueue,
        writer: SingleWriter,
        *,
        news: Callable[[], None],
        misses_per_hour: int = _MISSES_PER_HOUR,
    ) -> None:
        self._account = credentials.account
        # the queue repeats what failed, with growing pauses and over restarts
        limits = credentials.limits.model_copy(
            update={"max_attempts": 1, "call_timeout_seconds": _CALL_SECONDS}
        )
        self._credentials = credentials.model_copy(update={"limits": limits})
        self._queue = queue
        self._writer = writer
        self._first_looks = MissAllowance(per_hour=misses_per_hour)
        self._further_looks = MissAllowance(per_hour=misses_per_hour)
        self._scarce = misses_per_hour // 10
        self._warned_at = -math.inf
        self._unknown: dict[Subject, float] = {}
        self._fruitless = 0
        self._tell = news
        self._wake = anyio.Event()

    def get_client(self) -> AsyncTracktorClient:
        """A client that tries each call once."""
        return self._credentials.get_async_client()

    def wake(self) -> None:
        """Say that there is something to read."""
        self._wake.set()

    async def run(self) -> None:
        """Read what is due, for ever."""
        async with self.get_client() as client:
            while True:
                try:
                    found_any = await self.round(client)
                except DatabaseError as error:
                    _log.error("the queue cannot be used; trying again: %s", error)
                    self._fruitless += 1
                    found_any = False
                await self._rest(found_any=found_any)

    async def _rest(self, *, found_any: bool) -> None:
        if found_any and not self._fruitless:
            return
        with anyio.move_on_after(min(_LONGEST_REST_SECONDS, 2 ** min(self._fruitless, 10))):
            await self._wake.wait()
        self._wake = anyio.Event()

    async def round(self, client: AsyncTracktorClient) -> bool:
        """Read some of what is due."""
        due = await self._writer.run(
            self._queue.due,
            self._account,
            known=_AT_ONCE,
            new=min(_AT_ONCE, self._first_looks.left),
            unknown=min(_UNKNOWN_AT_ONCE, self._further_looks.left),
        )
        self._warn_if_scarce()
        if not due:
            self._fruitless = 0
            return False
        outcomes = _Outcomes()
        to_read = self._worth_reading(due, outcomes)
        await self._read(client, to_read, outcomes)
        news = await self._writer.run(
            self._queue.settle,
            self._account,
            read=outcomes.read,
            dropped=outcomes.dropped,
            postponed=outcomes.postponed,
            missed=outcomes.missed,
        )
        _tell(outcomes.read, news)
        if news:
            self._tell()
        return True

    def _warn_if_scarce(self) -> None:
        scarce = min(self._first_looks.left, self._further_looks.left) <= self._scarce
        if scarce and time.monotonic() - self._warned_at > _WARN_EVERY_SECONDS:
            self._warned_at = time.monotonic()
            _log.warning(
                "too many deliveries are about ids that Tracktor does not know: other new ids have"
                " to wait. If this continues, the receiver's address is known to others: change"
                " its token"
            )

    def _worth_reading(self, due: Sequence[Waiting], outcomes: _Outcomes) -> list[Waiting]:
        now = time.monotonic()
        self._unknown = {one: until for one, until in self._unknown.items() if until > now}
        for one in due:
            if one.subject in self._unknown:
                outcomes.miss(one, again_in=self._unknown[one.subject] - now)
        return [one for one in due if one.subject not in self._unknown]

    async def _read(
        self, client: AsyncTracktorClient, waiting: Sequence[Waiting], outcomes: _Outcomes
    ) -> None:
        of_kind = {
            kind: {one.subject.id: one for one in waiting if one.subject.kind is kind}
            for kind in Kind
        }
        parcels, orders = of_kind[Kind.FULFILLMENT], of_kind[Kind.ORDER]
        try:
            found_parcels = await send_all(client, calls_for(api.get_fulfillment, list(parcels)))
            found_orders = await send_all(client, calls_for(api.get_order, list(orders)))
        except AuthenticationError as refusal:
            _log.error("nothing can be read from Tracktor; trying again: %s", refusal)
            outcomes.postpone(waiting)
            self._fruitless += 1
            return
        outcomes.read += [
            (one, self._parcel_event(parcel, one))
            for parcel in found_parcels.found
            for one in (parcels[parcel.fulfillment_id],)
        ]
        outcomes.read += [
            (one, self._order_event(order, one))
            for order in found_orders.found
            for one in (orders[order.order_id],)
        ]
        self._take_in(found_parcels, parcels, outcomes)
        self._take_in(found_orders, orders, outcomes)
        answered = outcomes.read or found_parcels.missing or found_orders.missing
        self._fruitless = self._fruitless + 1 if waiting and not answered else 0

    def _parcel_event(self, parcel: Fulfillment, one: Waiting) -> Event:
        return fulfillment_event(parcel, account=self._account, received=one.received)

    def _order_event(self, order: Order, one: Waiting) -> Event:
        return order_event(order, account=self._account, received=one.received)

    def _take_in(self, batch: Batch[T], waiting: dict[int, Waiting], outcomes: _Outcomes) -> None:
        for unknown in batch.missing:
            self._miss(waiting[unknown], outcomes)
        if batch.failed:
            _log.warning(
                "%d parcels or orders could not be read and are tried again later; the first: %s",
                len(batch.failed),
                batch.failed[0].reason,
            )
        for failure in batch.failed:
            outcomes.postpone([waiting[failure.id]], at_least=failure.retry_after)

    def _miss(self, one: Waiting, outcomes: _Outcomes) -> None:
        """Look again a few times before it is taken for unknown."""
        if not one.confirmed:
            (self._further_looks if one.misses else self._first_looks).spend(1)
        if one.misses < len(_MISS_PAUSES_SECONDS):
            _log.info(
                "%s %d: Tracktor does not know it yet; it is looked up again",
                one.subject.kind,
                one.subject.id,
            )
            outcomes.miss(one, again_in=_MISS_PAUSES_SECONDS[one.misses])
            return
        _log.warning(
            "%s %d: Tracktor does not know it, so there is no event",
            one.subject.kind,
            one.subject.id,
        )
        outcomes.dropped.append(one)
        if not one.confirmed:
            self._unknown[one.subject] = time.monotonic() + _UNKNOWN_FOR_SECONDS


def _tell(read: Sequence[tuple[Waiting, Event]], news: set[str]) -> None:
    for waiting, event in read:
        _log.info(
            "%s %d: %d deliveries, %s %s",
            waiting.subject.kind,
            waiting.subject.id,
            waiting.deliveries,
            "event" if str(event.id) in news else "no news since",
            event.event,
        )
