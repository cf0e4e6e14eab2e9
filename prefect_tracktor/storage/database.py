"""Tables that flows keep between runs: SQLite on one machine, or PostgreSQL."""

import logging
import os
import re
import sqlite3
import threading
from abc import ABC
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from prefect.settings import PREFECT_HOME
from pydantic import Field, SecretStr, field_validator
from sqlalchemy import (
    URL,
    Connection,
    DateTime,
    Engine,
    Table,
    TypeDecorator,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.schema import CreateIndex, CreateTable

from prefect_tracktor.block import TracktorBlock
from prefect_tracktor.errors import DatabaseError, InvalidInput
from prefect_tracktor.parsing import LARGEST_ID
from prefect_tracktor.text import public_words, redact, refuse_masked

T = TypeVar("T")

_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_ROWS_A_STATEMENT = 500
_LITERAL = re.compile(r"'[^']*'")
_LOOKED_AT = 2_000
_SAID_AT_MOST = 200

_log = logging.getLogger(__name__)
_SQLITE_LOCK_SECONDS = 30
_POOL_SECONDS = 30
# SQLSTATE: lock not available, query canceled
_LOCKED, _TOOK_TOO_LONG = "55P03", "57014"


class DatabaseBlock(TracktorBlock, ABC):
    """What the blocks that keep something in a database have in common.

    Attributes:
        url: The database, such as postgresql://user:password@host/database, if several machines
            share it; empty for a SQLite file in the Prefect home of the machine that runs the flow.
    """

    tables: ClassVar[tuple[Table, ...]] = ()
    error_type: ClassVar[type[DatabaseError]] = DatabaseError
    without_it: ClassVar[str] = ""

    url: SecretStr = Field(default=SecretStr(""), title="Database URL")

    @field_validator("url")
    @classmethod
    def _url_is_usable(cls, value: SecretStr) -> SecretStr:
        refuse_masked(value.get_secret_value(), field="url")
        if value.get_secret_value():
            database_url(value.get_secret_value())
        return value

    def verify(self) -> None:
        """Open the database, and create missing tables, to see that it can be used."""
        with self.transaction():
            pass

    @property
    def place(self) -> str:
        """Where it is kept, without user and password: a file's path, or a database on a host."""
        url = database_url(self.url.get_secret_value() or _default_url())
        if url.drivername == "sqlite":
            return str(url.database)
        return f"{url.database or ''} at {url.host or 'this machine'}"

    @property
    def is_file(self) -> bool:
        """Whether it is kept in a file, which ends with the machine that it is on."""
        url = self.url.get_secret_value()
        return not url or database_url(url).drivername == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction on the block's tables; an error rolls it back."""
        url = self.url.get_secret_value() or _default_url()
        try:
            with _engine(url, self.tables).begin() as connection:
                yield connection
        except ModuleNotFoundError:
            problem = "PostgreSQL needs its driver: pip install 'prefect-tracktor[postgresql]'"
        except (OverflowError, UnicodeError) as error:
            problem = f"{type(error).__name__}: it cannot hold one of the values"
        except (SQLAlchemyError, OSError) as error:
            problem = _waited_for(error, self.tables) or said_without_secrets(error, url)
        else:
            return
        # raised outside of the handlers, whose errors may hold the URL
        raise self.error_type(
            f"the database of the {type(self).__name__} block cannot be used ({problem}). Check the"
            f" block's url, and whether its database runs.{self.without_it}",
            may_have_arrived=False,
        )


def database_url(text: str) -> URL:
    """Read the URL of a database that can be used, whichever of its drivers it names."""
    try:
        url = make_url(text)
        driver = _DRIVERS[url.drivername]
    except (ArgumentError, KeyError, ValueError):
        raise InvalidInput(
            "url must be that of a PostgreSQL (postgresql:// with user, password, host and"
            " database) or of a SQLite file (sqlite:////absolute/path.sqlite3)"
        ) from None
    if driver == "sqlite":
        _check_file(url.database or "")
    return url.set(drivername=driver)


def _check_file(path: str) -> None:
    if path in {"", ":memory:"}:
        raise InvalidInput("url names a SQLite database in memory, which forgets at once")
    if not Path(path).is_absolute():
        raise InvalidInput(
            "url has a relative path, which is another file in each directory: give the whole path"
            " with four slashes, such as sqlite:////srv/shop/tracktor.sqlite3"
        )


def storable_id(value: int) -> bool:
    """Whether an id fits into a column; Shopify's are far smaller."""
    return -LARGEST_ID <= value <= LARGEST_ID


def now_in(database: Connection) -> datetime:
    """The time by the database's clock, which all machines that use it share."""
    if database.dialect.name == "sqlite":
        return datetime.now(UTC)  # SQLite runs in this process
    now: datetime = database.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)


class UTCTime(TypeDecorator[datetime]):
    """A column of aware times; SQLite by itself stores and returns them without an offset."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: object) -> datetime | None:
        """Store the time in UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, _dialect: object) -> datetime | None:
        """Return the time in UTC."""
        if value is None or value.tzinfo:
            return value and value.astimezone(UTC)
        return value.replace(tzinfo=UTC)


