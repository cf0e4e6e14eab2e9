"""Notification ledger: a record of which customer got which message, so that none is sent twice.

A notice is claimed before its message goes out, and completed or released after it. The claim is a
row with a unique key in a database: two processes cannot both insert it.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar
from uuid import uuid4

from pydantic import Field
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Date,
    Delete,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Update,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)

from prefect_tracktor.block import handbook, logo
from prefect_tracktor.errors import InvalidInput, LedgerError, LedgerInUse
from prefect_tracktor.parsing import LARGEST_ID
from prefect_tracktor.storage.database import (
    DatabaseBlock,
    UTCTime,
    by_statement,
    insert_into,
    now_in,
)
from prefect_tracktor.storage.ledger_memory import LedgerMemory, LedgerStanding
from prefect_tracktor.validation import checked_id, checked_ids

_ONE_HOUR = timedelta(hours=1)
_HEARTBEAT_SECONDS = 3
# a run without a heartbeat for this long has ended; a slow one is only reported as ended too early
_HEARTBEAT_TIMEOUT = timedelta(seconds=15)
# a time further ahead than this was written before the clock was set back
_CLOCK_SKEW = timedelta(minutes=1)

_SHOP_LENGTH = 64
_REASON_LENGTH = 200
_PAGE_SIZE = 1000
_DELETE_BATCH_SIZE = 10_000
_MAX_DAYS = 36_500

_notices = Table(
    "tracktor_notifications",
    MetaData(),
    Column("shop", String(_SHOP_LENGTH), primary_key=True),
    Column("order_id", BigInteger, primary_key=True, autoincrement=False),
    Column("fulfillment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", String(_REASON_LENGTH), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("run", String(100), nullable=False),
    Column("claimed_at", UTCTime, nullable=False),
    Column("completed_at", UTCTime),
)
_key_columns = (_notices.c.shop, _notices.c.order_id, _notices.c.fulfillment_id, _notices.c.reason)
_newest_first = (_notices.c.claimed_at, *_key_columns)
Index("tracktor_notifications_by_time", *_newest_first)
# notices of the team's digests and of events: none of them went to a customer
_is_digest = _notices.c.reason.startswith("digest:")
# a single row: the identity of this ledger
_identity = Table(
    "tracktor_ledger",
    MetaData(),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("id", String(32), nullable=False),
)
_runs = Table(
    "tracktor_runs_at_work",
    MetaData(),
    Column("run", String(100), primary_key=True),
    Column("heartbeat_at", UTCTime, nullable=False),
)
# kept for a day or two: the number of messages to an address, which is stored as a keyed hash
_today = Table(
    "tracktor_messages_today",
    MetaData(),
    Column("shop", String(_SHOP_LENGTH), primary_key=True),
    Column("recipient", String(64), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("messages", Integer, nullable=False),
)
# the number of an account's sent notices that were forgotten on purpose: they do not count as lost
_forgotten = Table(
    "tracktor_notices_forgotten",
    MetaData(),
    Column("shop", String(_SHOP_LENGTH), primary_key=True),
    Column("sent", Integer, nullable=False),
)


# the fulfillment id of a notice about the order as a whole
WHOLE_ORDER = 0


@dataclass(frozen=True, order=True, slots=True)
class NoticeKey:
    """The key of a notice, which is sent at most once."""

    shop: str
    order_id: int
    fulfillment_id: int
    reason: str

    def __post_init__(self) -> None:
        for field in ("order_id", "fulfillment_id"):
            if abs(getattr(self, field)) > LARGEST_ID:
                raise InvalidInput(f"{field} has more than 64 bits, which no id of Shopify's has")
        for field, length in (("shop", _SHOP_LENGTH), ("reason", _REASON_LENGTH)):
            _check_text(getattr(self, field), field=field, length=length)


def _check_text(value: str, *, field: str, length: int) -> None:
    if len(value) > length:
        raise InvalidInput(
            f"{field} has {len(value)} characters, and the ledger holds {length}: is a status or"
            " an exception of the order that long?"
        )
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidInput(f"{field} has characters that no database holds (NUL, half a pair)")


class NoticeState(StrEnum):
    """The state of a notice.

    A service may have an unconfirmed one, and will recognize it when it is posted again.
    """

    CLAIMED = "claimed"
    UNCONFIRMED = "unconfirmed"
    SENT = "sent"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice in the ledger: its order and parcel, times and run; no name and no address."""

    key: NoticeKey
    state: NoticeState
    run: str
    claimed_at: datetime
    completed_at: datetime | None


