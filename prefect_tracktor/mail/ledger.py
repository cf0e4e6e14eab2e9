"""Who was told what: the ledger that keeps two runs from writing to a customer twice.

A notice is claimed before its message goes out and settled after. The claim is a row with a unique
key in a database, which is the one means that held when two processes raced for the same keys:
SQLite on one machine, PostgreSQL where several share it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import HttpUrl
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Delete,
    MetaData,
    String,
    Table,
    Update,
    delete,
    func,
    select,
    tuple_,
    update,
)

from prefect_tracktor.database import DatabaseBlock, DatabaseError, by_statement, insert_into
from prefect_tracktor.logos import logo

_STILL_AT_WORK = timedelta(hours=1)

_notices = Table(
    "tracktor_notifications",
    MetaData(),
    Column("shop", String(64), primary_key=True),
    Column("order_id", BigInteger, primary_key=True, autoincrement=False),
    Column("fulfillment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", String(200), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("run", String(100), nullable=False),
    Column("claimed_at", DateTime(timezone=True), nullable=False),
    Column("settled_at", DateTime(timezone=True)),
)
_key_columns = (
    _notices.c.shop,
    _notices.c.order_id,
    _notices.c.fulfillment_id,
    _notices.c.reason,
)


class LedgerError(DatabaseError):
    """The ledger's database cannot be used. Without it nothing is sent.

    Example:
        >>> issubclass(LedgerError, DatabaseError)
        True
    """


@dataclass(frozen=True, order=True, slots=True)
class NoticeKey:
    """What a customer is told at most once.

    Attributes:
        shop: A name for the Tracktor account.
        order_id: The Shopify id of the order.
        fulfillment_id: The Shopify id of the parcel's fulfillment.
        reason: What the customer is told about it, such as `exception:expired`.

    Example:
        >>> NoticeKey("shop", 1001, 7, "exception:expired").reason
        'exception:expired'
    """

    shop: str
    order_id: int
    fulfillment_id: int
    reason: str


class NoticeState(StrEnum):
    """How far a notice has got.

    Example:
        >>> NoticeState("sent") is NoticeState.SENT
        True
    """

    CLAIMED = "claimed"
    SENT = "sent"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Notice:
    """A row of the ledger. It holds ids and times, no personal data.

    Attributes:
        key: What the customer was told, or was to be told.
        state: How far it got.
        run: The run that claimed it, usually a Prefect flow run's id.
        claimed_at: When it was claimed; aware.
        settled_at: When it was settled; aware, or `None` for an open claim.

    Example:
        >>> now = datetime(2026, 11, 24, tzinfo=UTC)
        >>> key = NoticeKey("shop", 1, 7, "exception:expired")
        >>> Notice(key, NoticeState.CLAIMED, "run", now, None).settled_at is None
        True
    """

    key: NoticeKey
    state: NoticeState
    run: str
    claimed_at: datetime
    settled_at: datetime | None


class NotificationLedger(DatabaseBlock):
    """Remembers which customer was told what, so that nobody is told twice.

    Attributes:
        url: Where the ledger is kept; empty for a SQLite file in the Prefect home.

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
    _description = "Remembers which customer was told what, so that nobody is told twice."
    _documentation_url = HttpUrl("https://www.theshoppad.com/apps/tracktor/api/docs")

    tables: ClassVar[tuple[Table, ...]] = (_notices,)

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
        """Count the messages that customers were sent lately, or may have been sent.

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
        messages = select(_notices.c.order_id, _notices.c.reason).where(
            _notices.c.shop == shop,
            _notices.c.reason.startswith(f"{kind}:", autoescape=True),
            _notices.c.state != NoticeState.REFUSED.value,
            _notices.c.claimed_at > datetime.now(UTC) - within,
        )
        query = select(func.count()).select_from(messages.distinct().subquery())
        with self._transaction() as database:
            return database.scalar(query) or 0

    def claim(self, keys: Iterable[NoticeKey], *, run: str) -> set[NoticeKey]:
        """Claim notices, so that no other run sends them.

        Args:
            keys: What is about to be sent.
            run: A name for this run, so that a person finds it again.

        Returns:
            The keys that are now this run's; the others were claimed or settled before.

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
                rows = [_new_row(key, NoticeState.CLAIMED, run) for key in some]
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
        settled = {"state": state.value, "run": run, "settled_at": datetime.now(UTC)}
        with self._transaction() as database:
            for some in by_statement(sorted(keys)):
                # what happened is written even if somebody cleared the claim in the meantime
                insert = insert_into(_notices, database).values(
                    [_new_row(key, state, run) for key in some]
                )
                database.execute(
                    insert.on_conflict_do_update(index_elements=_key_columns, set_=settled)
                )

    def give_back(self, keys: Iterable[NoticeKey], *, run: str) -> None:
        """Drop this run's open claims, so that a later run sends these notices.

        Args:
            keys: What was claimed and surely not sent.
            run: The run that claimed it.

        Raises:
            LedgerError: The database cannot be used; the claims stay, as uncertain.

        Example:
            >>> key = NoticeKey("shop", 3, 7, "exception:expired")
            >>> _ = ledger.claim([key], run="first")
            >>> ledger.give_back([key], run="first")
            >>> ledger.states([key])
            {}
        """
        with self._transaction() as database:
            for some in by_statement(sorted(keys)):
                database.execute(
                    delete(_notices).where(_among(some), _open(), _notices.c.run == run)
                )

    def uncertain(self, *, older_than: timedelta = _STILL_AT_WORK) -> list[Notice]:
        """List the claims of which nobody knows whether the message went out.

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
        query = select(_notices).where(_open(), _older(older_than)).order_by(_notices.c.claimed_at)
        with self._transaction() as database:
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
            How many claims are now settled as sent.

        Raises:
            LedgerError: The database cannot be used.

        Example:
            >>> key = NoticeKey("shop", 6, 7, "exception:expired")
            >>> _ = ledger.claim([key], run="killed")
            >>> ledger.confirm_uncertain([key], older_than=timedelta(0))
            1
        """
        settled = {"state": NoticeState.SENT.value, "settled_at": datetime.now(UTC)}
        return self._change_uncertain(update(_notices).values(**settled), keys, older_than)

    def _change_uncertain(
        self, change: Delete | Update, keys: Iterable[NoticeKey], older_than: timedelta
    ) -> int:
        with self._transaction() as database:
            return sum(
                database.execute(change.where(_among(some), _open(), _older(older_than))).rowcount
                for some in by_statement(sorted(keys))
            )

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self.transaction(_notices) as connection:
                yield connection
        except DatabaseError as error:
            trouble = LedgerError(f"{error} Without it nothing is sent.", may_have_arrived=False)
        else:
            return
        raise trouble


def _new_row(key: NoticeKey, state: NoticeState, run: str) -> dict[str, Any]:
    now = datetime.now(UTC)
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


def _older(age: timedelta) -> ColumnElement[bool]:
    return _notices.c.claimed_at <= datetime.now(UTC) - age


def _notice(row: Any) -> Notice:
    return Notice(
        key=NoticeKey(row.shop, row.order_id, row.fulfillment_id, row.reason),
        state=NoticeState(row.state),
        run=row.run,
        claimed_at=_aware(row.claimed_at),
        settled_at=_aware(row.settled_at) if row.settled_at else None,
    )


def _aware(time: datetime) -> datetime:
    """SQLite gives back the UTC that was stored, without saying so."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)
