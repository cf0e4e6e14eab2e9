"""Desired statuses from a database: a query that an ERP or a warehouse answers.

SQLAlchemy itself, which Prefect brings, not prefect-sqlalchemy's connector: that one would be one
package and one saved block more, and what is wanted here is a stream that is never committed.
"""

from abc import ABC
from collections.abc import Generator
from functools import partial

from pydantic import Field, SecretStr, field_validator
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from prefect_tracktor.block import TracktorBlock, handbook, logo
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.sources.status_table import AUTOMATIC_COLUMN, StatusTable
from prefect_tracktor.sources.table_file import Row, Text, column_positions
from prefect_tracktor.storage.database import said_without_secrets
from prefect_tracktor.text import refuse_masked

_ROWS_AT_ONCE = 1000


class _Query(TracktorBlock, ABC):
    """A query of a database."""

    url: SecretStr = Field(
        title="Database URL",
        description="Where the database is, in SQLAlchemy's form, such as"
        " postgresql+psycopg://user:password@host/erp; its driver must be installed where the flow"
        " runs. Use a database user with read access only.",
    )
    query: Text = Field(
        title="Query",
        description="SQL that gives a row for each order, with the columns named below; a colon"
        " before a word needs a backslash before it.",
        examples=["SELECT order_id, status FROM production WHERE shipped_at IS NULL"],
    )

    @field_validator("url")
    @classmethod
    def _url_is_one(cls, url: SecretStr) -> SecretStr:
        refuse_masked(url.get_secret_value(), field="url")
        try:
            waits_for_none = make_url(url.get_secret_value()).get_dialect().is_async
        except (ArgumentError, NoSuchModuleError, ValueError):
            raise ValueError(
                "not a database URL that SQLAlchemy knows; it has the form"
                " postgresql+psycopg://user:password@host/database, and its package is installed"
            ) from None
        if waits_for_none:
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

    The query gives a row for each order, with the same columns as a `StatusFile`. SQLite and
    PostgreSQL run it read-only; with other databases the transaction is rolled back. A database
    user with read access only is best.

    Attributes:
        url: Where the database is.
        query: The SQL query.
        order_id_column: The column that holds the order id.
        status_column: The column that holds the status.
        automatic_column: The column that says whether the carrier updates the order.

    Raises:
        pydantic.ValidationError: The URL is none, or the query has parameters.

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
            with engine.connect() as connection:
                _make_read_only(connection)
                result = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(
                    text(self.query)
                )
                if not result.returns_rows:
                    raise InvalidInput("the query of the StatusQuery gives no rows; use a SELECT")
                indices = self._indices(list(result.keys()))
                for number, values in enumerate(result, start=1):
                    plain = {name: _plain(values[index]) for name, index in indices.items()}
                    yield Row(plain, partial(_place, number))
                # nothing is committed: leaving the block rolls back
        except (SQLAlchemyError, OSError) as error:
            said = said_without_secrets(error, self.url.get_secret_value(), ours=self.query)
        else:
            return
        finally:
            engine.dispose()
        # raised outside of the handler, whose error may hold the URL
        raise InvalidInput(
            f"the query of the StatusQuery cannot be read ({said}). Check its url and query."
        )

    def _engine(self) -> Engine:
        try:
            return create_engine(self.url.get_secret_value(), hide_parameters=True)
        except ModuleNotFoundError as missing:
            raise InvalidInput(
                f"the url of the StatusQuery needs the package {missing.name}; install it where the"
                " flow runs"
            ) from None

    def _indices(self, names: list[str]) -> dict[str, int]:
        columns = [self.order_id_column, self.status_column]
        if self.automatic_column != AUTOMATIC_COLUMN or column_positions(AUTOMATIC_COLUMN, names):
            columns.append(self.automatic_column)
        return {column: _index(column, names) for column in columns}


def _make_read_only(connection: Connection) -> None:
    """SQLite commits what changes tables by itself, whatever becomes of the transaction."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")
    elif connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")


def _index(column: str, names: list[str]) -> int:
    positions = column_positions(column, names)
    if len(positions) == 1:
        return positions[0]
    raise InvalidInput(
        f"the query of the StatusQuery gives {len(positions)} columns {column!r} among"
        f" {', '.join(map(repr, names))}; name one so with AS, or set the column of the StatusQuery"
    )


def _place(number: int, _column: str) -> str:
    return f"row {number} of the query"


def _plain(value: object) -> object:
    """Databases give ids as decimals, and text in columns of a fixed length."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    return str(value)