class NotificationLedger(DatabaseBlock):
    """Records which customer got which message, so that none is sent twice.

    All methods raise a `LedgerError` if the database cannot be used; then nothing was changed.

    Attributes:
        messages_a_day: How many messages one address gets in a day (UTC) at most, from all flows
            that use the ledger; further ones are deferred.

    Raises:
        pydantic.ValidationError: The URL is invalid, or its database is not supported; the message
            does not repeat it.

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
    _documentation_url = handbook("how-to/the-ledger.md")

    tables: ClassVar[tuple[Table, ...]] = (_notices, _identity, _runs, _today, _forgotten)
    error_type = LedgerError
    consequence = " Without it nothing is sent."

    messages_a_day: int = Field(default=3, ge=1, le=1000, title="Messages a day to one address")

    def standing(self, account: str) -> LedgerStanding:
        """Return the ledger's identity, and how many sent notices it holds for an account."""
        sent = select(func.count()).where(_of(account), _is(NoticeState.SENT), ~_is_digest)
        forgotten = select(_forgotten.c.sent).where(_forgotten.c.shop == account)
        with self.transaction() as database:
            new = {"row": 1, "id": uuid4().hex}
            database.execute(insert_into(_identity, database).values(new).on_conflict_do_nothing())
            identity = database.execute(select(_identity.c.id)).scalar_one()
            count = (database.scalar(sent) or 0) + (database.scalar(forgotten) or 0)
        return LedgerStanding(identity, self.place, count)

    def accept(self, account: str) -> None:
        """Accept this ledger for an account, by its name, that used another one before.

        Customers who are still affected and not in this ledger get an email again.

        Raises:
            TracktorError: Prefect's API does not respond.
        """
        standing = self.standing(account)
        for purpose in ("", "events"):
            LedgerMemory.of(account, purpose=purpose).accept(standing)

    def take_over(self, old_account: str, account: str) -> int:
        """Move a shop's notices to its new account after its uuid has changed; return how many."""
        existing = _notices.alias()
        same = [existing.c[column.name] == column for column in _key_columns[1:]]
        there = select(existing.c.shop).where(existing.c.shop == account, *same).exists()
        with self.transaction() as database:
            moved = update(_notices).where(_of(old_account), ~there).values(shop=account)
            return database.execute(moved).rowcount

    def known_elsewhere(self, keys: Iterable[NoticeKey]) -> dict[NoticeKey, str]:
        """Return the notices that were sent under another account, with that account's name."""
        found: dict[NoticeKey, str] = {}
        with self.transaction() as database:
            for batch in by_statement(keys):
                wanted = {astuple(key)[1:]: key for key in batch}
                same_parcel = tuple_(*_key_columns[1:]).in_(list(wanted))
                query = select(*_key_columns).where(same_parcel, _is(NoticeState.SENT))
                for shop, *parcel in database.execute(query):
                    key = wanted[tuple(parcel)]
                    found |= {key: shop} if shop != key.shop else {}
        return found

    def states(self, keys: Iterable[NoticeKey]) -> dict[NoticeKey, NoticeState]:
        """Return the state of each notice that the ledger holds."""
        with self.transaction() as database:
            return {notice.key: notice.state for notice in _find(database, keys)}

    def count_since(self, shop: str, *, kind: str, within: timedelta) -> int:
        """Count recent messages with reasons of a kind that were sent, or may have been."""
        with self.transaction() as database:
            messages = select(_notices.c.order_id, _notices.c.reason).where(
                _of(shop),
                ~_is(NoticeState.REFUSED),
                _notices.c.reason.startswith(f"{kind}:", autoescape=True),
                _notices.c.claimed_at > now_in(database) - within,
            )
            query = select(func.count()).select_from(messages.distinct().subquery())
            return database.scalar(query) or 0

    def claim(
        self, keys: Iterable[NoticeKey], *, run: str, unconfirmed: bool = False
    ) -> set[NoticeKey]:
        """Claim notices that are about to be sent, so that no other run sends them.

        Args:
            keys: The notices to send.
            run: A name for this run by which a person finds it again.
            unconfirmed: Whether they are unconfirmed and are sent again; else they must be new.

        Returns:
            The keys that this run has claimed; the others were claimed or completed before.

        Example:
            >>> key = NoticeKey("shop", 1, 7, "exception:expired")
            >>> ledger.claim([key], run="first") == {key}, ledger.claim([key], run="second")
            (True, set())
        """
        won: set[NoticeKey] = set()
        with self.transaction() as database:
            now = now_in(database)  # those that are claimed together are found together
            claimed = {"state": NoticeState.CLAIMED.value, "run": run, "claimed_at": now}
            # always in the same order: two runs that want the same keys cannot wait for each other
            for batch in by_statement(sorted(set(keys))):
                rows = [_new_row(key, NoticeState.CLAIMED, run, now) for key in batch]
                new = insert_into(_notices, database).values(rows).on_conflict_do_nothing()
                known = (
                    update(_notices)
                    .where(_among(batch), _is(NoticeState.UNCONFIRMED))
                    .values(claimed)
                )
                rows_won = database.execute(
                    (known if unconfirmed else new).returning(*_key_columns)
                )
                won |= {NoticeKey(*row) for row in rows_won}
        return won

    def complete(self, keys: Iterable[NoticeKey], state: NoticeState, *, run: str) -> None:
        """Record for good that notices were sent or refused, claimed before or not."""
        with self.transaction() as database:
            now = now_in(database)
            completed = {"state": state.value, "run": run, "completed_at": now}
            for batch in by_statement(sorted(set(keys))):
                # an upsert: a claim that was cleared meanwhile must not lose a sent message
                rows = [_new_row(key, state, run, now) for key in batch]
                insert = insert_into(_notices, database).values(rows)
                database.execute(
                    insert.on_conflict_do_update(index_elements=_key_columns, set_=completed)
                )

    def release(self, keys: Iterable[NoticeKey], *, run: str, unconfirmed: bool = False) -> None:
        """Drop this run's claims on notices that were not sent, so that a later run sends them.

        With `unconfirmed` they become so: a service may have them, and recognizes a repetition.
        """
        stay = update(_notices).values(state=NoticeState.UNCONFIRMED.value)
        with self.transaction() as database:
            change = stay if unconfirmed else delete(_notices)
            _change(database, change, keys, _is(NoticeState.CLAIMED), _notices.c.run == run)

    @contextmanager
    def at_work(self, run: str) -> Iterator[None]:
        """Show other runs and `forget` that a run is at work; enter before reading the ledger."""
        self._beat(run)
        ended = threading.Event()

        def beat_until_the_end() -> None:
            while not ended.wait(_HEARTBEAT_SECONDS):
                with suppress(LedgerError):  # the run itself meets the error too
                    self._beat(run)

        thread = threading.Thread(
            target=beat_until_the_end, name="tracktor-ledger-heartbeat", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(LedgerError), self.transaction() as database:
                database.execute(delete(_runs).where(_runs.c.run == run))

    def _beat(self, run: str) -> None:
        with self.transaction() as database:
            now = {"heartbeat_at": now_in(database)}
            insert = insert_into(_runs, database).values(run=run, **now)
            database.execute(insert.on_conflict_do_update(index_elements=["run"], set_=now))

    def in_progress(self, keys: Iterable[NoticeKey], *, run: str) -> set[NoticeKey]:
        """Return the claims of other runs at work, which will complete them."""
        with self.transaction() as database:
            live = _run_is_live(now_in(database))
            claimed = (_is(NoticeState.CLAIMED), live, _notices.c.run != run)
            return {notice.key for notice in _find(database, keys, *claimed)}

    def admit(self, account: str, recipient: str) -> bool:
        """Count a message to an address (a keyed hash), unless the day's limit is reached."""
        with self.transaction() as database:
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
        """Undo what `admit` counted for a message that was not sent."""
        with self.transaction() as database:
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
        """List the notices whose address the mail server refused for good, the oldest first."""
        query = select(_notices).where(_is(NoticeState.REFUSED)).order_by(_notices.c.completed_at)
        with self.transaction() as database:
            return _read(database, query)

    def clear_refused(self, keys: Iterable[NoticeKey]) -> int:
        """Forget refusals, so that the next run tries these customers again; return how many."""
        with self.transaction() as database:
            return _change(database, delete(_notices), keys, _is(NoticeState.REFUSED))

    def refused_in_a_row(self, shop: str, rules: Iterable[str]) -> int | None:
        """Count the orders that were refused since one was sent; `None` if none was ever sent."""
        reason = _notices.c.reason
        of_rules = or_(
            *(
                (reason == rule) | reason.startswith(f"{rule}{mark}", autoescape=True)
                for rule in rules
                for mark in ":#"
            )
        )
        sent = select(func.max(_notices.c.completed_at)).where(
            _of(shop), of_rules, _is(NoticeState.SENT)
        )
        refused = select(func.count(_notices.c.order_id.distinct())).where(
            _of(shop), of_rules, _is(NoticeState.REFUSED)
        )
        with self.transaction() as database:
            last = database.scalar(sent)
            if last is None:
                return None
            return database.scalar(refused.where(_notices.c.completed_at > last)) or 0

    def told(self, order_ids: Iterable[int]) -> list[Notice]:
        """List the notices of orders, when and by which run they were sent, oldest first.

        This includes open claims and refusals, and the notices of all accounts.

        Args:
            order_ids: Shopify's ids of the orders.

        Raises:
            InvalidInput: An id is invalid, such as an order's name.
        """
        found: list[Notice] = []
        with self.transaction() as database:
            for batch in by_statement(checked_ids(order_ids, field="order_ids")):
                found += _read(database, select(_notices).where(_notices.c.order_id.in_(batch)))
        return sorted(found, key=lambda notice: (notice.claimed_at, notice.key))

    def history(self, *, account: str | None = None) -> Iterator[Notice]:
        """Yield all notices, or an account's, the newest first, with one page of them in memory."""
        query = select(_notices).order_by(*(column.desc() for column in _newest_first))
        if account is not None:
            query = query.where(_of(account))
        page = query.limit(_PAGE_SIZE)
        while True:
            # a transaction for each page: during one, SQLite lets no other program write
            with self.transaction() as database:
                notices = _read(database, page)
            yield from notices
            if len(notices) < _PAGE_SIZE:
                return
            last = (notices[-1].claimed_at, *astuple(notices[-1].key))
            before = [literal(v, c.type) for v, c in zip(last, _newest_first, strict=True)]
            page = query.where(tuple_(*_newest_first) < tuple_(*before)).limit(_PAGE_SIZE)

    def forget(self, order_ids: Iterable[int]) -> int:
        """Delete the notices of orders, say when a customer asks for it; return how many.

        A deleted notice can be sent again: a later run sends it if the order still has the
        condition. So first make sure that no source finds the order any more, or that it is
        delivered. Open claims stay; confirm or clear them first.

        Args:
            order_ids: Shopify's ids of the orders, of any account that uses the ledger.

        Raises:
            InvalidInput: An id is invalid, such as an order's name; nothing was deleted.
            LedgerInUse: A run is at work that may have read the ledger before; nothing was deleted.
        """
        ids = checked_ids(order_ids, field="order_ids")
        with self._while_no_run_is_at_work() as database:
            return sum(
                _forget(database, _notices.c.order_id.in_(batch)) for batch in by_statement(ids)
            )

    def forget_older_than(self, days: int) -> int:
        """Delete the notices that were completed long ago; return how many.

        As with `forget`, a customer is notified again if an order that old is still read and still
        has the condition: an expired tracking stays expired. So give more days than your sources
        look back; `ShopifyOrders` looks back 45 days unless you set it otherwise.

        Args:
            days: The minimum age of a notice, in days of 24 hours; 1 or more.

        Raises:
            InvalidInput: `days` is less than 1, or not a whole number; nothing was deleted.
            LedgerInUse: A run is at work that may have read the ledger before; nothing was deleted.
        """
        with self._while_no_run_is_at_work() as database:
            return _forget(database, _is_older(database, days))

    def count_older_than(self, days: int) -> int:
        """Count the notices that `forget_older_than` would delete."""
        with self.transaction() as database:
            query = select(func.count()).where(_is_older(database, days), ~_is(NoticeState.CLAIMED))
            return database.scalar(query) or 0

    @contextmanager
    def _while_no_run_is_at_work(self) -> Iterator[Connection]:
        with self.transaction() as database:
            if database.dialect.name == "postgresql":  # SQLite has one writer at a time
                database.execute(text(f"LOCK TABLE {_runs.name} IN SHARE MODE"))
            live = select(_runs.c.run).where(_is_live(now_in(database))).limit(1)
            if run := database.scalar(live):
                raise LedgerInUse(
                    f"the run {run} is at work with this ledger, and might send again what is"
                    " forgotten meanwhile: wait until it has ended, or cancel it, and try again"
                )
            yield database

    def uncertain(self, *, older_than: timedelta = _ONE_HOUR) -> list[Notice]:
        """List the claims for which it is unknown whether the message was sent, the oldest first.

        A claim that is younger than `older_than` may be one that a run is working on.
        """
        with self.transaction() as database:
            open_claims = select(_notices).where(_is_uncertain(now_in(database), older_than))
            return _read(database, open_claims.order_by(_notices.c.claimed_at))

    def clear_uncertain(
        self, keys: Iterable[NoticeKey], *, older_than: timedelta = _ONE_HOUR
    ) -> int:
        """Forget open claims, so that the next run writes to these customers; return how many.

        Args:
            keys: The claims; usually from `uncertain()`.
            older_than: A younger claim may be one that a run is working on, and stays.
        """
        with self.transaction() as database:
            uncertain = _is_uncertain(now_in(database), older_than)
            return _change(database, delete(_notices), keys, uncertain)

    def confirm_uncertain(
        self, keys: Iterable[NoticeKey], *, older_than: timedelta = _ONE_HOUR
    ) -> int:
        """Record that the messages of open claims arrived, as a person found out; return how many.

        They count as sent at the time of the claim, so reminders count from then.
        """
        sent = {"state": NoticeState.SENT.value, "completed_at": _notices.c.claimed_at}
        with self.transaction() as database:
            uncertain = _is_uncertain(now_in(database), older_than)
            return _change(database, update(_notices).values(sent), keys, uncertain)


def _new_row(key: NoticeKey, state: NoticeState, run: str, now: datetime) -> dict[str, Any]:
    completed_at = None if state is NoticeState.CLAIMED else now
    times = {"claimed_at": now, "completed_at": completed_at}
    return asdict(key) | {"state": state.value, "run": run} | times


def _among(keys: Sequence[NoticeKey]) -> ColumnElement[bool]:
    return tuple_(*_key_columns).in_([astuple(key) for key in keys])


def _find(
    database: Connection, keys: Iterable[NoticeKey], *conditions: ColumnElement[bool]
) -> Iterator[Notice]:
    for batch in by_statement(keys):
        yield from _read(database, select(_notices).where(_among(batch), *conditions))


def _change(
    database: Connection,
    change: Delete | Update,
    keys: Iterable[NoticeKey],
    *conditions: ColumnElement[bool],
) -> int:
    changed = (
        database.execute(change.where(_among(batch), *conditions))
        for batch in by_statement(sorted(keys))
    )
    return sum(result.rowcount for result in changed)


def _is(state: NoticeState) -> ColumnElement[bool]:
    return _notices.c.state == state.value


def _of(account: str) -> ColumnElement[bool]:
    return _notices.c.shop == account


def _forget(database: Connection, condition: ColumnElement[bool]) -> int:
    """Delete completed notices, and keep count of the sent ones for `standing`."""
    batch = (
        select(*_key_columns).where(condition, ~_is(NoticeState.CLAIMED)).limit(_DELETE_BATCH_SIZE)
    )
    deletion = delete(_notices).where(tuple_(*_key_columns).in_(batch))
    counts = (_is(NoticeState.SENT) & ~_is_digest).label("counts")
    total = 0
    while rows := database.execute(deletion.returning(_notices.c.shop, counts)).all():
        total += len(rows)
        for shop, count in Counter(row.shop for row in rows if row.counts).items():
            insert = insert_into(_forgotten, database).values(shop=shop, sent=count)
            more = {"sent": _forgotten.c.sent + count}
            database.execute(insert.on_conflict_do_update(index_elements=["shop"], set_=more))
    return total


def _is_older(database: Connection, days: int) -> ColumnElement[bool]:
    age = timedelta(days=min(checked_id(days, field="days"), _MAX_DAYS))
    return _notices.c.completed_at <= now_in(database) - age


def _is_live(now: datetime) -> ColumnElement[bool]:
    """Whether a run had a heartbeat lately."""
    return _runs.c.heartbeat_at.between(now - _HEARTBEAT_TIMEOUT, now + _CLOCK_SKEW)


def _run_is_live(now: datetime) -> ColumnElement[bool]:
    """Whether the run of a notice is at work."""
    return select(_runs.c.run).where(_runs.c.run == _notices.c.run, _is_live(now)).exists()


def _is_uncertain(now: datetime, age: timedelta) -> ColumnElement[bool]:
    """Whether a notice is a claim that is old enough, and whose run is not at work any more."""
    claimed_at = _notices.c.claimed_at
    is_old = or_(claimed_at <= now - age, claimed_at > now + _CLOCK_SKEW)
    return _is(NoticeState.CLAIMED) & is_old & ~_run_is_live(now)


def _read(database: Connection, query: Select[Any]) -> list[Notice]:
    return [
        Notice(NoticeKey(*row[:4]), NoticeState(row.state), *row[5:])
        for row in database.execute(query)
    ]
