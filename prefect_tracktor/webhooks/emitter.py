"""Brings events from the outbox to Prefect, and makes sure that they have arrived.

Prefect's answer to an event says that the server took it into its memory; a server that is killed
in the next seconds forgets it. And a receiver that is killed while it sends does not know whether
the event arrived. So events are read back before they are done with, and sent again only if Prefect
does not have them after a while: its database ignores an event id that it has, but its triggers act
on a repeated one again when the server was restarted meanwhile, or after half an hour.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from uuid import UUID

import anyio
import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.events import Event

from prefect_tracktor.errors import DatabaseError
from prefect_tracktor.events.queries import EARLIER_WINDOWS, queries_for
from prefect_tracktor.webhooks.processor import SingleWriter
from prefect_tracktor.webhooks.queue import StoredEvent, WebhookQueue

# the most that Prefect's API gives back at once
_AT_ONCE = 50
_LOOK_AGAIN_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60
_PRUNE_EVERY = timedelta(hours=1)
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
# answers after which an event is surely not with Prefect; after others it may be
_NOT_TAKEN = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
}
_UNACCEPTABLE = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}

_log = logging.getLogger(__name__)


class Emitter:
    """Sends events in their order, confirms them, and forgets them in the end."""

    def __init__(
        self,
        account: str,
        queue: WebhookQueue,
        writer: SingleWriter,
        *,
        confirm_after: timedelta = timedelta(seconds=10),
        resend_after: timedelta = timedelta(minutes=2),
        keep_for: timedelta = timedelta(days=30),
    ) -> None:
        self.account = account
        self._queue = queue
        self._writer = writer
        self._confirm_after = confirm_after
        self._resend_after = resend_after
        self._keep_for = keep_for
        self._pruned_at = _LONG_AGO
        self._at_once = _AT_ONCE
        self._wake = anyio.Event()

    def wake(self) -> None:
        """Say that there is something to send."""
        self._wake.set()

    async def run(self) -> None:
        """Send and confirm events, for ever."""
        async with get_client() as client, anyio.create_task_group() as group:
            group.start_soon(self._keep_sending, client)
            group.start_soon(self._keep_confirming, client)

    async def _keep_sending(self, client: PrefectClient) -> None:
        failures = 0
        while True:
            try:
                sent_any = await self.send_some(client)
                failures = 0
            except (httpx.HTTPError, OSError, DatabaseError) as error:
                failures += 1
                _log.warning("events wait, and are sent later: %s", _reason(error))
                await anyio.sleep(_pause(failures))
                continue
            if not sent_any:
                with anyio.move_on_after(_LOOK_AGAIN_SECONDS):
                    await self._wake.wait()
                self._wake = anyio.Event()

    async def _keep_confirming(self, client: PrefectClient) -> None:
        failures = 0
        while True:
            try:
                await self.confirm_all(client)
                await self._prune()
                failures = 0
            except (httpx.HTTPError, OSError, ValueError, DatabaseError) as error:
                failures += 1
                _log.warning("events cannot be confirmed yet: %s", _reason(error))
            await anyio.sleep(max(_LOOK_AGAIN_SECONDS, _pause(failures)))

    async def send_some(self, client: PrefectClient) -> bool:
        """Send the next events."""
        events = await self._writer.run(self._queue.claim, self.account, limit=self._at_once)
        try:
            if events:
                await self._send(client, events)
        except httpx.HTTPStatusError:
            # perhaps of one event only: they are sent singly from here on, so that it is found out
            self._at_once = 1
            raise
        self._at_once = min(_AT_ONCE, 2 * self._at_once)
        return bool(events)

    async def _send(self, client: PrefectClient, events: Sequence[StoredEvent]) -> None:
        body = f"[{','.join(event.body for event in events)}]"
        try:
            await client.request(
                "POST",
                "/events",
                content=body.encode(),
                headers={"content-type": "application/json"},
            )
        except httpx.HTTPStatusError as refusal:
            status_code = refusal.response.status_code
            if status_code in _UNACCEPTABLE and len(events) > 1:
                await self._send_singly(client, events, refusal)
                return
            if status_code in _UNACCEPTABLE | _NOT_TAKEN:
                await self._writer.run(self._queue.release, events)
            raise
        except (httpx.ConnectError, httpx.ConnectTimeout):
            await self._writer.run(self._queue.release, events)
            raise
        # after any other error they may have arrived, which is found out when they are confirmed

    async def _send_singly(
        self,
        client: PrefectClient,
        events: Sequence[StoredEvent],
        refusal: httpx.HTTPStatusError,
    ) -> None:
        """One event that Prefect never takes must not hold up the others."""
        refused: list[StoredEvent] = []
        for event in events:
            try:
                await self._send(client, [event])
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in _UNACCEPTABLE:
                    raise
                refused.append(event)
        if len(refused) == len(events):
            # not the events are bad: something on the way refuses all
            raise refusal
        for event in refused:
            _log.error(
                "Prefect does not accept event %s of %s (%d), but others; it is given up",
                event.event_id,
                event.subject.resource_id,
                refusal.response.status_code,
            )
        await self._writer.run(self._queue.give_up, refused)

    async def confirm_all(self, client: PrefectClient) -> None:
        """Ask Prefect for the events that were sent a while ago."""
        now = datetime.now(UTC)
        after = 0
        while True:
            sent = await self._writer.run(
                self._queue.unconfirmed,
                self.account,
                after=after,
                sent_before=now - self._confirm_after,
                limit=_AT_ONCE,
            )
            if not sent:
                return
            after = sent[-1][0].seq
            overdue = [event for event, sent_at in sent if sent_at <= now - self._resend_after]
            stored = await _stored(client, [event for event, _ in sent])
            for earlier in EARLIER_WINDOWS:
                overdue = [event for event in overdue if UUID(event.event_id) not in stored]
                stored |= await _stored(client, overdue, earlier=earlier)
            there = [event for event, _ in sent if UUID(event.event_id) in stored]
            await self._writer.run(self._queue.confirm, self.account, there)
            await self._send_again(
                [event for event in overdue if UUID(event.event_id) not in stored]
            )

    async def _send_again(self, events: Sequence[StoredEvent]) -> None:
        if events:
            _log.warning("%d events did not get to Prefect and are sent again", len(events))
            await self._writer.run(self._queue.release, events)
            self.wake()

    async def _prune(self) -> None:
        now = datetime.now(UTC)
        if now - self._pruned_at >= _PRUNE_EVERY:
            await self._writer.run(self._queue.prune, self.account, before=now - self._keep_for)
            self._pruned_at = now


async def _stored(
    client: PrefectClient, events: Sequence[StoredEvent], *, earlier: int = 0
) -> set[UUID]:
    """Which of these events Prefect has in its database."""
    sent = [Event.model_validate_json(event.body) for event in events]
    pages = [
        await client.read_events(query, limit=_AT_ONCE)
        for query in queries_for(sent, earlier=earlier)
    ]
    return {event.id for page in pages for event in page.events}


def _pause(failures: int) -> float:
    return min(_LONGEST_PAUSE_SECONDS, 2.0 ** min(failures - 1, 10)) if failures else 0.0


def _reason(error: Exception) -> str:
    """The kind of trouble; Prefect's errors repeat what was sent."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"Prefect answered {error.response.status_code}"
    return str(error) if isinstance(error, DatabaseError) else type(error).__name__
