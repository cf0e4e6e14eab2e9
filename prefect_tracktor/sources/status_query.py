"""Source of desired statuses: a query of an ERP's or a warehouse's database.

It uses SQLAlchemy, which Prefect brings, and not prefect-sqlalchemy's connector, which would be one
more package and one more saved block, for rows that are streamed and never committed.
"""

from abc import ABC
from collections.abc import Generator
from functools import partial

from pydantic import Field, SecretStr, field_validator
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from prefect_tracktor.block import TracktorBlock, handbook, logo
from prefect_tracktor.errors import InvalidInput, replaced_errors
from prefect_tracktor.sources.status_table import StatusTable
from prefect_tracktor.sources.table_file import Row, Text, Wanted, column_positions
from prefect_tracktor.storage.database import describe_error, postgresql_engine
from prefect_tracktor.text import refuse_masked

_BATCH_SIZE = 1000
_QUERY_SECONDS = 600


class _Query(TracktorBlock, ABC):
    """The fields of a query, which stand before those of its columns in a form."""

    url: SecretStr = Field(title="Database URL")
    query: Text = Field(
        examples=["SELECT order_id, status FROM production WHERE shipped_at IS NULL"]
    )

    @field_validator("url")
    @classmethod
    def _url_is_usable(cls, url: SecretStr) -> SecretStr:
        refuse_masked(url.get_secret_value(), field="url")
        try:
            is_async = make_url(url.get_secret_value()).get_dialect().is_async
        except (ArgumentError, NoSuchModuleError, ValueError):
            raise ValueError(
                "not a database URL that SQLAlchemy knows; it has the form"
                " postgresql+psycopg://user:password@host/database, and its package is installed"
            ) from None
        if is_async:
            raise ValueError("its driver is for async code; name another, such as psycopg")
        return url

    @field_validator("query")
    @classmethod
    def _query_has_no_parameters(cls, query: str) -> str:
        parameters = text(query).compile().params
        if parameters:
            raise ValueError(
                f"the query has a parameter {next(iter(parameters))!r}, and nothing to fill it in;"
                " write the colon before it as \\:"
            )
        return query


class StatusQuery(StatusTable, _Query):
    """Desired statuses of orders, from a query of your own database.

    The query returns a row for each order, with the same columns as a `StatusFile`. SQLite and
    PostgreSQL run it read-only; with other databases the transaction is rolled back. A database
    user with read access only is best.

    Attributes:
        url: The database's URL in SQLAlchemy's form, such as
            postgresql+psycopg://user:password@host/erp; its driver must be installed where the flow
            runs. Use a database user with read access only.
        query: SQL that returns a row for each order, with the columns named below; a colon before a
            word needs a backslash before it.

    Raises:
        pydantic.ValidationError: The URL is invalid, or the query has parameters.

    Example:
        Make Tracktor agree with the ERP:
        ```python
        from prefect_tracktor import StatusQuery, TracktorCredentials
        from prefect_tracktor.flows import reconcile_manual_statuses

        credentials = TracktorCredentials.load("BLOCK_NAME")
        status_query = StatusQuery.load("BLOCK_NAME")
        reconcile_manual_statuses(credentials, status_query, dry_run=True)
        ```
    """

    _block_type_name = "Tracktor Status Query"
    _block_type_slug = "tracktor-status-query"
    _logo_url = logo("database-search")
    _description = "Desired statuses of orders, from a query of your own database."
    _documentation_url = handbook("how-to/manual-statuses.md#from-a-database")

    def _rows(self) -> Generator[Row, None, None]:
        engine = self._engine()
        try:
            # nothing is committed: leaving the connection rolls back
            with (
                replaced_errors((SQLAlchemyError, OSError), self._unreadable),
                engine.connect() as connection,
            ):
                _make_read_only(connection)
                result = connection.execution_options(yield_per=_BATCH_SIZE).execute(
                    text(self.query)
                )
                if not result.returns_rows:
                    raise InvalidInput("the query of the StatusQuery returns no rows; use a SELECT")
                indices = _indices(self._wanted, list(result.keys()))
                for number, values in enumerate(result, start=1):
                    plain = {name: _plain(values[index]) for name, index in indices.items()}
                    yield Row(plain, partial(_place, number))
        finally:
            engine.dispose()

    def _unreadable(self, error: Exception) -> InvalidInput:
        reason = describe_error(error, self.url.get_secret_value(), ours=self.query)
        return InvalidInput(
            f"the query of the StatusQuery cannot be read ({reason}). Check its url and query."
        )

    def _engine(self) -> Engine:
        url = make_url(self.url.get_secret_value())
        try:
            if url.drivername == "postgresql+psycopg":
                return postgresql_engine(url, statement_seconds=_QUERY_SECONDS)
            return create_engine(url, hide_parameters=True)
        except ModuleNotFoundError as missing:
            raise InvalidInput(
                f"the url of the StatusQuery needs the package {missing.name}; install it where the"
                " flow runs"
            ) from None


def _make_read_only(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        # SQLite commits some changes of tables even if the transaction is rolled back
        connection.exec_driver_sql("PRAGMA query_only = ON")
    elif connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")


def _indices(wanted: Wanted, names: list[str]) -> dict[str, int]:
    optional = [column for column in wanted.optional if column_positions(column, names)]
    return {column: _index(column, names) for column in [*wanted.columns, *optional]}


def _index(column: str, names: list[str]) -> int:
    positions = column_positions(column, names)
    if len(positions) == 1:
        return positions[0]
    known = ", ".join(map(repr, names))
    raise InvalidInput(
        f"the query of the StatusQuery gives {len(positions)} columns {column!r} among {known};"
        " give one this name with AS, or set the column of the StatusQuery"
    )


def _place(number: int, _column: str) -> str:
    return f"row {number} of the query"


def _plain(value: object) -> object:
    """Convert values of other types, such as decimal ids, to text."""
    return value if isinstance(value, bool | int | str | None) else str(value)
