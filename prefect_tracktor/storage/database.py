"""Database blocks and connections: SQLite on one machine, or PostgreSQL."""

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
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from prefect.settings import PREFECT_HOME
from prefect.utilities.collections import batched_iterable
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

from prefect_tracktor.block import TracktorBlock
from prefect_tracktor.errors import DatabaseError, InvalidInput, replaced_errors
from prefect_tracktor.text import public_words, refuse_masked, shortened

T = TypeVar("T")

_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_BATCH_SIZE = 500
_LITERAL = re.compile(r"'[^']*'")

_log = logging.getLogger(__name__)
_SQLITE_LOCK_SECONDS = 30
_POOL_SECONDS = 30
# SQLSTATE: lock not available, query canceled
_LOCK_NOT_AVAILABLE, _QUERY_CANCELED = "55P03", "57014"
# OverflowError and UnicodeError: a driver cannot encode a value
_ERRORS = (SQLAlchemyError, OSError, ModuleNotFoundError, OverflowError, UnicodeError)


class DatabaseBlock(TracktorBlock, ABC):
    """Base class of the blocks that keep tables in a database.

    Attributes:
        url: The database, such as postgresql://user:password@host/database, if several machines
            share it; empty for a SQLite file in the Prefect home of the machine that runs the flow.
    """

    tables: ClassVar[tuple[Table, ...]] = ()
    error_type: ClassVar[type[DatabaseError]] = DatabaseError
    consequence: ClassVar[str] = ""

    url: SecretStr = Field(default=SecretStr(""), title="Database URL")

    @field_validator("url")
    @classmethod
    def _url_is_usable(cls, value: SecretStr) -> SecretStr:
        refuse_masked(value.get_secret_value(), field="url")
        if value.get_secret_value():
            database_url(value.get_secret_value())
        return value

    def verify(self) -> None:
        """Open the database and create missing tables, as a check."""
        with self.transaction():
            pass

    @property
    def place(self) -> str:
        """The file's path, or database and host, without user and password."""
        url = database_url(self._address)
        if url.drivername == "sqlite":
            return str(url.database)
        return f"{url.database or ''} at {url.host or 'this machine'}"

    @property
    def is_file(self) -> bool:
        """Whether the database is a file, which is lost with its machine."""
        return database_url(self._address).drivername == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction on the block's tables; an error rolls it back."""
        with (
            replaced_errors(_ERRORS, self._unusable),
            _engine(self._address, self.tables).begin() as connection,
        ):
            yield connection

    @property
    def _address(self) -> str:
        return self.url.get_secret_value() or _default_url()

    def _unusable(self, error: Exception) -> DatabaseError:
        match error:
            case ModuleNotFoundError():
                problem = "PostgreSQL needs its driver: pip install 'prefect-tracktor[postgresql]'"
            case OverflowError() | UnicodeError():
                problem = f"{type(error).__name__}: it cannot hold one of the values"
            case _:
                waited = _why_it_waited(error, self.tables)
                problem = waited or describe_error(error, self._address)
        return self.error_type(
            f"the database of the {type(self).__name__} block cannot be used ({problem}). Check the"
            f" block's url, and whether its database runs.{self.consequence}",
            may_have_arrived=False,
        )


def database_url(text: str) -> URL:
    """Parse the URL of a supported database; any of its drivers stands for the one in use."""
    try:
        url = make_url(text)
        driver = _DRIVERS[url.drivername]
    except (ArgumentError, KeyError, ValueError):
        raise InvalidInput(
            "url must be the URL of a PostgreSQL database (postgresql:// with user, password,"
            " host and database) or of a SQLite file (sqlite:////absolute/path.sqlite3)"
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


def now_in(database: Connection) -> datetime:
    """Return the time of the database's clock, which all machines that use it share."""
    if database.dialect.name == "sqlite":
        return datetime.now(UTC)  # SQLite runs in this process
    now: datetime = database.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)


class UTCTime(TypeDecorator[datetime]):
    """Column of aware times; SQLite by itself stores and returns them without an offset."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: object) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, _dialect: object) -> datetime | None:
        if value is None or value.tzinfo:
            return value and value.astimezone(UTC)
        return value.replace(tzinfo=UTC)


def describe_error(error: Exception, url: str, *, ours: str = "") -> str:
    """Return a database's error in one line, without its URL, password or any data."""
    cause = getattr(error, "orig", None) or error
    kind = " ".join(filter(None, (type(cause).__name__, getattr(cause, "sqlstate", None))))
    password = make_url(url).password or ""
    message = shortened(str(cause), secrets=(url, str(password)))
    if isinstance(cause, OSError):
        return f"{kind}: {message}"  # from this machine: it holds paths, not rows
    _log.debug("%s: the database said %r", kind, message)
    public = public_words(message, ours=_LITERAL.sub("", ours))
    return f"{kind}: {public}" if public else kind


