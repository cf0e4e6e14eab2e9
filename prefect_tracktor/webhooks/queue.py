"""Webhook queue: an inbox of deliveries and an outbox of events, which survive a crash.

Both contain ids, statuses and times, but no customer data.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from prefect.events import Event
from pydantic import Field
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Delete,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Update,
    delete,
    exists,
    func,
    select,
    update,
)

from prefect_tracktor.block import handbook, logo
from prefect_tracktor.errors import QueueFull
from prefect_tracktor.events.schema import Kind, Subject
from prefect_tracktor.storage.database import DatabaseBlock, UTCTime, by_statement, insert_into

_INBOX = Table(
    "tracktor_inbox",
    MetaData(),
    Column("account", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("subject_id", BigInteger, primary_key=True, autoincrement=False),
    Column("deliveries", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("misses", Integer, nullable=False),
    Column("received_at", UTCTime, nullable=False),
    Column("due_at", UTCTime, nullable=False),
)
_OUTBOX = Table(
    "tracktor_events",
    MetaData(),
    Column(
        "seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column("account", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject_id", BigInteger, nullable=False),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("changed_at", UTCTime, nullable=False),
    Index("tracktor_events_of_subject", "account", "kind", "subject_id"),
    Index("tracktor_events_in_state", "account", "state", "seq"),
)
_PENDING, _SENT, _STORED = "pending", "sent", "stored"


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """An order or parcel with deliveries, to be read from Tracktor."""

    subject: Subject
    deliveries: int
    failures: int
    misses: int
    received: datetime
    known: bool


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The result of reading an order or parcel: an event, another attempt, or neither."""

    entry: InboxEntry
    event: Event | None = None
    retry_at: datetime | None = None
    missing: bool = False


