"""Where deliveries and events are kept until they are done, so that a crash loses none.

Three tables: the inbox holds what was delivered and not yet read from Tracktor, as three queues
that do not hold each other up (see `WebhookQueue.due`); the outbox the
events that Prefect has not confirmed yet, and the last one which events Prefect has, so that no
news becomes an event twice. They hold ids, statuses and times, no customer's data.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

from prefect.events import Event
from pydantic import Field, HttpUrl
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    bindparam,
    delete,
    exists,
    func,
    select,
    update,
)

from prefect_tracktor.block import logo
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
    "tracktor_outbox",
    MetaData(),
    Column(
        "seq",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("account", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject_id", BigInteger, nullable=False),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("sent_at", UTCTime),
)
_EMITTED = Table(
    "tracktor_emitted_events",
    MetaData(),
    Column("account", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("subject_id", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", String(36), primary_key=True),
    Column("emitted_at", UTCTime, nullable=False),
)


class _State(StrEnum):
    PENDING = "pending"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A parcel or order of which there was a delivery, and which has to be read."""

    subject: Subject
    deliveries: int
    failures: int
    misses: int
    received: datetime
    confirmed: bool


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event on its way to Prefect."""

    seq: int
    subject: Subject
    event_id: str
    body: str


class WebhookQueue(DatabaseBlock):
    """Keeps webhook deliveries and events until they are done, so that a crash loses none.

    Attributes:
        url: Where they are kept; empty for a SQLite file in the Prefect home.
        max_waiting: How many parcels and orders may wait to be read.

    Example:
        See how many deliveries and events are not done yet:
        ```python
        from prefect_tracktor.webhooks import WebhookQueue

        queue = WebhookQueue.load("BLOCK_NAME")
        to_read, to_confirm = queue.waiting("b6ef35fe18ed39251365")  # TracktorCredentials.account
        ```
    """

    _block_type_name = "Tracktor Webhook Queue"
    _block_type_slug = "tracktor-webhook-queue"
    _logo_url = logo("tray-full")
    _description = "Keeps webhook deliveries and events until they are done."
    _documentation_url = HttpUrl("https://www.theshoppad.com/apps/tracktor/api/docs")

    tables: ClassVar[tuple[Table, ...]] = (_INBOX, _OUTBOX, _EMITTED)

    max_waiting: int = Field(
        default=100_000,
        ge=1,
        title="Waiting at most",
        description="How many parcels and orders may wait to be read before deliveries are"
        " refused for the time being.",
    )

    def prepare(self) -> None:
        """Make the tables if need be.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> WebhookQueue(url=ledger.url).prepare()
        """
        self.verify()

    def waiting(self, account: str) -> tuple[int, int]:
        """How much is not done yet.

        Args:
            account: The account's name.

        Returns:
            The parcels and orders to read, and the events that Prefect has not confirmed.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> WebhookQueue(url=ledger.url).waiting("shop")
            (0, 0)
        """
        self.prepare()
        with self.transaction(_INBOX) as database:
            counts = [
                database.execute(
                    select(func.count()).select_from(table).where(table.c.account == account)
                ).scalar_one()
                for table in (_INBOX, _OUTBOX)
            ]
        return counts[0], counts[1]

    def add(self, account: str, subjects: Iterable[Subject]) -> None:
        """Note that there were deliveries, all in one transaction.

        Deliveries of the same parcel or order wait as one.

        Args:
            account: The account's name.
            subjects: What each delivery is about.

        Raises:
            QueueFull: Too many are waiting; nothing was noted.
            DatabaseError: The database cannot be used.

        Example:
            >>> queue = WebhookQueue(url=ledger.url)
            >>> queue.add("shop", [Subject(Kind.ORDER, 1001), Subject(Kind.ORDER, 1001)])
            >>> queue.due("shop", new=10)[0].deliveries
            2
        """
        now = datetime.now(UTC)
        counts: dict[Subject, int] = {}
        for subject in subjects:
            counts[subject] = counts.get(subject, 0) + 1
        rows = [
            _key(account, subject)
            | {"deliveries": count, "failures": 0, "misses": 0, "received_at": now, "due_at": now}
            for subject, count in counts.items()
        ]
        with self.transaction(_INBOX) as database:
            self._refuse_if_full(database, account)
            for some in by_statement(rows):
                insert = insert_into(_INBOX, database).values(some)
                database.execute(
                    insert.on_conflict_do_update(
                        index_elements=[_INBOX.c.account, _INBOX.c.kind, _INBOX.c.subject_id],
                        set_={
                            "deliveries": _INBOX.c.deliveries + insert.excluded.deliveries,
                            "received_at": insert.excluded.received_at,
                        },
                    )
                )

    def _refuse_if_full(self, database: Connection, account: str) -> None:
        # what Tracktor does not know takes no room from the rest
        ours = (_INBOX.c.account == account) & (_INBOX.c.misses == 0)
        count = select(func.count()).select_from(_INBOX).where(ours)
        if database.execute(count).scalar_one() >= self.max_waiting:
            raise QueueFull(
                f"{self.max_waiting} parcels and orders wait to be read already (max_waiting)",
                may_have_arrived=False,
            )

    def due(self, account: str, *, known: int = 0, new: int = 0, unknown: int = 0) -> list[Waiting]:
        """What has to be read now, from three queues that do not hold each other up.

        Args:
            account: The account's name.
            known: How many at most of those that had an event before; the longest due first.
            new: How many at most of those that were not looked up yet: the latest deliveries and
                the longest due, half of each, so that a flood of forged ones delays neither.
            unknown: How many at most of those that Tracktor did not know; the latest first.

        Returns:
            Parcels and orders, each once.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> WebhookQueue(url=ledger.url).due("another shop", known=10, new=10)
            []
        """
        self.prepare()
        latest, longest = _INBOX.c.received_at.desc(), _INBOX.c.due_at
        with self.transaction(_INBOX) as database:
            queues = [
                (known, _HAD_EVENT, longest),
                (new - new // 2, ~_HAD_EVENT & (_INBOX.c.misses == 0), latest),
                (new // 2, ~_HAD_EVENT & (_INBOX.c.misses == 0), longest),
                (unknown, ~_HAD_EVENT & (_INBOX.c.misses > 0), latest),
            ]
            rows = [
                row
                for limit, which, order in queues
                if limit
                for row in database.execute(_due(account).where(which).order_by(order).limit(limit))
            ]
        return list({_subject(row): _waiting(row) for row in rows}.values())

    def settle(
        self,
        account: str,
        *,
        read: Sequence[tuple[Waiting, Event]] = (),
        dropped: Sequence[Waiting] = (),
        postponed: Sequence[tuple[Waiting, datetime]] = (),
        missed: Sequence[tuple[Waiting, datetime]] = (),
    ) -> set[str]:
        """Note what became of the parcels and orders that were due, all in one transaction.

        One of which there was another delivery meanwhile stays due.

        Args:
            account: The account's name.
            read: The events of those that were read.
            dropped: Those that nothing is to be done about.
            postponed: Those to be tried again, and when.
            missed: Those that Tracktor does not know, and when to look again.

        Returns:
            The ids of the events that are news.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> WebhookQueue(url=ledger.url).settle("shop")
            set()
        """
        self.prepare()
        with self.transaction(_OUTBOX) as database:
            news = _store(database, account, read)
            done = [
                _bound(account, one) | {"seen": one.deliveries}
                for one in (*(waiting for waiting, _ in read), *dropped)
            ]
            if done:
                database.execute(
                    delete(_INBOX).where(_THE_ONE, _INBOX.c.deliveries == bindparam("seen")), done
                )
            later = [
                _bound(account, one)
                | {"failed": one.failures + more, "missed": one.misses + 1 - more, "due": due}
                for more, those in ((1, postponed), (0, missed))
                for one, due in those
            ]
            if later:
                database.execute(
                    update(_INBOX)
                    .where(_THE_ONE)
                    .values(
                        failures=bindparam("failed"),
                        misses=bindparam("missed"),
                        due_at=bindparam("due"),
                    ),
                    later,
                )
        return news

    def claim(self, account: str, *, limit: int) -> list[StoredEvent]:
        """Take the next events to send; whoever asks next does not get them.

        Args:
            account: The account's name.
            limit: How many at most.

        Returns:
            The events in their order.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> WebhookQueue(url=ledger.url).claim("shop", limit=10)
            []
        """
        query = (
            select(_OUTBOX)
            .where(_OUTBOX.c.account == account, _OUTBOX.c.state == _State.PENDING)
            .order_by(_OUTBOX.c.seq)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self.transaction(_OUTBOX) as database:
            events = [_stored(row) for row in database.execute(query)]
            _set_state(database, events, _State.SENT, datetime.now(UTC))
        return events

    def release(self, events: Sequence[StoredEvent]) -> None:
        """Have events sent again that Prefect surely does not have.

        Args:
            events: Which.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> WebhookQueue(url=ledger.url).release([])
        """
        with self.transaction(_OUTBOX) as database:
            _set_state(database, events, _State.PENDING, None)

    def unconfirmed(
        self, account: str, *, after: int, sent_before: datetime, limit: int
    ) -> list[tuple[StoredEvent, datetime]]:
        """Events that were sent, and of which it is not known whether Prefect has them.

        Args:
            account: The account's name.
            after: Those with a higher `seq` than this.
            sent_before: Those sent before; aware.
            limit: How many at most.

        Returns:
            The events in their order, and when each was sent.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> WebhookQueue(url=ledger.url).unconfirmed(
            ...     "shop", after=0, sent_before=datetime.now(UTC), limit=10
            ... )
            []
        """
        query = (
            select(_OUTBOX)
            .where(
                _OUTBOX.c.account == account,
                _OUTBOX.c.state == _State.SENT,
                _OUTBOX.c.seq > after,
                _OUTBOX.c.sent_at <= sent_before,
            )
            .order_by(_OUTBOX.c.seq)
            .limit(limit)
        )
        with self.transaction(_OUTBOX) as database:
            return [(_stored(row), row.sent_at) for row in database.execute(query)]

    def confirm(self, account: str, events: Sequence[StoredEvent]) -> None:
        """Note that events need not be sent any more.

        Args:
            account: The account's name.
            events: Which.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> WebhookQueue(url=ledger.url).confirm("shop", [])
        """
        now = datetime.now(UTC)
        self.prepare()
        with self.transaction(_OUTBOX) as database:
            for some in by_statement(events):
                rows = [
                    _key(account, event.subject) | {"event_id": event.event_id, "emitted_at": now}
                    for event in some
                ]
                insert = insert_into(_EMITTED, database).values(rows)
                database.execute(insert.on_conflict_do_nothing())
                seqs = [event.seq for event in some]
                database.execute(delete(_OUTBOX).where(_OUTBOX.c.seq.in_(seqs)))

    def give_up(self, events: Sequence[StoredEvent]) -> None:
        """Forget events that Prefect does not accept.

        Args:
            events: Which.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> WebhookQueue(url=ledger.url).give_up([])
        """
        with self.transaction(_OUTBOX) as database:
            for some in by_statement(events):
                seqs = [event.seq for event in some]
                database.execute(delete(_OUTBOX).where(_OUTBOX.c.seq.in_(seqs)))

    def prune(self, account: str, *, before: datetime) -> int:
        """Forget events that Prefect got long ago.

        Args:
            account: The account's name.
            before: Those confirmed before; aware.

        Returns:
            How many were forgotten.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> WebhookQueue(url=ledger.url).prune("shop", before=datetime.now(UTC))
            0
        """
        old = delete(_EMITTED).where(_EMITTED.c.account == account, _EMITTED.c.emitted_at < before)
        with self.transaction(_EMITTED) as database:
            return database.execute(old).rowcount


_THE_ONE: ColumnElement[bool] = (
    (_INBOX.c.account == bindparam("of_account"))
    & (_INBOX.c.kind == bindparam("of_kind"))
    & (_INBOX.c.subject_id == bindparam("of_id"))
)

_HAD_EVENT: ColumnElement[bool] = exists().where(
    _EMITTED.c.account == _INBOX.c.account,
    _EMITTED.c.kind == _INBOX.c.kind,
    _EMITTED.c.subject_id == _INBOX.c.subject_id,
)


def _due(account: str) -> Select[Any]:
    return select(_INBOX, _HAD_EVENT.label("had_event")).where(
        _INBOX.c.account == account, _INBOX.c.due_at <= datetime.now(UTC)
    )


def _waiting(row: Any) -> Waiting:
    return Waiting(
        subject=_subject(row),
        deliveries=row.deliveries,
        failures=row.failures,
        misses=row.misses,
        received=row.received_at,
        confirmed=row.had_event,
    )


def _bound(account: str, one: Waiting) -> dict[str, Any]:
    return {"of_account": account, "of_kind": str(one.subject.kind), "of_id": one.subject.id}


def _key(account: str, subject: Subject) -> dict[str, Any]:
    return {"account": account, "kind": str(subject.kind), "subject_id": subject.id}


def _subject(row: Any) -> Subject:
    return Subject(Kind(row.kind), row.subject_id)


def _stored(row: Any) -> StoredEvent:
    return StoredEvent(row.seq, _subject(row), row.event_id, row.body)


def _emitted(
    database: Connection, account: str, subjects: Iterable[Subject]
) -> dict[Subject, set[str]]:
    """The ids of the events that Prefect has of some parcels and orders."""
    found: dict[Subject, set[str]] = {}
    ids: dict[Kind, list[int]] = {kind: [] for kind in Kind}
    for subject in subjects:
        ids[subject.kind].append(subject.id)
    for kind in Kind:
        for some in by_statement(ids[kind]):
            # in this form SQLite finds them by its index
            query = select(_EMITTED).where(
                _EMITTED.c.account == account,
                _EMITTED.c.kind == str(kind),
                _EMITTED.c.subject_id.in_(some),
            )
            for row in database.execute(query):
                found.setdefault(_subject(row), set()).add(row.event_id)
    return found


def _store(database: Connection, account: str, read: Sequence[tuple[Waiting, Event]]) -> set[str]:
    """Put the events that are news into the outbox."""
    news: set[str] = set()
    for some in by_statement(read):
        ids = [str(event.id) for _, event in some]
        emitted = _emitted(database, account, [waiting.subject for waiting, _ in some])
        known = {event_id for of_one in emitted.values() for event_id in of_one}
        known |= set(
            database.scalars(select(_OUTBOX.c.event_id).where(_OUTBOX.c.event_id.in_(ids)))
        )
        rows = [
            _key(account, waiting.subject)
            | {
                "event_id": str(event.id),
                "body": event.model_dump_json(),
                "state": str(_State.PENDING),
            }
            for waiting, event in some
            if str(event.id) not in known
        ]
        if rows:
            insert = insert_into(_OUTBOX, database).values(rows)
            database.execute(insert.on_conflict_do_nothing())
        news |= {row["event_id"] for row in rows}
    return news


def _set_state(
    database: Connection, events: Sequence[StoredEvent], state: _State, sent_at: datetime | None
) -> None:
    for some in by_statement(events):
        seqs = [event.seq for event in some]
        database.execute(
            update(_OUTBOX).where(_OUTBOX.c.seq.in_(seqs)).values(state=str(state), sent_at=sent_at)
        )