def _why_it_waited(error: Exception, tables: Iterable[Table]) -> str:
    """Say what a statement waited for too long; empty if the error is another one."""
    cause = getattr(error, "orig", None) or error
    names = ", ".join(table.name for table in tables)
    state = getattr(cause, "sqlstate", None)
    if isinstance(error, PoolTimeout):
        return f"all connections of this process were in use for {_POOL_SECONDS} s"
    if state == _LOCK_NOT_AVAILABLE:
        return (
            f"another session holds a lock on {names} and did not release it in time: look at"
            " pg_stat_activity"
        )
    if state == _QUERY_CANCELED:
        return f"a statement on {names} took too long and was ended"
    if "database is locked" in str(cause):
        return (
            f"another program has held the file locked for {_SQLITE_LOCK_SECONDS} s; close what has"
            " it open for writing"
        )
    return ""


def insert_into(table: Table, database: Connection) -> Any:
    """Build an INSERT that supports ON CONFLICT, in the dialect of the database."""
    # imported where they are used: PostgreSQL's takes 30 ms, and most runs use SQLite
    if database.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def by_statement(entries: Iterable[T]) -> Iterator[list[T]]:
    """Split rows or keys into batches that one statement can hold."""
    return map(list, batched_iterable(entries, _BATCH_SIZE))


def _default_url() -> str:
    # a new name would be a new, empty ledger, and customers would get messages again
    return f"sqlite:///{PREFECT_HOME.value().absolute() / 'tracktor-notifications.sqlite3'}"


@dataclass(slots=True)
class _Open:
    engine: Engine
    file: tuple[int, int] | None = None
    tables: set[str] = field(default_factory=set)


_open: dict[tuple[int, str], _Open] = {}
_lock = threading.Lock()


def _engine(address: str, tables: Iterable[Table]) -> Engine:
    """Return the engine of a database: one for each process, as connections survive no fork."""
    key, url = (os.getpid(), address), database_url(address)
    with _lock:
        known = _open.get(key)
        if known is None or known.file != _file_of(url):
            # a replaced file is another database, though connections to the old one still work
            known = _open[key] = _Open(_connect(url))
        for table in tables:
            if table.name not in known.tables:
                _create(table, known.engine)
                known.tables.add(table.name)
        known.file = _file_of(url)
        return known.engine


def _file_of(url: URL) -> tuple[int, int] | None:
    """Return device and inode of a SQLite file; `None` for PostgreSQL, or if there is no file."""
    if url.drivername != "sqlite":
        return None
    try:
        found = Path(str(url.database)).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connect(url: URL) -> Engine:
    if url.drivername != "sqlite":
        return postgresql_engine(url)
    folder = Path(str(url.database)).parent
    if folder == PREFECT_HOME.value().absolute():
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        # a mistyped path must not become a new, empty ledger
        raise FileNotFoundError(f"there is no directory {folder}; create it, or correct the path")
    engine = create_engine(
        url, hide_parameters=True, connect_args={"timeout": _SQLITE_LOCK_SECONDS}
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_immediately)
    return engine


def postgresql_engine(url: URL, **limits: float) -> Engine:
    """Return an engine whose every wait has an end; for `limits`, see `postgresql.connect`."""
    from prefect_tracktor.storage.postgresql import connect

    engine = create_engine(
        url, hide_parameters=True, pool_pre_ping=True, pool_timeout=_POOL_SECONDS
    )
    event.listen(
        engine,
        "do_connect",
        lambda _dialect, _record, args, options: connect(*args, **limits, **options),
    )
    return engine


def _create(table: Table, engine: Engine) -> None:
    import stamina  # 20 ms, for the first run with a new database

    # several processes may create the table at the same moment: one succeeds, the others retry
    for attempt in stamina.retry_context(
        on=_may_be_a_race, attempts=5, wait_initial=0.05, timeout=20
    ):
        with attempt, engine.begin() as connection:
            # an existing table needs no right to create one, which IF NOT EXISTS would
            table.create(connection, checkfirst=True)


def _may_be_a_race(error: Exception) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):  # others mean that the file is no database
        return isinstance(error.orig, sqlite3.OperationalError)
    return not isinstance(error, OperationalError)  # which means that it cannot be reached


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # transactions are begun by _begin_immediately, not by the driver
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_SQLITE_LOCK_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_immediately(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
