"""Who was told what: the ledger that keeps two runs from writing to a customer twice.

A notice is claimed before its message goes out and settled after. The claim is a row with a unique
key in a database, which is the one means that held when two processes raced for the same keys:
SQLite on one machine, PostgreSQL where several share it.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar
from uuid import uuid4

from pydantic import Field, HttpUrl
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Date,
    DateTime,
    Delete,
    Integer,
    MetaData,
    String,
    Table,
    Update,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)

from prefect_tracktor.block import logo
from prefect_tracktor.errors import DatabaseError, InvalidInput, LedgerError
from prefect_tracktor.storage.database import (
    DatabaseBlock,
    aware,
    by_statement,
    insert_into,
    now_in,
    storable_id,
)
from prefect_tracktor.storage.ledger_memory import LedgerMemory, LedgerStanding

_STILL_AT_WORK = timedelta(hours=1)
# a run that has not been heard of for so long has ended; a slow one is only called so too early
_HEARD_OF_WITHIN = timedelta(seconds=15)
_HEARTBEAT_SECONDS = 3
# a claim from further ahead was made before somebody set the clock back
_CLOCKS_DIFFER = timedelta(minutes=1)

_SHOP_AT_MOST = 64
_REASON_AT_MOST = 200

_notices = Table(
    "tracktor_notifications",
    MetaData(),
    Column("shop", String(_SHOP_AT_MOST), primary_key=True),
    Column("order_id", BigInteger, primary_key=True, autoincrement=False),
    Column("fulfillment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", String(_REASON_AT_MOST), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("run", String(100), nullable=False),
    Column("claimed_at", DateTime(timezone=True), nullable=False),
    Column("settled_at", DateTime(timezone=True)),
)
# the one row that tells a ledger from any other
_identity = Table(
    "tracktor_ledger",
    MetaData(),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("id", String(32), nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
)
_runs = Table(
    "tracktor_runs_at_work",
    MetaData(),
    Column("run", String(100), primary_key=True),
    Column("heard_of_at", DateTime(timezone=True), nullable=False),
)
# for a day or two: how many messages went to an address, of which it holds a keyed hash
_today = Table(
    "tracktor_messages_today",
    MetaData(),
    Column("shop", String(_SHOP_AT_MOST), primary_key=True),
    Column("recipient", String(64), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("messages", Integer, nullable=False),
)
_key_columns = (
    _notices.c.shop,
    _notices.c.order_id,
    _notices.c.fulfillment_id,
    _notices.c.reason,
)


@dataclass(frozen=True, order=True, slots=True)
class NoticeKey:
    """What a customer is told at most once."""

    shop: str
    order_id: int
    fulfillment_id: int
    reason: str

    def __post_init__(self) -> None:
        for field in ("order_id", "fulfillment_id"):
            if not storable_id(getattr(self, field)):
                raise InvalidInput(f"{field} has more than 64 bits, which no id of Shopify's has")
        for field, at_most in (("shop", _SHOP_AT_MOST), ("reason", _REASON_AT_MOST)):
            _check_text(getattr(self, field), field=field, at_most=at_most)


def _check_text(text: str, *, field: str, at_most: int) -> None:
    if len(text) > at_most:
        raise InvalidInput(
            f"{field} has {len(text)} characters, and the ledger holds {at_most}: is a status or"
            " an exception of the order that long?"
        )
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(f"{field} has characters that no database holds (NUL, half a pair)")


class NoticeState(StrEnum):
    """How far a notice has got."""

    CLAIMED = "claimed"
    SENT = "sent"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Notice:
    """A row of the ledger. It holds ids and times, no personal data."""

    key: NoticeKey
    state: NoticeState
    run: str
    claimed_at: datetime
    settled_at: datetime | None


class NotificationLedger(DatabaseBlock):
    """Remembers which customer was told what, so that nobody is told twice.

    Attributes:
        url: Where the ledger is kept; empty for a SQLite file in the Prefect home.
        messages_a_day: How many messages one address gets in a day (UTC) at most, all flows that
            use the ledger taken together; what is left goes out on the days after.

    Raises:
        pydantic.ValidationError: The URL is none, or of a database that is not supported; the
            message does not repeat it.

    Example:
        Find the claims of runs that were killed, and let the next run write to these customers:
        ```python
        from prefect_tracktor import NotificationLedger

        ledger = NotificationLedger.load("BLOCK_NAME")
        ledger.clear_uncertain([notice.key for notice in ledger.uncertain()])
        ```
    """

    _block_type_name = "Tracktor Notification Ledger"
    _block_type_slug = "tracktor-notification-ledger"
    _logo_url = logo("book-check")
    _description = (
        "Remembers which customer was emailed about what, so that no email is sent twice."
    )
    _documentation_url = HttpUrl("https://www.theshoppad.com/apps/tracktor/api/docs")

    tables: ClassVar[tuple[Table, ...]] = (_notices, _identity, _runs, _today)

    messages_a_day: int = Field(
        default=3,
        ge=1,
        le=1000,
        title="Messages a day to one address",
        description="How many messages one address gets in a day (UTC) at most, from all flows"
        " together; further ones are deferred.",
    )

    def standing(self, account: str) -> LedgerStanding:
        """Which ledger this is, and how much it knows of an account.

        Args:
            account: The account's name.

        Returns:
            Its identity, and how many of the account's notices it holds as sent.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> ledger.standing("shop").sent
            0
        """
        sent = select(func.count()).where(_of(account), _notices.c.state == NoticeState.SENT.value)
        with self._transaction() as database:
            new = {"row": 1, "id": uuid4().hex, "made_at": now_in(database)}
            database.execute(insert_into(_identity, database).values(new).on_conflict_do_nothing())
            identity = database.execute(select(_identity.c.id)).scalar_one()
            count = database.execute(sent).scalar_one()
        return LedgerStanding(identity, self.place, account, count)

    def accept(self, account: str) -> None:
        """Accept this ledger for an account that used another one before.

        Customers who are still affected and not in this ledger get an email again.

        Args:
            account: The account's name, as its credentials give it.

        Raises:
            LedgerError: The database cannot be used.
            TracktorError: Prefect's API does not answer.

        Example:
            >>> ledger.accept(credentials.account)
        """
        standing = self.standing(account)
        for purpose in ("", "events"):
            LedgerMemory.of(account, purpose=purpose).accept(standing)

    def take_over(self, old_account: str, account: str) -> int:
        """Carry notices over to the same shop's new account, as its uuid has changed.

        Args:
            old_account: The name of the account before.
            account: Its name from now on.

        Returns:
            How many notices were carried over.

        Raises:
            LedgerError: The database cannot be used; nothing was changed.

        Example:
            >>> key = NoticeKey("before", 9, 7, "exception:expired")
            >>> ledger.settle([key], NoticeState.SENT, run="first")
            >>> ledger.take_over("before", "after")
            1
        """
        known = _notices.alias()
        same = [known.c[column.name] == column for column in _key_columns[1:]]
        there = select(known.c.shop).where(known.c.shop == account, *same).exists()
        with self._transaction() as database:
            moved = update(_notices).where(_of(old_account), ~there).values(shop=account)
            return database.execute(moved).rowcount

    def known_elsewhere(self, keys: Iterable[NoticeKey]) -> dict[NoticeKey, str]:
        """Find notices that were sent in another account's name: a parcel has one account.

        Args:
            keys: What is about to be sent.

        Returns:
            The name of the other account, by key.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> ledger.settle([NoticeKey("before", 10, 7, "a")], NoticeState.SENT, run="first")
            >>> ledger.known_elsewhere([NoticeKey("after", 10, 7, "a")])
            {NoticeKey(shop='after', order_id=10, fulfillment_id=7, reason='a'): 'before'}
        """
        found: dict[NoticeKey, str] = {}
        with self._transaction() as database:
            for some in by_statement(keys):
                wanted = {astuple(key)[1:]: key for key in some}
                rows = database.execute(
                    select(*_key_columns).where(
                        tuple_(*_key_columns[1:]).in_(list(wanted)),
                        _notices.c.state == NoticeState.SENT.value,
                    )
                )
                for shop, *same in rows:
                    key = wanted[tuple(same)]
                    found |= {key: shop} if shop != key.shop else {}
        return found

    def states(self, keys: Iterable[NoticeKey]) -> dict[NoticeKey, NoticeState]:
        """Look up notices.

        Args:
            keys: Any number of keys.

        Returns:
            The state of those that the ledger knows.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> ledger.states([NoticeKey("shop", 404, 7, "exception:expired")])
            {}
        """
        found: dict[NoticeKey, NoticeState] = {}
        with self._transaction() as database:
            for some in by_statement(keys):
                rows = database.execute(select(*_key_columns, _notices.c.state).where(_among(some)))
                found |= {NoticeKey(*row[:4]): NoticeState(row.state) for row in rows}
        return found

    def count_since(self, shop: str, *, kind: str, within: timedelta) -> int:
        """Count the messages that were sent recently, or may have been.

        Args:
            shop: The Tracktor account's name.
            kind: The first word of the reasons, such as `status`.
            within: How long ago, at most.

        Returns:
            The number of messages; one speaks of all parcels of an order with the same news.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> ledger.count_since("shop", kind="status", within=timedelta(hours=1))
            0
        """
        with self._transaction() as database:
            messages = select(_notices.c.order_id, _notices.c.reason).where(
                _notices.c.shop == shop,
                _notices.c.reason.startswith(f"{kind}:", autoescape=True),
                _notices.c.state != NoticeState.REFUSED.value,
                _notices.c.claimed_at > now_in(database) - within,
            )
            query = select(func.count()).select_from(messages.distinct().subquery())
            return database.scalar(query) or 0

    def claim(self, keys: Iterable[NoticeKey], *, run: str) -> set[NoticeKey]:
        """Claim notices, so that no other run sends them.

        Args:
            keys: What is about to be sent.
            run: A name for this run, so that a person finds it again.

        Returns:
            The keys that this run has claimed; the others were claimed or completed before.

        Raises:
            LedgerError: The database cannot be used; nothing was claimed.

        Example:
            >>> key = NoticeKey("shop", 1, 7, "exception:expired")
            >>> ledger.claim([key], run="first") == {key}, ledger.claim([key], run="second")
            (True, set())
        """
        won: set[NoticeKey] = set()
        with self._transaction() as database:
            # always in the same order: two runs that want the same keys cannot wait for each other
            for some in by_statement(sorted(set(keys))):
                now = now_in(database)
                rows = [_new_row(key, NoticeState.CLAIMED, run, now) for key in some]
                insert = insert_into(_notices, database).values(rows).on_conflict_do_nothing()
                rows_won = database.execute(insert.returning(*_key_columns))
                won |= {NoticeKey(*row) for row in rows_won}
        return won

    def settle(self, keys: Iterable[NoticeKey], state: NoticeState, *, run: str) -> None:
        """Record for good that notices were sent, or refused.

        Args:
            keys: What was claimed before.
            state: `SENT` or `REFUSED`.
            run: The run that did it.

        Raises:
            LedgerError: The database cannot be used; the claims stay, as uncertain.

        Example:
            >>> key = NoticeKey("shop", 2, 7, "exception:expired")
            >>> _ = ledger.claim([key], run="first")
            >>> ledger.settle([key], NoticeState.SENT, run="first")
            >>> ledger.states([key])[key].value
            'sent'
        """
        with self._transaction() as database:
            now = now_in(database)
            settled = {"state": state.value, "run": run, "settled_at": now}
            for some in by_statement(sorted(keys)):
                # what happened is written even if somebody cleared the claim in the meantime
                insert = insert_into(_notices, database).values(
                    [_new_row(key, state, run, now) for key in some]
                )
                database.execute(
                    insert.on_conflict_do_update(index_elements=_key_columns, set_=settled)
                )

    def release(self, keys: Iterable[NoticeKey], *, run: str) -> None:
        """Drop this run's open claims, so that a later run sends these notices.

        Args:
            keys: What was claimed and surely not sent.
            run: The run that claimed it.

        Raises:
            LedgerError: The database cannot be used; the claims stay, as uncertain.

        Example:
            >>> key = NoticeKey("shop", 3, 7, "exception:expired")
            >>> _ = ledger.claim([key], run="first")
            >>> ledger.release([key], run="first")
            >>> ledger.states([key])
            {}
        """
        with self._transaction() as database:
            for some in by_statement(sorted(keys)):
                database.execute(
                    delete(_notices).where(_among(some), _open(), _notices.c.run == run)
                )

    @contextmanager
    def at_work(self, run: str) -> Iterator[None]:
        """Let other runs know that this one is at work, so that they take its claims for live.

        Args:
            run: The run that will claim notices.

        Yields:
            Once the ledger knows of it.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> key = NoticeKey("shop", 7, 7, "exception:expired")
            >>> with ledger.at_work("first"):
            ...     _ = ledger.claim([key], run="first")
            ...     ledger.in_progress([key], run="second") == {key}
            True
            >>> ledger.in_progress([key], run="second")
            set()
        """
        self._be_heard_of(run)
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(_HEARTBEAT_SECONDS):
                with suppress(LedgerError):  # the run itself will notice
                    self._be_heard_of(run)

        thread = threading.Thread(target=beat, name="tracktor-ledger-heartbeat", daemon=True)
        thread.start()
        gone = False
        try:
            yield
        except LedgerError:
            gone = True  # nor can it be told that this run has ended
            raise
        finally:
            ended.set()
            if not gone:
                self._end(run, thread)

    def _end(self, run: str, heartbeat: threading.Thread) -> None:
        heartbeat.join()
        with suppress(LedgerError), self._transaction() as database:
            database.execute(delete(_runs).where(_runs.c.run == run))

    def _be_heard_of(self, run: str) -> None:
        with self._transaction() as database:
            now = now_in(database)
            insert = insert_into(_runs, database).values(run=run, heard_of_at=now)
            heard_of = {"heard_of_at": now}
            database.execute(insert.on_conflict_do_update(index_elements=["run"], set_=heard_of))

    def in_progress(self, keys: Iterable[NoticeKey], *, run: str) -> set[NoticeKey]:
        """Return the open claims of other runs that are at work, which will complete them.

        Args:
            keys: Any number of keys.
            run: This run, whose own claims are not meant.

        Returns:
            Those keys.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> ledger.in_progress([NoticeKey("shop", 404, 7, "exception:expired")], run="second")
            set()
        """
        found: set[NoticeKey] = set()
        with self._transaction() as database:
            live = _live(now_in(database))
            for some in by_statement(keys):
                query = select(*_key_columns).where(
                    _among(some), _open(), live, _notices.c.run != run
                )
                found |= {NoticeKey(*row) for row in database.execute(query)}
        return found

    def admit(self, account: str, recipient: str) -> bool:
        """Count a message to an address, unless it has had as many as it may get today.

        Args:
            account: The account's name.
            recipient: The address, as a keyed hash.

        Returns:
            Whether the message may go out.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> [ledger.admit("shop", "5f0c") for _ in range(4)]
            [True, True, True, False]
        """
        with self._transaction() as database:
            today = now_in(database).date()
            database.execute(delete(_today).where(_today.c.day < today - timedelta(days=1)))
            first = {"shop": account, "recipient": recipient, "day": today, "messages": 1}
            counted = (
                insert_into(_today, database)
                .values(first)
                .on_conflict_do_update(
                    index_elements=["shop", "recipient", "day"],
                    set_={"messages": _today.c.messages + 1},
                    where=_today.c.messages < self.messages_a_day,
                )
                .returning(_today.c.messages)
            )
            return database.execute(counted).first() is not None

    def discount(self, account: str, recipient: str) -> None:
        """Take back what `admit` counted, as the message did not go out.

        Args:
            account: The account's name.
            recipient: The address, as a keyed hash.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> ledger.discount("shop", "5f0c")
        """
        with self._transaction() as database:
            database.execute(
                update(_today)
                .where(
                    _today.c.shop == account,
                    _today.c.recipient == recipient,
                    _today.c.day == now_in(database).date(),
                    _today.c.messages > 0,
                )
                .values(messages=_today.c.messages - 1)
            )

    def refused(self) -> list[Notice]:
        """List the notices whose address the mail server refused for good.

        Returns:
            The notices, the oldest first.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> key = NoticeKey("shop", 8, 7, "exception:expired")
            >>> ledger.settle([key], NoticeState.REFUSED, run="first")
            >>> ledger.refused()[-1].key == key
            True
        """
        query = select(_notices).where(_refused()).order_by(_notices.c.settled_at)
        with self._transaction() as database:
            return [_notice(row) for row in database.execute(query)]

    def clear_refused(self, keys: Iterable[NoticeKey]) -> int:
        """Forget refusals, so that the next run tries these customers again.

        Args:
            keys: Which; usually of `refused()`.

        Returns:
            How many were forgotten.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> key = NoticeKey("shop", 8, 7, "exception:expired")
            >>> ledger.settle([key], NoticeState.REFUSED, run="first")
            >>> ledger.clear_refused([key])
            1
        """
        with self._transaction() as database:
            return sum(
                database.execute(delete(_notices).where(_among(some), _refused())).rowcount
                for some in by_statement(sorted(keys))
            )

    def last_settled(self, shop: str) -> NoticeState | None:
        """Look up how the last notice of an account ended.

        Args:
            shop: The name of the Tracktor account.

        Returns:
            `SENT` or `REFUSED`; `None` if none has ended.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> ledger.last_settled("an account that has never written") is None
            True
        """
        query = (
            select(_notices.c.state)
            .where(_notices.c.shop == shop, _notices.c.settled_at.is_not(None))
            .order_by(_notices.c.settled_at.desc())
            .limit(1)
        )
        with self._transaction() as database:
            state = database.execute(query).scalar()
        return NoticeState(state) if state else None

    def uncertain(self, *, older_than: timedelta = _STILL_AT_WORK) -> list[Notice]:
        """List the claims for which it is unknown whether the message was sent.

        Args:
            older_than: A younger claim may be one that a run is working on, and is left out.

        Returns:
            The claims, the oldest first.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> _ = ledger.claim([NoticeKey("shop", 4, 7, "exception:expired")], run="killed")
            >>> ledger.uncertain(older_than=timedelta(0))[-1].run
            'killed'
        """
        with self._transaction() as database:
            broken_off = _broken_off(now_in(database), older_than)
            query = select(_notices).where(_open(), broken_off).order_by(_notices.c.claimed_at)
            return [_notice(row) for row in database.execute(query)]

    def clear_uncertain(
        self, keys: Iterable[NoticeKey], *, older_than: timedelta = _STILL_AT_WORK
    ) -> int:
        """Forget open claims, so that the next run writes to these customers.

        Args:
            keys: Which; usually of `uncertain()`.
            older_than: A younger claim may be one that a run is working on, and stays.

        Returns:
            How many claims were forgotten.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> key = NoticeKey("shop", 5, 7, "exception:expired")
            >>> _ = ledger.claim([key], run="killed")
            >>> ledger.clear_uncertain([key])
            0
            >>> ledger.clear_uncertain([key], older_than=timedelta(0))
            1
        """
        return self._change_uncertain(delete(_notices), keys, older_than)

    def confirm_uncertain(
        self, keys: Iterable[NoticeKey], *, older_than: timedelta = _STILL_AT_WORK
    ) -> int:
        """Record of open claims that the message did arrive, as a person found out.

        Args:
            keys: Which; usually of `uncertain()`.
            older_than: A younger claim may be one that a run is working on, and stays.

        Returns:
            How many claims are now completed as sent.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> key = NoticeKey("shop", 6, 7, "exception:expired")
            >>> _ = ledger.claim([key], run="killed")
            >>> ledger.confirm_uncertain([key], older_than=timedelta(0))
            1
        """
        settled = {"state": NoticeState.SENT.value, "settled_at": func.current_timestamp()}
        return self._change_uncertain(update(_notices).values(**settled), keys, older_than)

    def _change_uncertain(
        self, change: Delete | Update, keys: Iterable[NoticeKey], older_than: timedelta
    ) -> int:
        with self._transaction() as database:
            broken_off = _broken_off(now_in(database), older_than)
            return sum(
                database.execute(change.where(_among(some), _open(), broken_off)).rowcount
                for some in by_statement(sorted(keys))
            )

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self.transaction(*self.tables) as connection:
                yield connection
        except DatabaseError as error:
            trouble = LedgerError(f"{error} Without it nothing is sent.", may_have_arrived=False)
        else:
            return
        raise trouble


def _new_row(key: NoticeKey, state: NoticeState, run: str, now: datetime) -> dict[str, Any]:
    return {
        "shop": key.shop,
        "order_id": key.order_id,
        "fulfillment_id": key.fulfillment_id,
        "reason": key.reason,
        "state": state.value,
        "run": run,
        "claimed_at": now,
        "settled_at": None if state is NoticeState.CLAIMED else now,
    }


def _among(keys: Sequence[NoticeKey]) -> ColumnElement[bool]:
    return tuple_(*_key_columns).in_([astuple(key) for key in keys])


def _open() -> ColumnElement[bool]:
    return _notices.c.state == NoticeState.CLAIMED.value


def _refused() -> ColumnElement[bool]:
    return _notices.c.state == NoticeState.REFUSED.value


def _of(account: str) -> ColumnElement[bool]:
    return _notices.c.shop == account


def _live(now: datetime) -> ColumnElement[bool]:
    """Whether a notice's run has been heard of lately; not in a future that was set back."""
    lately = _runs.c.heard_of_at.between(now - _HEARD_OF_WITHIN, now + _CLOCKS_DIFFER)
    return select(_runs.c.run).where(_runs.c.run == _notices.c.run, lately).exists()


def _broken_off(now: datetime, age: timedelta) -> ColumnElement[bool]:
    """Whether a claim is old enough, and its run not at work any more."""
    claimed = _notices.c.claimed_at
    return or_(claimed <= now - age, claimed > now + _CLOCKS_DIFFER) & ~_live(now)


def _notice(row: Any) -> Notice:
    return Notice(
        key=NoticeKey(row.shop, row.order_id, row.fulfillment_id, row.reason),
        state=NoticeState(row.state),
        run=row.run,
        claimed_at=aware(row.claimed_at),
        settled_at=aware(row.settled_at) if row.settled_at else None,
    )
