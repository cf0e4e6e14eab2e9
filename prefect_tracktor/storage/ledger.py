"""The notification ledger: which customer got which message, so that none is sent twice.

A notice is claimed before its message goes out and settled after. The claim is a row with a unique
key in a database, the one means that held when two processes raced for the same keys.
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
from prefect_tracktor.storage.database import (
    DatabaseBlock,
    UTCTime,
    by_statement,
    insert_into,
    now_in,
    storable_id,
)
from prefect_tracktor.storage.ledger_memory import LedgerMemory, LedgerStanding
from prefect_tracktor.validation import checked_id

_STILL_AT_WORK = timedelta(hours=1)
# a run that has not been heard of for so long has ended; a slow one is only called so too early
_HEARD_OF_WITHIN = timedelta(seconds=15)
_HEARTBEAT_SECONDS = 3
# a claim from further ahead was made before the clock was set back
_CLOCKS_DIFFER = timedelta(minutes=1)

_SHOP_AT_MOST = 64
_REASON_AT_MOST = 200
_NOTICES_A_PAGE = 1000
_NOTICES_A_DELETE = 10_000
_DAYS_AT_MOST = 36_500

_notices = Table(
    "tracktor_notifications",
    MetaData(),
    Column("shop", String(_SHOP_AT_MOST), primary_key=True),
    Column("order_id", BigInteger, primary_key=True, autoincrement=False),
    Column("fulfillment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", String(_REASON_AT_MOST), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("run", String(100), nullable=False),
    Column("claimed_at", UTCTime, nullable=False),
    Column("settled_at", UTCTime),
)
_key_columns = (_notices.c.shop, _notices.c.order_id, _notices.c.fulfillment_id, _notices.c.reason)
_newest_first = (_notices.c.claimed_at, *_key_columns)
Index("tracktor_notifications_by_time", *_newest_first)
# what the team's digests and the events have told of: no customer got it
_reported = _notices.c.reason.startswith("digest:")
# the one row that tells a ledger from any other
_identity = Table(
    "tracktor_ledger",
    MetaData(),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("id", String(32), nullable=False),
    Column("made_at", UTCTime, nullable=False),
)
_runs = Table(
    "tracktor_runs_at_work",
    MetaData(),
    Column("run", String(100), primary_key=True),
    Column("heard_of_at", UTCTime, nullable=False),
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
# how many sent notices of an account were forgotten on purpose: they do not count as lost
_forgotten = Table(
    "tracktor_notices_forgotten",
    MetaData(),
    Column("shop", String(_SHOP_AT_MOST), primary_key=True),
    Column("sent", Integer, nullable=False),
)


# the fulfillment of what is told of an order as a whole
WHOLE_ORDER = 0


@dataclass(frozen=True, order=True, slots=True)
class NoticeKey:
    """The key of a notice: it is sent at most once."""

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
    """The state of a notice.

    A service may have an unconfirmed one, and will recognize it when it is posted again.
    """

    CLAIMED = "claimed"
    UNCONFIRMED = "unconfirmed"
    SENT = "sent"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice in the ledger: to which order's customer, when, by which run. No names."""

    key: NoticeKey
    state: NoticeState
    run: str
    claimed_at: datetime
    settled_at: datetime | None


