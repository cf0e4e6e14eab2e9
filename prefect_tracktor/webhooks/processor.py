"""Delivery processor: reads delivered orders and parcels from Tracktor and makes events of them.

A delivery proves nothing but an id, so the event says what the API says now. A forged delivery
costs a few calls and makes no wrong event, and deliveries that arrive late or in the wrong order
never bring back a status that the parcel has left.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from prefect.events import Event

from prefect_tracktor import api
from prefect_tracktor.bulk import Batch, calls_for, send_all
from prefect_tracktor.client import AsyncTracktorClient
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import AuthenticationError
from prefect_tracktor.events.schema import Kind, fulfillment_event, order_event
from prefect_tracktor.http.call import ApiCall
from prefect_tracktor.webhooks.queue import Outcome, Waiting, WebhookQueue
from prefect_tracktor.webhooks.worker import RetryLater, SingleWriter

T = TypeVar("T")

_BATCH_SIZE = 64
_MISSING_AT_ONCE = 16
_CALL_SECONDS = 15
_MAX_PAUSE_SECONDS = 600
_MAX_RETRY_AFTER = timedelta(hours=1)
# Tracktor may deliver a parcel a little before its API knows it
_MISS_PAUSES_SECONDS = (10, 60, 530)
_WARN_EVERY_SECONDS = 600
_HOUR_SECONDS = 3600

_log = logging.getLogger(__name__)


class MissBudget:
    """How many calls about unknown ids the sender of forged deliveries can still cause."""

    def __init__(self, *, per_hour: int) -> None:
        self._per_hour = per_hour
        self._left = float(per_hour)
        self._as_of = time.monotonic()

    @property
    def left(self) -> int:
        """How many are allowed now."""
        now = time.monotonic()
        earned = (now - self._as_of) * self._per_hour / _HOUR_SECONDS
        self._left = min(self._per_hour, self._left + earned)
        self._as_of = now
        return max(0, int(self._left))

    def spend(self) -> None:
        """Take one off."""
        self._left -= 1


class DeliveryProcessor:
    """Reads what is due and puts the events into the outbox."""

    def __init__(
        self,
        credentials: TracktorCredentials,
        queue: WebhookQueue,
        writer: SingleWriter,
        *,
        misses_per_hour: int = 500,
    ) -> None:
        self._account = credentials.account
        # the queue repeats what failed, with growing pauses and over restarts
        limits = credentials.limits.model_copy(
            update={"max_attempts": 1, "call_timeout_seconds": _CALL_SECONDS}
        )
        self.credentials = credentials.model_copy(update={"limits": limits})
        self._queue = queue
        self._writer = writer
        self._new_ids = MissBudget(per_hour=misses_per_hour)
        self._repeats = MissBudget(per_hour=misses_per_hour)
        self._scarce = misses_per_hour // 10
        self._warned_at = -math.inf

    async def process(self, client: AsyncTracktorClient) -> bool:
        """Read a batch of what is due; false if nothing was."""
        due = await self._writer.run(
            self._queue.due,
            self._account,
            known=_BATCH_SIZE,
            new=min(_BATCH_SIZE, self._new_ids.left),
            missing=min(_MISSING_AT_ONCE, self._repeats.left),
        )
        self._warn_if_scarce()
        if not due:
            return False
        try:
            outcomes = [
                *await self._read(
                    client, due, Kind.FULFILLMENT, api.get_fulfillment, fulfillment_event
                ),
                *await self._read(client, due, Kind.ORDER, api.get_order, order_event),
            ]
        except AuthenticationError as refusal:
            await self._complete([_failed(one) for one in due])
            raise RetryLater(f"nothing can be read from Tracktor: {refusal}") from None
        await self._complete(outcomes)
        if not any(outcome.event or outcome.missing for outcome in outcomes):
            raise RetryLater("Tracktor answered none of the calls")
        return True

    async def _read(
        self,
        client: AsyncTracktorClient,
        due: Sequence[Waiting],
        kind: Kind,
        call: Callable[[int], ApiCall[T]],
        event_of: Callable[..., Event],
    ) -> list[Outcome]:
        """Read the orders, or the parcels, that are due."""
        waiting = {one.subject.id: one for one in due if one.subject.kind is kind}
        batch = await send_all(client, calls_for(call, list(waiting)))
        outcomes = self._without_event(batch, waiting)
        for read in batch.found:
            one = waiting[getattr(read, f"{kind}_id")]
            event = event_of(read, account=self._account, received=one.received)
            outcomes.append(Outcome(one, event=event))
        return outcomes

    def _without_event(self, batch: Batch[T], waiting: Mapping[int, Waiting]) -> list[Outcome]:
        if batch.failed:
            _log.warning(
                "%d orders or parcels could not be read and are tried again later; the first: %s",
                len(batch.failed),
                batch.failed[0].reason,
            )
        failed = [_failed(waiting[failure.id], failure.retry_after) for failure in batch.failed]
        return failed + [self._missing(waiting[unknown]) for unknown in batch.missing]

    def _missing(self, one: Waiting) -> Outcome:
        """Look a few times more before the id is taken for unknown."""
        if not one.known:
            (self._repeats if one.misses else self._new_ids).spend()
        name = f"{one.subject.kind} {one.subject.id}"
        if one.misses < len(_MISS_PAUSES_SECONDS):
            _log.info("%s: Tracktor does not know it yet; it is read again", name)
            retry_at = _in_seconds(_MISS_PAUSES_SECONDS[one.misses])
            return Outcome(one, retry_at=retry_at, missing=True)
        _log.warning("%s: Tracktor does not know it, so there is no event", name)
        return Outcome(one, missing=True)

    async def _complete(self, outcomes: Sequence[Outcome]) -> None:
        new = await self._writer.run(self._queue.complete, self._account, outcomes)
        for outcome in outcomes:
            if outcome.event:
                one = outcome.waiting
                _log.info(
                    "%s %d: %d deliveries, %s %s",
                    one.subject.kind,
                    one.subject.id,
                    one.deliveries,
                    "event" if outcome.event.id in new else "already emitted:",
                    outcome.event.event,
                )

    def _warn_if_scarce(self) -> None:
        scarce = min(self._new_ids.left, self._repeats.left) <= self._scarce
        if scarce and time.monotonic() - self._warned_at > _WARN_EVERY_SECONDS:
            self._warned_at = time.monotonic()
            _log.warning(
                "too many deliveries are about ids that Tracktor does not know: other new ids have"
                " to wait. If this continues, the receiver's address is known to others: change"
                " its token"
            )


def _failed(one: Waiting, retry_after: timedelta | None = None) -> Outcome:
    pause = min(_MAX_PAUSE_SECONDS, 2 ** min(one.failures, 10))
    asked = min(_MAX_RETRY_AFTER, retry_after or timedelta()).total_seconds()
    return Outcome(one, retry_at=_in_seconds(max(pause, asked)))


def _in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
