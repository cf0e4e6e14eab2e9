"""Desired statuses from a query of a database."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import Engine, create_engine, make_url

from prefect_tracktor import DesiredStatus, InvalidInput, StatusQuery

PLAN = "SELECT order_id, status FROM production ORDER BY order_id"


@pytest.fixture
def erp_url(database_url: str) -> str:
    """URL of a shop's database, with a table of the orders in production."""
    url = make_url(database_url)
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    with engine.begin() as database:
        database.exec_driver_sql(
            "CREATE TABLE production (order_id NUMERIC(20, 0), status VARCHAR(40), ours BOOLEAN)"
        )
        database.exec_driver_sql(
            "INSERT INTO production VALUES (5001, 'Sewing', NULL), (5002, ' Cutting ', NULL),"
            " (5003, NULL, TRUE)"
        )
    engine.dispose()
    return url.render_as_string(hide_password=False)


def query(url: str, sql: str = PLAN, **columns: str) -> StatusQuery:
    return StatusQuery(url=SecretStr(url), query=sql, **columns)


def desired(url: str, sql: str = PLAN, **columns: str) -> list[DesiredStatus]:
    return [row.desired for row in query(url, sql, **columns).desired()]


def refusal(url: str, sql: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        list(query(url, sql).desired())
    return str(caught.value)


def test_each_row_of_a_query_becomes_a_desired_status(erp_url: str) -> None:
    assert desired(erp_url) == [
        DesiredStatus(5001, "Sewing"),
        DesiredStatus(5002, "Cutting"),
        DesiredStatus(5003),
    ]


def test_the_columns_of_a_status_query_can_be_renamed(erp_url: str) -> None:
    rows = desired(
        erp_url,
        "SELECT order_id AS nr, status AS stage, ours FROM production WHERE order_id = 5003",
        order_id_column="nr",
        status_column="stage",
        automatic_column="ours",
    )
    assert rows == [DesiredStatus(5003, None, automatic_carrier_updates=True)]


def test_percent_signs_and_escaped_colons_reach_the_database(erp_url: str) -> None:
    sql = r"SELECT order_id, '\:x' AS status FROM production WHERE status LIKE 'Sew%'"
    assert desired(erp_url, sql) == [DesiredStatus(5001, ":x")]


def test_a_status_query_cannot_change_the_database(erp_url: str) -> None:
    for changing in (
        "UPDATE production SET status = 'Gone' RETURNING order_id, status",
        "DELETE FROM production",
        "DROP TABLE production",
    ):
        assert "the query of the StatusQuery" in refusal(erp_url, changing)
    assert desired(erp_url)[0].status == "Sewing"


def test_an_error_names_the_row_of_the_query(erp_url: str) -> None:
    ambiguous = "SELECT order_id, status, 'maybe' AS automatic_carrier_updates FROM production"
    problem = "row 1 of the query, column automatic_carrier_updates: 'maybe' is neither"
    assert problem in refusal(erp_url, ambiguous)


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("SELECT order_id FROM production", "gives 0 columns 'status' among 'order_id'"),
        ("SELECT order_id, status, status FROM production", "gives 2 columns 'status'"),
        ("SELECT nothing FROM nowhere", "the query of the StatusQuery cannot be read"),
        ("DELETE FROM production", "the query of the StatusQuery"),
        ("SELECT 1.5 AS order_id, 'x' AS status", "row 1 of the query, column order_id: '1.5' is"),
        (
            "SELECT 'Ada Lovelace' AS order_id, 'x' AS status",
            "order_id: text of 12 characters is not",
        ),
    ],
)
def test_an_unusable_query_is_rejected_with_the_reason(
    erp_url: str, sql: str, problem: str
) -> None:
    assert problem in refusal(erp_url, sql)


def test_customer_data_in_a_database_error_is_hidden(erp_url: str) -> None:
    sql = "SELECT CAST('Ada Lovelace' AS BIGINT) AS order_id, 'Sewing' AS status"
    assert "Lovelace" not in refusal(erp_url, sql)


def test_an_error_about_an_unreachable_database_hides_its_password() -> None:
    message = refusal("postgresql+psycopg://me:s3cret@127.0.0.1:1/erp", PLAN)
    assert "cannot be read" in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"url": "no url", "query": PLAN}, "not a database URL"),
        ({"url": "foxpro://host/db", "query": PLAN}, "not a database URL"),
        ({"url": "sqlite+aiosqlite://", "query": PLAN}, "its driver is for async code"),
        ({"url": "sqlite://", "query": "SELECT :order"}, "the query has a parameter 'order'"),
        ({"url": "sqlite://", "query": " "}, "at least 1 character"),
    ],
)
def test_a_status_query_with_an_invalid_field_is_rejected(
    fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        StatusQuery(**fields)


def test_query_results_are_read_only_as_needed(tmp_path: Path) -> None:
    engine: Engine = create_engine(f"sqlite:///{tmp_path / 'long.sqlite3'}")
    endless = (
        "WITH RECURSIVE plan(order_id) AS (SELECT 1 UNION ALL SELECT order_id + 1 FROM plan)"
        " SELECT order_id, 'Sewing' AS status FROM plan"
    )
    rows = query(engine.url.render_as_string(hide_password=False), endless).desired()
    assert [next(rows).desired.order_id for _ in range(2500)][-1] == 2500