class NotificationLedger(DatabaseBlock):
    """Records which customer got which message, so that none is sent twice.

    All methods raise a `LedgerError` if the database cannot be used; then nothing was changed.

    Attributes:
        messages_a_day: How many messages one address gets in a day (UTC) at most, from all flows
            that use the ledger; further ones are deferred.

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
    _documentation_url = handbook("how-to/the-ledger.md")

    tables: ClassVar[tuple[Table, ...]] = (_notices, _identity, _runs, _today, _forgotten)
    error_type = LedgerError
    without_it = " Without it nothing is sent."

    messages_a_day: int = Field(default=3, ge=1, le=1000, title="Messages a day to one address")

    def standing(self, account: str) -> LedgerStanding:
        """Which ledger this is, and how many sent notices it has of an account."""
        counted = (_of(account), _is(NoticeState.SENT), ~_reported)
        sent = select(func.count()).where(*counted)
        forgotten = select(_forgotten.c.sent).where(_forgotten.c.shop == account)
        with self.transaction() as database:
            new = {"row": 1, "id": uuid4().hex, "made_at": now_in(database)}
            database.execute(insert_into(_identity, database).values(new).on_conflict_do_nothing())
            identity = database.execute(select(_identity.c.id)).scalar_one()
            count = (database.scalar(sent) or 0) + (database.scalar(forgotten) or 0)
        return LedgerStanding(identity, self.place, account, count)

    def accept(self, account: str) -> None:
        """Accept this ledger for an account, by its name, that used another one before.

        Customers who are still affected and not in this ledger get an email again.

        Raises:
            TracktorError: Prefect's API does not answer.
        """
        standing = self.standing(account)
        for purpose in ("", "events"):
            LedgerMemory.of(account, purpose=purpose).accept(standing)

    def take_over(self, old_account: str, account: str) -> int:
        """Carry notices over to the same shop's new account, as its uuid has changed; how many."""
        known = _notices.alias()
        same = [known.c[column.name] == column for column in _key_columns[1:]]
        there = select(known.c.shop).where(known.c.shop == account, *same).exists()
        with self.transaction() as database:
            moved = update(_notices).where(_of(old_account), ~there).values(shop=account)
            return database.execute(moved).rowcount

    def known_elsewhere(self, keys: Iterable[NoticeKey]) -> dict[NoticeKey, str]:
        """Find notices sent in another account's name, by key: a parcel has one account."""
        found: dict[NoticeKey, str] = {}
        with self.transaction() as database:
            for some in by_statement(keys):
                wanted = {astuple(key)[1:]: key for key in some}
                same_parcel = tuple_(*_key_columns[1:]).in_(list(wanted))
                query = select(*_key_columns).where(same_parcel, _is(NoticeState.SENT))
                for shop, *same in database.execute(query):
                    key = wanted[tuple(same)]
                    found |= {key: shop} if shop != key.shop else {}
        return found

    def states(self, keys: Iterable[NoticeKey]) -> dict[NoticeKey, NoticeState]:
        """The states of those notices that the ledger knows."""
        found: dict[NoticeKey, NoticeState] = {}
        with self.transaction() as database:
            for some in by_statement(keys):
                rows = database.execute(select(*_key_columns, _notices.c.state).where(_among(some)))
                found |= {NoticeKey(*row[:4]): NoticeState(row.state) for row in rows}
        return found

    def count_since(self, shop: str, *, kind: str, within: timedelta) -> int:
        """Count the messages with reasons of a kind that were sent lately, or may have been."""
        with self.transaction() as database:
            messages = select(_notices.c.order_id, _notices.c.reason).where(
                _of(shop),
                ~_is(NoticeState.REFUSED),
                _notices.c.reason.startswith(f"{kind}:", autoescape=True),
                _notices.c.claimed_at > now_in(database) - within,
            )
            query = select(func.count()).select_from(messages.distinct().subquery())
            return database.scalar(query) or 0

    def claim(self, keys: Iterable[NoticeKey], *, run: str, again: bool = False) -> set[NoticeKey]:
        """Claim notices that are about to be sent, so that no other run sends them.

        Args:
            keys: What is about to be sent.
            run: A name for this run, so that a person finds it again.
            again: Whether they are unconfirmed, and posted again; else they must be new.

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
            for some in by_statement(sorted(set(keys))):
                rows = [_new_row(key, NoticeState.CLAIMED, run, now) for key in some]
                new = insert_into(_notices, database).values(rows).on_conflict_do_nothing()
                known = (
                    update(_notices)
                    .where(_among(some), _is(NoticeState.UNCONFIRMED))
                    .values(claimed)
                )
                rows_won = database.execute((known if again else new).returning(*_key_columns))
                won |= {NoticeKey(*row) for row in rows_won}
        return won

    def settle(self, keys: Iterable[NoticeKey], state: NoticeState, *, run: str) -> None:
        """Record for good that notices were sent, or refused, claimed before or not."""
        with self.transaction() as database:
            now = now_in(database)
            settled = {"state": state.value, "run": run, "settled_at": now}
            for some in by_statement(sorted(keys)):
                # what happened is written even if the claim was cleared meanwhile
                rows = [_new_row(key, state, run, now) for key in some]
                insert = insert_into(_notices, database).values(rows)
                database.execute(
                    insert.on_conflict_do_update(index_elements=_key_columns, set_=settled)
                )

    def release(self, keys: Iterable[NoticeKey], *, run: str, again: bool = False) -> None:
        """Drop this run's claims of what was surely not sent, so that a later run sends it.

        What a service may have, and recognizes when it is posted again, stays as unconfirmed.
        """
        stay = update(_notices).values(state=NoticeState.UNCONFIRMED.value)
        with self.transaction() as database:
            change = stay if again else delete(_notices)
            _change(database, change, keys, _is(NoticeState.CLAIMED), _notices.c.run == run)

    @contextmanager
    def at_work(self, run: str) -> Iterator[None]:
        """Show other runs and `forget` that a run is at work; enter before reading the ledger."""
        self._be_heard_of(run)
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(_HEARTBEAT_SECONDS):
                with suppress(LedgerError):  # the run itself will notice
                    self._be_heard_of(run)

        thread = threading.Thread(target=beat, name="tracktor-ledger-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(LedgerError), self.transaction() as database:
                database.execute(delete(_runs).where(_runs.c.run == run))

    def _be_heard_of(self, run: str) -> None:
        with self.transaction() as database:
            now = now_in(database)
            insert = insert_into(_runs, database).values(run=run, heard_of_at=now)
            heard_of = {"heard_of_at": now}
            database.execute(insert.on_conflict_do_update(index_elements=["run"], set_=heard_of))

    def in_progress(self, keys: Iterable[NoticeKey], *, run: str) -> set[NoticeKey]:
        """Return the open claims of other runs at work, which will complete them."""
        found: set[NoticeKey] = set()
        with self.transaction() as database:
            live = _live(now_in(database))
            for some in by_statement(keys):
                query = select(*_key_columns).where(
                    _among(some), _is(NoticeState.CLAIMED), live, _notices.c.run != run
                )
                found |= {NoticeKey(*row) for row in database.execute(query)}
        return found

    def admit(self, account: str, recipient: str) -> bool:
        """Count a message to an address (a keyed hash), unless it had as many as it may today."""
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
        """Take back what `admit` counted, as the message did not go out."""
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
        """The notices whose address the mail server refused for good, the oldest first."""
        query = select(_notices).where(_is(NoticeState.REFUSED)).order_by(_notices.c.settled_at)
        with self.transaction() as database:
            return _read(database, query)

    def clear_refused(self, keys: Iterable[NoticeKey]) -> int:
        """Forget refusals, so that the next run tries these customers again; how many they were."""
        with self.transaction() as database:
            return _change(database, delete(_notices), keys, _is(NoticeState.REFUSED))

    def refused_in_a_row(self, shop: str, rules: Iterable[str]) -> int | None:
        """How many orders' notices were refused since one was sent; `None` if none ever was."""
        reason = _notices.c.reason
        of_rules = or_(
            *(
                (reason == rule) | reason.startswith(f"{rule}{mark}", autoescape=True)
                for rule in rules
                for mark in ":#"
            )
        )
        sent = select(func.max(_notices.c.settled_at)).where(
            _of(shop), of_rules, _is(NoticeState.SENT)
        )
        refused = select(func.count(_notices.c.order_id.distinct())).where(
            _of(shop), of_rules, _is(NoticeState.REFUSED)
        )
        with self.transaction() as database:
            last = database.scalar(sent)
            if last is None:
                return None
            return database.scalar(refused.where(_notices.c.settled_at > last)) or 0

    def told(self, order_ids: Iterable[int]) -> list[Notice]:
        """List the notices of orders, when and by which run they were sent, oldest first.

        Open claims and refusals are among the notices, and those of all accounts.

        Args:
            order_ids: Shopify's ids of the orders.

        Raises:
            InvalidInput: An id is not an id, such as an order's name.

        Example:
            >>> ledger.settle([NoticeKey("shop", 12, 7, "a")], NoticeState.SENT, run="first")
            >>> [(notice.key.reason, notice.run) for notice in ledger.told([12, 13])]
            [('a', 'first')]
        """
        found: list[Notice] = []
        with self.transaction() as database:
            for some in by_statement(_checked(order_ids)):
                found += _read(database, select(_notices).where(_notices.c.order_id.in_(some)))
        return sorted(found, key=lambda notice: (notice.claimed_at, notice.key))

    def history(self, *, account: str | None = None) -> Iterator[Notice]:
        """Go through all notices, or an account's, the newest first, a page of them in memory."""
        query = select(_notices).order_by(*(column.desc() for column in _newest_first))
        if account is not None:
            query = query.where(_of(account))
        page = query.limit(_NOTICES_A_PAGE)
        while True:
            # a transaction for each page: SQLite lets nobody else write meanwhile
            with self.transaction() as database:
                notices = _read(database, page)
            yield from notices
            if len(notices) < _NOTICES_A_PAGE:
                return
            last = (notices[-1].claimed_at, *astuple(notices[-1].key))
            before = [literal(v, c.type) for v, c in zip(last, _newest_first, strict=True)]
            page = query.where(tuple_(*_newest_first) < tuple_(*before)).limit(_NOTICES_A_PAGE)

    def forget(self, order_ids: Iterable[int]) -> int:
        """Delete the notices of some orders, say when a customer asks for it; how many they were.

        A deleted notice can be sent again: a later run sends it if the order still has the
        condition. So first make sure that no source finds the order any more, or that it is
        delivered. Open claims stay; confirm or clear them first.

        Args:
            order_ids: Shopify's ids of the orders, of any account that uses the ledger.

        Raises:
            InvalidInput: An id is not an id, such as an order's name; nothing was deleted.
            LedgerInUse: A run is at work, which may have looked before; nothing was deleted.

        Example:
            >>> ledger.settle([NoticeKey("shop", 15, 7, "a")], NoticeState.SENT, run="first")
            >>> ledger.forget([15]), ledger.told([15])
            (1, [])
        """
        ids = list(_checked(order_ids))
        with self._while_none_is_at_work() as database:
            return sum(
                _forget(database, _notices.c.order_id.in_(some)) for some in by_statement(ids)
            )

    def forget_older_than(self, days: int) -> int:
        """Delete the notices that were completed long ago; how many they were.

        As with `forget`, a customer is notified again if an order that old is still read and still
        has the condition: an expired tracking stays expired. So give more days than your sources
        look back; `ShopifyOrders` looks back 45 days unless told otherwise.

        Args:
            days: How old a notice is at least, in days of 24 hours; 1 or more.

        Raises:
            InvalidInput: `days` is less than 1, or not a whole number; nothing was deleted.
            LedgerInUse: A run is at work, which may have looked before; nothing was deleted.
        """
        age = timedelta(days=min(checked_id(days, field="days"), _DAYS_AT_MOST))
        with self._while_none_is_at_work() as database:
            return _forget(database, _notices.c.settled_at <= now_in(database) - age)

    @contextmanager
    def _while_none_is_at_work(self) -> Iterator[Connection]:
        """A transaction during which no run starts; refused while one is at work."""
        with self.transaction() as database:
            if database.dialect.name == "postgresql":  # SQLite has one writer at a time
                database.execute(text(f"LOCK TABLE {_runs.name} IN SHARE MODE"))
            live = select(_runs.c.run).where(_heard_of_lately(now_in(database))).limit(1)
            if run := database.scalar(live):
                raise LedgerInUse(
                    f"the run {run} is at work with this ledger, and might send again what is"
                    " forgotten meanwhile: wait until it has ended, or cancel it, and try again"
                )
            yield database

    def uncertain(self, *, older_than: timedelta = _STILL_AT_WORK) -> list[Notice]:
        """List the claims for which it is unknown whether the message was sent, the oldest first.

        A claim that is younger than `older_than` may be one that a run is working on.
        """
        with self.transaction() as database:
            broken_off = _broken_off(now_in(database), older_than)
            query = (
                select(_notices)
                .where(_is(NoticeState.CLAIMED), broken_off)
                .order_by(_notices.c.claimed_at)
            )
            return _read(database, query)

    def clear_uncertain(
        self, keys: Iterable[NoticeKey], *, older_than: timedelta = _STILL_AT_WORK
    ) -> int:
        """Forget open claims, so that the next run writes to these customers; how many they were.

        Args:
            keys: Which; usually of `uncertain()`.
            older_than: A younger claim may be one that a run is working on, and stays.

        Example:
            >>> key = NoticeKey("shop", 5, 7, "exception:expired")
            >>> _ = ledger.claim([key], run="killed")
            >>> ledger.clear_uncertain([key], older_than=timedelta(0))
            1
        """
        return self._change_uncertain(delete(_notices), keys, older_than)

    def confirm_uncertain(
        self, keys: Iterable[NoticeKey], *, older_than: timedelta = _STILL_AT_WORK
    ) -> int:
        """Record that the messages of open claims did arrive, as a person found out; how many."""
        # the customer was told when it was claimed: reminders count from then
        told = {"state": NoticeState.SENT.value, "settled_at": _notices.c.claimed_at}
        sent = update(_notices).values(told)
        return self._change_uncertain(sent, keys, older_than)

    def _change_uncertain(
        self, change: Delete | Update, keys: Iterable[NoticeKey], older_than: timedelta
    ) -> int:
        with self.transaction() as database:
            broken_off = _broken_off(now_in(database), older_than)
            return _change(database, change, keys, _is(NoticeState.CLAIMED), broken_off)


