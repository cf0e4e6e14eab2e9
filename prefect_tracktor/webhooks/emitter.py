"""Emitter: sends the outbox to Prefect, and keeps each event until Prefect has stored it.

It sends an event again only if Prefect has not stored it after a while. Prefect's database ignores
a repeated event id, but its triggers act on it again after a restart or after half an hour.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import PrefectClient

from prefect_tracktor.events.prefect_api import BATCH_SIZE, PostResult, find_stored, post_events
from prefect_tracktor.webhooks.queue import WebhookQueue
from prefect_tracktor.webhooks.worker import RetryLater, SingleWriter

_CONFIRM_BATCH_SIZE = 500

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Emitter:
    """Sends events in their order, and confirms that Prefect has stored them."""

    account: str
    queue: WebhookQueue
    writer: SingleWriter
    confirm_after: timedelta
    resend_after: timedelta
    keep_for: timedelta

    async def send(self, client: PrefectClient) -> bool:
        """Send the next events; return `False` if there are none."""
        events = await self.writer.run(self.queue.claim, self.account, limit=BATCH_SIZE)
        if not events:
            return False
        results = await post_events(client, events)
        refused = [event for event in events if results[event.id] is PostResult.REFUSED]
        unsent = {id_ for id_, result in results.items() if result is PostResult.NOT_SENT}
        if len(refused) == len(events):
            # the events cannot be the reason: a proxy or the server refuses all requests
            refused, unsent = [], set(results)
        for event in refused:
            _log.error(
                "Prefect does not accept event %s of %s; it is discarded",
                event.id,
                event.resource.id,
            )
        await self.writer.run(self.queue.discard, [event.id for event in refused])
        await self.writer.run(self.queue.release, unsent)
        if unsent:
            raise RetryLater(f"{len(unsent)} events could not be sent; they stay in the queue")
        return True

    async def confirm(self, client: PrefectClient) -> bool:
        """Check which sent events Prefect has stored, and release the lost ones."""
        now = datetime.now(UTC)
        sent = await self.writer.run(
            self.queue.sent,
            self.account,
            before=now - self.confirm_after,
            limit=_CONFIRM_BATCH_SIZE,
        )
        if not sent:
            return False
        stored = await find_stored(client, [event for event, _ in sent])
        overdue = [event for event, sent_at in sent if sent_at <= now - self.resend_after]
        overdue = [event for event in overdue if event.id not in stored]
        stored |= await find_stored(client, overdue, earlier=True)
        lost = {event.id for event in overdue} - stored
        await self.writer.run(self.queue.confirm, stored)
        await self.writer.run(self.queue.release, lost)
        if lost:
            _log.warning("%d events did not reach Prefect and are sent again", len(lost))
        return False

    async def prune(self) -> bool:
        """Delete old events that Prefect has stored."""
        before = datetime.now(UTC) - self.keep_for
        await self.writer.run(self.queue.prune, self.account, before=before)
        return False
