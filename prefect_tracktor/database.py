"""Where flows remember things between runs: a table in SQLite on one machine, or in PostgreSQL."""

import logging
import os
import re
import threading
from abc import ABC
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import stamina
from prefect.blocks.core import Block
from prefect.settings import PREFECT_HOME
from pydantic import Field, SecretStr, field_validator
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from prefect_tracktor.errors import InvalidInput, TracktorError
from prefect_tracktor.forms import BLOCK_CONFIG
from prefect_tracktor.masking import public_words, redact, refuse_masked

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


class DatabaseError(TracktorError):
    """A database that a flow needs cannot be used.

    Example:
        >>> issubclass(DatabaseError, TracktorError)
        True
    """


class DatabaseBlock(Block, ABC):
    """What the blocks that keep something in a database have in common.

    Attributes:
        url: Where it is kept; empty for a SQLite file in the Prefect home.

    Raises:
        pydantic.ValidationError: The URL is none, or of a database that is not supported; the
            message does not repeat it.

    Example:
        >>> DatabaseBlock(url="sqlite:////tmp/tracktor.sqlite3").url
        SecretStr('**********')
    """

    model_config = BLOCK_CONFIG
    tables: ClassVar[tuple[Table, ...]] = ()

    url: SecretStr = Field(
        default=SecretStr(""),
        title="Database URL",
        description=(
            "Where it is kept, such as postgresql://user:password@host/database, which several"
            " machines need; empty for a SQLite file in the Prefect home of the one machine that"
            " runs the flow."
        ),
    )

    @field_validator("url")
    @classmethod
    def _url_is_usable(cls, value: SecretStr) -> SecretStr:
        refuse_masked(value.get_secret_value(), field="url")
        if value.get_secret_value():
            database_url(value.get_secret_value())
        return value

    def verify(self) -> None:
        """Open the database, and make the tables if need be, to see that it can be used.

        Raises:
            DatabaseError: It cannot be used; the message says why, without secrets.

        Example:
            >>> ledger.verify()
        """
        for table in self.tables:
            with self.transaction(table):
                pass

    @contextmanager
    def transaction(self, table: Table) -> Iterator[Connection]:
        """A transaction in which the table is there; committed when the block ends well.

        Args:
            table: What is read or written; it is made if need be.

        Yields:
            The connection.

        Raises:
            DatabaseError: The database cannot be used; the message says why, without secrets.

        Example:
            >>> from prefect_tracktor.settled import SETTLED
            >>> with ledger.transaction(SETTLED) as database:
            ...     database.execute(SETTLED.select()).all()
            []
        """
        url = self.url.get_secret_value() or _default_url()
        try:
            with _engine(url, table).begin() as connection:
                yield connection
        except ModuleNotFoundError:
            problem = "PostgreSQL needs its driver: pip install 'psycopg[binary]'"
        except (SQLAlchemyError, OSError) as error:
            problem = said_without_secrets(error, url)
        else:
            return
        # raised outside of the handlers, whose errors may hold the URL
        raise DatabaseError(
            f"the database of the {type(self).__name__} block cannot be used ({problem}). Check the"
            " block's url, and whether its database runs.",
            may_have_arrived=False,
        )


def database_url(text: str) -> URL:
    """Read the URL of a database that can be used, whichever of its drivers it names.

    Args:
        text: The URL.

    Returns:
        The URL with the driver that is used here.

    Raises:
        InvalidInput: It is none, of another database, or of one in memory.

    Example:
        >>> database_url("postgresql://user:secret@host/shop").drivername
        'postgresql+psycopg'
    """
    try:
        url = make_url(text)
        driver = _DRIVERS[url.drivername]
    except (ArgumentError, KeyError, ValueError):
        raise InvalidInput(
            "url must be that of a PostgreSQL (postgresql:// with user, password, host and"
            " database) or of a SQLite file (sqlite:////absolute/path.sqlite3)"
        ) from None
    if driver == "sqlite" and url.database in {None, "", ":memory:"}:
        raise InvalidInput("url names a SQLite database in memory, which forgets at once")
    return url.set(drivername=driver)


