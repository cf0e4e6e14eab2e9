"""Desired statuses from CSV and JSON Lines files."""

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


def test_each_row_of_a_status_file_has_its_line_number() -> None:
    content = 'order_id,note,status\n5001,"two\nlines",Sewing\n\n5002,,Cutting\n'
    assert [row.place for row in read(content)] == ["plan.csv, line 2", "plan.csv, line 5"]


def test_the_columns_of_a_status_file_can_be_renamed() -> None:
    content = "Produktion;Auftrag\nSewing;gid://shopify/Order/5001\n"
    columns = {"order_id_column": "Auftrag", "status_column": "Produktion"}
    assert desired(content, **columns) == [DesiredStatus(5001, "Sewing")]


@pytest.mark.parametrize(
    ("cell", "flag"), [("true", True), ("No", False), ("1", True), ("0", False), ("", None)]
)
def test_the_column_for_carrier_updates_is_read(cell: str, flag: bool | None) -> None:
    content = f"order_id,status,automatic_carrier_updates\n5001,,{cell}\n"
    assert desired(content) == [DesiredStatus(5001, None, flag)]


@pytest.mark.parametrize("header", ["Order Id,STATUS", "order id, Status ", "ORDER_ID,status"])
def test_column_names_of_a_status_file_ignore_case_and_spaces(header: str) -> None:
    assert desired(f"{header}\n5001,Sewing\n") == [DesiredStatus(5001, "Sewing")]


def test_the_column_for_carrier_updates_may_contain_spaces() -> None:
    content = "order_id,status,Automatic Carrier Updates\n5001,,yes\n"
    assert desired(content) == [DesiredStatus(5001, None, automatic_carrier_updates=True)]


def test_a_renamed_column_for_carrier_updates_is_required() -> None:
    with pytest.raises(InvalidInput, match="no column 'auto'"):
        read("order_id,status\n5001,\n", automatic_column="auto")


@pytest.mark.parametrize(
    "rows", ["1,Ready for pickup\n2,Ready", "1,Ready\n2,Ready to se", "1,Step 10\n2,Step 1"]
)
def test_a_status_file_that_may_end_within_a_status_is_rejected(rows: str) -> None:
    assert "seems to be cut off (it ends in a" in refusal(f"order_id,STATUS\n{rows}")
    assert len(desired(f"order_id,STATUS\n{rows}\n")) == 2


def test_a_status_file_may_contain_json_lines() -> None:
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
def test_an_invalid_row_of_a_status_file_is_reported_with_its_line(
    content: str, problem: str
) -> None:
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
def test_an_invalid_json_line_of_a_status_file_is_reported(line: str, problem: str) -> None:
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
def test_rows_written_by_a_csv_writer_are_read_back(rows: list[tuple[int, str, bool]]) -> None:
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