def _new_row(key: NoticeKey, state: NoticeState, run: str, now: datetime) -> dict[str, Any]:
    settled_at = None if state is NoticeState.CLAIMED else now
    times = {"claimed_at": now, "settled_at": settled_at}
    return asdict(key) | {"state": state.value, "run": run} | times


def _among(keys: Sequence[NoticeKey]) -> ColumnElement[bool]:
    return tuple_(*_key_columns).in_([astuple(key) for key in keys])


def _change(
    database: Connection,
    change: Delete | Update,
    keys: Iterable[NoticeKey],
    *conditions: ColumnElement[bool],
) -> int:
    changed = (
        database.execute(change.where(_among(some), *conditions))
        for some in by_statement(sorted(keys))
    )
    return sum(result.rowcount for result in changed)


def _is(state: NoticeState) -> ColumnElement[bool]:
    return _notices.c.state == state.value


def _of(account: str) -> ColumnElement[bool]:
    return _notices.c.shop == account


def _checked(order_ids: Iterable[int]) -> Iterator[int]:
    return (checked_id(entry, field=f"order_ids[{n}]") for n, entry in enumerate(order_ids))


def _forget(database: Connection, which: ColumnElement[bool]) -> int:
    """Delete completed notices, and count the sent ones, which `standing` still knows of."""
    some = select(*_key_columns).where(which, ~_is(NoticeState.CLAIMED)).limit(_NOTICES_A_DELETE)
    deletion = delete(_notices).where(tuple_(*_key_columns).in_(some))
    total = 0
    counted = (~_reported).label("counted")
    found = (_notices.c.shop, _notices.c.state, counted)
    while rows := database.execute(deletion.returning(*found)).all():
        total += len(rows)
        is_sent = NoticeState.SENT.value
        sent = Counter(row.shop for row in rows if row.state == is_sent and row.counted)
        for shop, count in sent.items():
            insert = insert_into(_forgotten, database).values(shop=shop, sent=count)
            more = {"sent": _forgotten.c.sent + count}
            database.execute(insert.on_conflict_do_update(index_elements=["shop"], set_=more))
    return total


def _heard_of_lately(now: datetime) -> ColumnElement[bool]:
    """Whether a run is at work; one from a future that was set back is not."""
    return _runs.c.heard_of_at.between(now - _HEARD_OF_WITHIN, now + _CLOCKS_DIFFER)


def _live(now: datetime) -> ColumnElement[bool]:
    """Whether a notice's run is at work."""
    same_run = _runs.c.run == _notices.c.run
    return select(_runs.c.run).where(same_run, _heard_of_lately(now)).exists()


def _broken_off(now: datetime, age: timedelta) -> ColumnElement[bool]:
    """Whether a claim is old enough, and its run not at work any more."""
    claimed = _notices.c.claimed_at
    return or_(claimed <= now - age, claimed > now + _CLOCKS_DIFFER) & ~_live(now)


def _read(database: Connection, query: Select[Any]) -> list[Notice]:
    return [
        Notice(NoticeKey(*row[:4]), NoticeState(row.state), *row[5:])
        for row in database.execute(query)
    ]