class WebhookQueue(DatabaseBlock):
    """Keeps webhook deliveries and events until they are processed, so that a crash loses none.

    Attributes:
        max_waiting: How many orders and parcels may wait to be read. While more wait, the receiver
            answers 503, and Tracktor has to send again.

    Example:
        See how many deliveries and events are not processed yet:
        ```python
        from prefect_tracktor.webhooks import WebhookQueue

        queue = WebhookQueue.load("BLOCK_NAME")
        to_read, to_send = queue.waiting("b6ef35fe18ed39251365")  # TracktorCredentials.account
        ```
    """

    _block_type_name = "Tracktor Webhook Queue"
    _block_type_slug = "tracktor-webhook-queue"
    _logo_url = logo("tray-full")
    _description = "Keeps webhook deliveries and events until they are processed."
    _documentation_url = handbook("how-to/react-to-events.md")

    tables: ClassVar[tuple[Table, ...]] = (_INBOX, _OUTBOX)

    max_waiting: int = Field(default=100_000, ge=1, title="Waiting at most")

    def waiting(self, account: str) -> tuple[int, int]:
        """Count the entries of an account that are not processed yet.

        Returns:
            The orders and parcels to read, and the events that Prefect has not stored yet.

        Raises:
            DatabaseError: The database cannot be used.
        """
        counts = [
            select(func.count()).select_from(_INBOX).where(_INBOX.c.account == account),
            select(func.count()).where(_OUTBOX.c.account == account, _OUTBOX.c.state != _STORED),
        ]
        with self.transaction() as database:
            to_read, to_send = (database.execute(count).scalar_one() for count in counts)
        return to_read, to_send

    def add(self, account: str, subject: Subject) -> None:
        """Record a delivery; all deliveries of an order or parcel share one entry."""
        now = datetime.now(UTC)
        # ids that Tracktor does not know must not fill the queue
        waiting = (
            select(func.count())
            .select_from(_INBOX)
            .where(_INBOX.c.account == account, _INBOX.c.misses == 0)
        )
        row = {"deliveries": 1, "failures": 0, "misses": 0, "received_at": now, "due_at": now}
        with self.transaction() as database:
            if database.execute(waiting).scalar_one() >= self.max_waiting:
                raise QueueFull(
                    f"{self.max_waiting} orders and parcels wait to be read already (max_waiting)",
                    may_have_arrived=False,
                )
            insert = insert_into(_INBOX, database).values(_key(account, subject) | row)
            database.execute(
                insert.on_conflict_do_update(
                    index_elements=[_INBOX.c.account, _INBOX.c.kind, _INBOX.c.subject_id],
                    set_={"deliveries": _INBOX.c.deliveries + 1, "received_at": now},
                )
            )

    def due(
        self, account: str, *, known: int = 0, new: int = 0, missing: int = 0
    ) -> list[InboxEntry]:
        """Return the entries to read now: up to so many known, new and missing ones.

        A known entry had an event before, a new one was not read yet, and a missing one was unknown
        to Tracktor. Half of the new entries are the latest and half the earliest, so that a flood
        of forged ids delays neither later nor earlier deliveries.
        """
        latest, earliest = _INBOX.c.received_at.desc(), _INBOX.c.due_at
        queues = [
            (known, _KNOWN, earliest),
            (new - new // 2, ~_KNOWN & (_INBOX.c.misses == 0), latest),
            (new // 2, ~_KNOWN & (_INBOX.c.misses == 0), earliest),
            (missing, ~_KNOWN & (_INBOX.c.misses > 0), latest),
        ]
        due = select(_INBOX, _KNOWN.label("known")).where(
            _INBOX.c.account == account, _INBOX.c.due_at <= datetime.now(UTC)
        )
        with self.transaction() as database:
            rows = [
                row
                for limit, which, order in queues
                if limit
                for row in database.execute(due.where(which).order_by(order).limit(limit))
            ]
        entries = (
            InboxEntry(
                Subject(Kind(row.kind), row.subject_id),
                row.deliveries,
                row.failures,
                row.misses,
                row.received_at,
                row.known,
            )
            for row in rows
        )
        return list({entry.subject: entry for entry in entries}.values())

    def complete(self, account: str, results: Sequence[ReadResult]) -> set[UUID]:
        """Record the results of reading, and return the ids of the new events.

        An order or parcel with another delivery in the meantime stays due.
        """
        new: set[UUID] = set()
        with self.transaction() as database:
            state = {"state": _PENDING, "changed_at": datetime.now(UTC)}
            events = [
                _key(account, result.entry.subject)
                | {"event_id": str(result.event.id), "body": result.event.model_dump_json()}
                | state
                for result in results
                if result.event
            ]
            for batch in by_statement(events):
                insert = insert_into(_OUTBOX, database).values(batch).on_conflict_do_nothing()
                new |= set(map(UUID, database.scalars(insert.returning(_OUTBOX.c.event_id))))
            for result in results:
                database.execute(_inbox_change(account, result))
        return new

    def claim(self, account: str, *, limit: int) -> list[Event]:
        """Mark the next events as sent, and return them in order."""
        pending = (
            select(_OUTBOX)
            .where(_OUTBOX.c.account == account, _OUTBOX.c.state == _PENDING)
            .order_by(_OUTBOX.c.seq)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self.transaction() as database:
            rows = list(database.execute(pending))
            seqs = [row.seq for row in rows]
            database.execute(
                update(_OUTBOX)
                .where(_OUTBOX.c.seq.in_(seqs))
                .values(state=_SENT, changed_at=datetime.now(UTC))
            )
        return [Event.model_validate_json(row.body) for row in rows]

    def sent(self, account: str, *, before: datetime, limit: int) -> list[tuple[Event, datetime]]:
        """Return the first events that are not confirmed yet, and when each was sent."""
        query = (
            select(_OUTBOX)
            .where(
                _OUTBOX.c.account == account,
                _OUTBOX.c.state == _SENT,
                _OUTBOX.c.changed_at <= before,
            )
            .order_by(_OUTBOX.c.seq)
            .limit(limit)
        )
        with self.transaction() as database:
            return [
                (Event.model_validate_json(row.body), row.changed_at)
                for row in database.execute(query)
            ]

    def release(self, event_ids: Iterable[UUID]) -> None:
        """Put sent events back, to be sent again."""
        self._update(event_ids, state=_PENDING)

    def confirm(self, event_ids: Iterable[UUID]) -> None:
        """Record that Prefect has stored events; their ids stay, to recognize duplicates."""
        self._update(event_ids, state=_STORED, body="")

    def _update(self, event_ids: Iterable[UUID], **values: str) -> None:
        now = datetime.now(UTC)
        with self.transaction() as database:
            for batch in by_statement(event_ids):
                change = update(_OUTBOX).where(_events(batch)).values(changed_at=now, **values)
                database.execute(change)

    def discard(self, event_ids: Iterable[UUID]) -> None:
        """Delete events that Prefect refuses."""
        with self.transaction() as database:
            for batch in by_statement(event_ids):
                database.execute(delete(_OUTBOX).where(_events(batch)))

    def prune(self, account: str, *, before: datetime) -> int:
        """Delete events that were stored before a time, and return how many."""
        old = delete(_OUTBOX).where(
            _OUTBOX.c.account == account, _OUTBOX.c.state == _STORED, _OUTBOX.c.changed_at < before
        )
        with self.transaction() as database:
            return database.execute(old).rowcount


_KNOWN: ColumnElement[bool] = exists().where(
    _OUTBOX.c.account == _INBOX.c.account,
    _OUTBOX.c.kind == _INBOX.c.kind,
    _OUTBOX.c.subject_id == _INBOX.c.subject_id,
    _OUTBOX.c.state == _STORED,
)


def _key(account: str, subject: Subject) -> dict[str, Any]:
    return {"account": account, "kind": str(subject.kind), "subject_id": subject.id}


def _inbox_change(account: str, result: ReadResult) -> Delete | Update:
    """Remove an order or parcel from the inbox, or postpone it."""
    entry = result.entry
    which = [_INBOX.c[name] == value for name, value in _key(account, entry.subject).items()]
    if result.retry_at is None:
        return delete(_INBOX).where(*which, _INBOX.c.deliveries == entry.deliveries)
    return (
        update(_INBOX)
        .where(*which)
        .values(
            misses=entry.misses + result.missing,
            failures=entry.failures + (not result.missing),
            due_at=result.retry_at,
        )
    )


def _events(event_ids: Iterable[UUID]) -> ColumnElement[bool]:
    return _OUTBOX.c.event_id.in_([str(event_id) for event_id in event_ids])
