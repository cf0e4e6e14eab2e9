"""Desired statuses from files: every row with its place, nothing guessed."""

import csv
import io

import fsspec  # type: ignore[import-untyped]  # it brings no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor import DesiredStatus, InvalidInput, StatusFile
from prefect_tracktor.statuses.desired import DesiredRow


def read(content: str, suffix: str = ".csv", **columns: str) -> list[DesiredRow]:
    fsspec.filesystem("memory").pipe(f"/plan{suffix}", content.encode())
    return list(StatusFile(path=f"memory://plan{suffix}", **columns).desired())


def desired(content: str, suffix: str = ".csv", **columns: str) -> list[DesiredStatus]:
    return [row.desired for row in read(content, suffix, **columns)]


def refusal(content: str, suffix: str = ".csv") -> str:
    with pytest.raises(InvalidInput) as caught:
        read(content, suffix)
    return str(caught.value)


def test_each_row_has_its_place() -> None:
    content = 'order_id,note,status\n5001,"two\nlines",Sewing\n\n5002,,Cutting\n'
    assert [row.place for row in read(content)] == ["plan.csv, line 2", "plan.csv, line 5"]


def test_columns_have_the_names_that_the_sheet_gives_them() -> None:
    content = "Produktion;Auftrag\nSewing;gid://shopify/Order/5001\n"
    columns = {"order_id_column": "Auftrag", "status_column": "Produktion"}
    assert desired(content, **columns) == [DesiredStatus(5001, "Sewing")]


@pytest.mark.parametrize(
    ("cell", "flag"), [("true", True), ("No", False), ("1", True), ("0", False), ("", None)]
)
def test_who_updates_the_order_may_be_said(cell: str, flag: bool | None) -> None:
    content = f"order_id,status,automatic_carrier_updates\n5001,,{cell}\n"
    assert desired(content) == [DesiredStatus(5001, None, flag)]


@pytest.mark.parametrize("header", ["Order Id,STATUS", "order id, Status ", "ORDER_ID,status"])
def test_a_header_may_be_written_otherwise(header: str) -> None:
    assert desired(f"{header}\n5001,Sewing\n") == [DesiredStatus(5001, "Sewing")]


def test_a_header_with_blanks_says_who_updates_the_order_too() -> None:
    content = "order_id,status,Automatic Carrier Updates\n5001,,yes\n"
    assert desired(content) == [DesiredStatus(5001, None, automatic_carrier_updates=True)]


def test_a_column_that_was_named_must_be_there() -> None:
    with pytest.raises(InvalidInput, match="no column 'auto'"):
        read("order_id,status\n5001,\n", automatic_column="auto")


def test_json_lines_are_read_too() -> None:
    content = (
        '{"order_id": 5001, "status": "Sewing"}\n'
        '{"order_id": "5002", "status": null, "automatic_carrier_updates": true}\n'
    )
    assert desired(content, ".jsonl") == [
        DesiredStatus(5001, "Sewing"),
        DesiredStatus(5002, None, automatic_carrier_updates=True),
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("order_id,state\n1,x\n", "plan.csv, line 1: no column 'status'; set the column in the"),
        ("order_id,status\n,Sewing\n", "plan.csv, line 2, column order_id: no order id"),
        (
            "order_id,status\n5.1E+12,Sewing\n",
            "line 2, column order_id: a number in scientific notation may have lost",
        ),
        (
            "order_id,status\n#1001,Sewing\n",
            "line 2, column order_id: '#1001' is not an order id",
        ),
        (
            "order_id,status,automatic_carrier_updates\n1,,maybe\n",
            "line 2, column automatic_carrier_updates: 'maybe' is neither true",
        ),
        (
            "order_id,status,automatic_carrier_updates\n1,Sewing,true\n",
            "plan.csv, line 2: status and automatic_carrier_updates=true contradict each other",
        ),
        ("", "the file is empty"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(content: str, problem: str) -> None:
    assert problem in refusal(content)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("5001", "line 1: no JSON object; each line must hold one with the keys"),
        ('{"order_id": 5001}', "line 1: no column 'status'"),
        ('{"order_id": 5001, "status": ["Sewing"]}', "column status: a list is not a status"),
        ('{"order_id": true, "status": "x"}', "column order_id: a bool is not an order id"),
        (
            '{"order_id": 1, "status": "x", "order_id": 2}',
            "line 1: the key 'order_id' is there twice; take one out",
        ),
    ],
)
def test_a_json_line_that_cannot_be_read_is_named(line: str, problem: str) -> None:
    assert problem in refusal(line, ".jsonl")


@given(
    st.lists(
        st.tuples(
            st.integers(1, 2**63 - 1),
            st.text(st.sampled_from('abc ,;"ä'), max_size=8),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_what_a_sheet_wrote_comes_back(rows: list[tuple[int, str, bool]]) -> None:
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["order_id", "status", "automatic_carrier_updates"])
    wanted = [
        DesiredStatus(order_id, status, False if status.strip() else flag)
        for order_id, status, flag in rows
    ]
    writer.writerows(
        [entry.order_id, entry.status or "", str(entry.automatic_carrier_updates)]
        for entry in wanted
    )
    assert desired(content.getvalue()) == wanted