def said_without_secrets(error: Exception, url: str, *, ours: str = "") -> str:
    """What a database said about an error, in a line without its URL, password or anybody's data.

    Its own words are in the DEBUG log.

    Args:
        error: What SQLAlchemy raised.
        url: The database's URL.
        ours: What the database was asked; words of it may be repeated.

    Returns:
        The kind of error, and what was said in public words.

    Example:
        >>> said_without_secrets(OSError("no s3cret for you"), "postgresql://me:s3cret@host/shop")
        'OSError: no [hidden] for you'
    """
    cause = getattr(error, "orig", None) or error
    kind = " ".join(filter(None, (type(cause).__name__, getattr(cause, "sqlstate", None))))
    password = make_url(url).password or ""
    said = redact(" ".join(str(cause)[:_LOOKED_AT].split()), secrets=(url, str(password)))
    if isinstance(cause, OSError):
        return f"{kind}: {said[:_SAID_AT_MOST]}"  # this machine's words: paths, not rows
    _log.debug("%s: the database said %r", kind, said)
    public = public_words(said[:_SAID_AT_MOST], ours=_LITERAL.sub("", ours))
    return f"{kind}: {public}" if public else kind


def insert_into(table: Table, database: Connection) -> Any:
    """An INSERT that knows what to do on conflict, in the dialect of the database.

    Args:
        table: Where to.
        database: The connection that will execute it.

    Returns:
        SQLAlchemy's statement.

    Example:
        >>> from prefect_tracktor.settled import SETTLED
        >>> with ledger.transaction(SETTLED) as database:
        ...     hasattr(insert_into(SETTLED, database), "on_conflict_do_nothing")
        True
    """
    dialect = sqlite if database.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


def by_statement(entries: Iterable[T]) -> Iterator[list[T]]:
    """Cut what is looked up or written into as much as one statement should hold.

    Args:
        entries: Keys or rows.

    Yields:
        Some of them at a time.

    Example:
        >>> [len(some) for some in by_statement(range(1200))]
        [500, 500, 200]
    """
    remaining = iter(entries)
    while some := list(islice(remaining, _ROWS_A_STATEMENT)):
        yield some


def _default_url() -> str:
    # the ledger's first name: under another it would have forgotten whom it wrote to
    return f"sqlite:///{PREFECT_HOME.value() / 'tracktor-notifications.sqlite3'}"


_engines: dict[tuple[int, str], Engine] = {}
_tables: set[tuple[int, str, str]] = set()
_lock = threading.Lock()


def _engine(url: str, table: Table) -> Engine:
    """One engine per database and process: connections do not survive a fork."""
    key = (os.getpid(), url)
    with _lock:
        if key not in _engines:
            _engines[key] = _opened(database_url(url))
        if (*key, table.name) not in _tables:
            _make(table, _engines[key])
            _tables.add((*key, table.name))
        return _engines[key]


def _opened(url: URL) -> Engine:
    if url.drivername != "sqlite":
        return create_engine(
            url, hide_parameters=True, pool_pre_ping=True, connect_args={"connect_timeout": 10}
        )
    folder = Path(str(url.database)).absolute().parent
    if folder == PREFECT_HOME.value():
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        # a mistyped path must not become a new ledger, by which nobody was ever told
        raise FileNotFoundError(f"there is no directory {folder}; make it, or mend the path")
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": 30})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_immediately)
    return engine


def _make(table: Table, engine: Engine) -> None:
    # several processes may make the table at the same moment; one wins, the others look again
    for attempt in stamina.retry_context(on=DBAPIError, attempts=5, wait_initial=0.05, timeout=60):
        with attempt, engine.begin() as connection:
            connection.execute(CreateTable(table, if_not_exists=True))


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # transactions are begun by _begin_immediately, not by the driver
    connection.isolation_level = None
    connection.execute("PRAGMA busy_timeout = 30000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_immediately(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
