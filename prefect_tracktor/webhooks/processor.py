"""Delivery processor: reads delivered orders and parcels from Tracktor and creates their events.

Only the id of a delivery is used; the event has the values that the API returns now. So a forged
delivery costs a few calls but creates no wrong event, and a delivery that arrives late or in the
wrong order never restores a status that the parcel has left.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from prefect.events import Event

from prefect_tracktor import api
from prefect_tracktor.bulk import calls_for, send_all
from prefect_tracktor.client import AsyncTracktorClient
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import AuthenticationError
from prefect_tracktor.events.schema import Kind, fulfillment_event, order_event
from prefect_tracktor.http.call import ApiCall
from prefect_tracktor.webhooks.queue import InboxEntry, ReadResult, WebhookQueue
from prefect_tracktor.webhooks.worker import RetryLater, SingleWriter

T = TypeVar("T")

_BATCH_SIZE = 64
_MISSING_BATCH_SIZE = 16
_CALL_SECONDS = 15
_MAX_PAUSE_SECONDS = 600
_MAX_RETRY_AFTER = timedelta(hours=1)
# Tracktor may deliver a parcel a little before its API knows it
_MISS_PAUSES_SECONDS = (10, 60, 530)
_WARN_EVERY_SECONDS = 600
_HOUR_SECONDS = 3600

_log = logging.getLogger(__name__)


class MissBudget:
    """Limit of calls for unknown ids, as anyone with the address can cause them: a token bucket."""

    def __init__(self, *, per_hour: int) -> None:
        self._per_hour = per_hour
        self._left = float(per_hour)
        self._as_of = time.monotonic()

    @property
    def left(self) -> int:
        now = time.monotonic()
        earned = (now - self._as_of) * self._per_hour / _HOUR_SECONDS
        self._left = min(self._per_hour, self._left + earned)
        self._as_of = now
        return max(0, int(self._left))

    def spend(self) -> None:
        self._left -= 1


class DeliveryProcessor:
    """Reads orders and parcels that are due, and puts their events into the outbox."""

    def __init__(
        self,
        credentials: TracktorCredentials,
        queue: WebhookQueue,
        writer: SingleWriter,
        *,
        misses_per_hour: int = 500,
    ) -> None:
        self._account = credentials.account
        # the queue retries with growing pauses, also after a restart
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
        """Read the next batch; return `False` if no entry is due."""
        due = await self._writer.run(
            self._queue.due,
            self._account,
            known=_BATCH_SIZE,
            new=min(_BATCH_SIZE, self._new_ids.left),
            missing=min(_MISSING_BATCH_SIZE, self._repeats.left),
        )
        self._warn_if_scarce()
        if not due:
            return False
        try:
            results = [
                *await self._read(
                    client, due, Kind.FULFILLMENT, api.get_fulfillment, fulfillment_event
                ),
                *await self._read(client, due, Kind.ORDER, api.get_order, order_event),
            ]
        except AuthenticationError as error:
            await self._complete([_failed(entry) for entry in due])
            raise RetryLater(f"Tracktor cannot be read: {error}") from None
        await self._complete(results)
        if not any(result.event or result.missing for result in results):
            raise RetryLater("no call to Tracktor succeeded")
        return True

    async def _read(
        self,
        client: AsyncTracktorClient,
        due: Sequence[InboxEntry],
        kind: Kind,
        call: Callable[[int], ApiCall[T]],
        event_of: Callable[..., Event],
    ) -> list[ReadResult]:
        entries = {entry.subject.id: entry for entry in due if entry.subject.kind is kind}
        batch = await send_all(client, calls_for(call, list(entries)))
        if batch.failed:
            _log.warning(
                "%d orders or parcels could not be read and are tried again later; the first: %s",
                len(batch.failed),
                batch.failed[0].reason,
            )
        results = [_failed(entries[failure.id], failure.retry_after) for failure in batch.failed]
        results += [self._missing(entries[unknown]) for unknown in batch.missing]
        for found in batch.found:
            entry = entries[getattr(found, f"{kind}_id")]
            event = event_of(found, account=self._account, received=entry.received)
            results.append(ReadResult(entry, event=event))
        return results

    def _missing(self, entry: InboxEntry) -> ReadResult:
        """Schedule a few more attempts before the id counts as unknown."""
        if not entry.known:
            (self._repeats if entry.misses else self._new_ids).spend()
        name = f"{entry.subject.kind} {entry.subject.id}"
        if entry.misses < len(_MISS_PAUSES_SECONDS):
            _log.info("%s: Tracktor does not know it yet; it is read again", name)
            retry_at = _in_seconds(_MISS_PAUSES_SECONDS[entry.misses])
            return ReadResult(entry, retry_at=retry_at, missing=True)
        _log.warning("%s: Tracktor does not know it, so there is no event", name)
        return ReadResult(entry, missing=True)

    async def _complete(self, results: Sequence[ReadResult]) -> None:
        new = await self._writer.run(self._queue.complete, self._account, results)
        for result in results:
            if result.event:
                _log.info(
                    "%s %d: %d deliveries, %s %s",
                    result.entry.subject.kind,
                    result.entry.subject.id,
                    result.entry.deliveries,
                    "event" if result.event.id in new else "already emitted:",
                    result.event.event,
                )

    def _warn_if_scarce(self) -> None:
        scarce = min(self._new_ids.left, self._repeats.left) <= self._scarce
        if scarce and time.monotonic() - self._warned_at > _WARN_EVERY_SECONDS:
            self._warned_at = time.monotonic()
            _log.warning(
                "too many deliveries have ids that Tracktor does not know, so other new ids must"
                " wait. If this continues, others know the receiver's address: change its token"
            )


def _failed(entry: InboxEntry, retry_after: timedelta | None = None) -> ReadResult:
    pause = min(_MAX_PAUSE_SECONDS, 2 ** min(entry.failures, 10))
    requested = min(_MAX_RETRY_AFTER, retry_after or timedelta()).total_seconds()
    return ReadResult(entry, retry_at=_in_seconds(max(pause, requested)))


def _in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