def said_without_secrets(error: Exception, url: str, *, ours: str = "") -> str:
    """A database's error in one line, without its URL, password or any data."""
    cause = getattr(error, "orig", None) or error
    kind = " ".join(filter(None, (type(cause).__name__, getattr(cause, "sqlstate", None))))
    password = make_url(url).password or ""
    said = redact(" ".join(str(cause)[:_LOOKED_AT].split()), secrets=(url, str(password)))
    if isinstance(cause, OSError):
        return f"{kind}: {said[:_SAID_AT_MOST]}"  # this machine's words: paths, not rows
    _log.debug("%s: the database said %r", kind, said)
    public = public_words(said[:_SAID_AT_MOST], ours=_LITERAL.sub("", ours))
    return f"{kind}: {public}" if public else kind


def _waited_for(error: Exception, tables: Iterable[Table]) -> str:
    """On what a statement waited too long, if that is what went wrong."""
    cause = getattr(error, "orig", None) or error
    names = ", ".join(table.name for table in tables)
    state = getattr(cause, "sqlstate", None)
    if isinstance(error, PoolTimeout):
        return f"all connections of this process were in use for {_POOL_SECONDS} s"
    if state == _LOCKED:
        return (
            f"another session holds a lock on {names} and did not give it up in time: look at"
            " pg_stat_activity"
        )
    if state == _TOOK_TOO_LONG:
        return f"a statement on {names} took too long and was ended"
    if "database is locked" in str(cause):
        return (
            f"another program has held the file locked for {_SQLITE_LOCK_SECONDS} s; close what has"
            " it open for writing"
        )
    return ""


def insert_into(table: Table, database: Connection) -> Any:
    """An INSERT that knows what to do on conflict, in the dialect of the database."""
    # imported where they are used: PostgreSQL's takes 30 ms, and most runs use SQLite
    if database.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def by_statement(entries: Iterable[T]) -> Iterator[list[T]]:
    """Cut what is looked up or written into as much as one statement should hold."""
    remaining = iter(entries)
    while some := list(islice(remaining, _ROWS_A_STATEMENT)):
        yield some


def _default_url() -> str:
    # the ledger's first name: under another it would have forgotten whom it wrote to
    return f"sqlite:///{PREFECT_HOME.value().absolute() / 'tracktor-notifications.sqlite3'}"


@dataclass(slots=True)
class _Open:
    engine: Engine
    file: tuple[int, int] | None = None
    tables: set[str] = field(default_factory=set)


_open: dict[tuple[int, str], _Open] = {}
_lock = threading.Lock()


def _engine(url: str, tables: Iterable[Table]) -> Engine:
    """One engine per database and process: connections do not survive a fork."""
    key = (os.getpid(), url)
    with _lock:
        known = _open.get(key)
        if known is None or known.file != _file_of(url):
            # a replaced file is another database, though old connections still work
            known = _open[key] = _Open(_opened(database_url(url)))
        for table in tables:
            if table.name not in known.tables:
                _make(table, known.engine)
                known.tables.add(table.name)
        known.file = _file_of(url)
        return known.engine


def _file_of(url: str) -> tuple[int, int] | None:
    """Which file a SQLite URL stands for now; `None` for a PostgreSQL, or where there is none."""
    parsed = database_url(url)
    if parsed.drivername != "sqlite":
        return None
    try:
        found = Path(str(parsed.database)).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _opened(url: URL) -> Engine:
    if url.drivername != "sqlite":
        return _opened_postgresql(url)
    folder = Path(str(url.database)).parent
    if folder == PREFECT_HOME.value().absolute():
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        # a mistyped path must not become a new ledger, by which nobody was ever told
        raise FileNotFoundError(f"there is no directory {folder}; create it, or correct the path")
    engine = create_engine(
        url, hide_parameters=True, connect_args={"timeout": _SQLITE_LOCK_SECONDS}
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_immediately)
    return engine


def _opened_postgresql(url: URL) -> Engine:
    from prefect_tracktor.storage.postgresql import connect

    engine = create_engine(
        url, hide_parameters=True, pool_pre_ping=True, pool_timeout=_POOL_SECONDS
    )
    event.listen(
        engine, "do_connect", lambda _dialect, _record, args, options: connect(*args, **options)
    )
    return engine


def _make(table: Table, engine: Engine) -> None:
    import stamina  # 20 ms, for the first run with a new database

    # several processes may make the table at the same moment; one wins, the others look again
    for attempt in stamina.retry_context(
        on=_may_be_a_race, attempts=5, wait_initial=0.05, timeout=20
    ):
        with attempt, engine.begin() as connection:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))


def _may_be_a_race(error: Exception) -> bool:
    if isinstance(error, OperationalError):  # of a PostgreSQL: it is away
        return isinstance(error.orig, sqlite3.OperationalError)
    return isinstance(error, DBAPIError)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # transactions are begun by _begin_immediately, not by the driver
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_SQLITE_LOCK_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_immediately(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
