"""Table files: complete or absent, without formulas for spreadsheets."""

import csv
import json
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import fsspec  # type: ignore[import-untyped]  # it brings no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor import InvalidInput
from prefect_tracktor.table_files import TableFiles, safe_cell

COLUMNS = ("id", "text", "price", "at", "flag")
ROW = {
    "id": 5000000001001,
    "text": 'Größe "XL", rot',
    "price": Decimal("59.90"),
    "at": datetime(2026, 11, 2, 10, tzinfo=UTC),
    "flag": False,
}


def write(address: str, *rows: dict[str, object]) -> None:
    with TableFiles({address: COLUMNS}) as files:
        for row in rows:
            files.write(address, row)
        files.finish()


def test_a_csv_file_has_a_header_and_plain_values(tmp_path: Path) -> None:
    write(str(tmp_path / "t.csv"), ROW, {"id": 2})
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines() == [
        "id,text,price,at,flag",
        '5000000001001,"Größe ""XL"", rot",59.90,2026-11-02T10:00:00+00:00,false',
        "2,,,,",
    ]


def test_a_json_lines_file_has_one_object_per_line(tmp_path: Path) -> None:
    write(str(tmp_path / "t.jsonl"), ROW, {"id": 2})
    first, second = map(json.loads, (tmp_path / "t.jsonl").read_text("utf-8").splitlines())
    assert first == ROW | {"price": 59.9, "at": "2026-11-02T10:00:00+00:00"}
    assert second == {"id": 2, "text": None, "price": None, "at": None, "flag": None}


@pytest.mark.parametrize(
    "formula",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1",
        "\ufeff=1",
        "\u200b=1",
        "\u00a0=1",
        "\uff1d1",
        '"=1"',
        "\tx",
    ],
)
def test_text_that_starts_a_formula_gets_an_apostrophe(formula: str) -> None:
    assert re.match(r"'|[\s\"\u200b\ufeff]+'", safe_cell(formula))
    assert safe_cell(formula).replace("'", "") == formula


@pytest.mark.parametrize("text", ["x;=1", "x; =1", "x\n=1", "x\r\n@y", 'x";=1', "a;-b"])
def test_a_formula_after_a_cell_separator_gets_an_apostrophe(text: str) -> None:
    cells = safe_cell(text).replace("\r", ";").replace("\n", ";").split(";")
    assert not [cell for cell in cells if cell.strip('" ').startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize("text", ["", "In transit", "#1001", "a=b", "DHL-Express", "1-2", "x, y"])
def test_ordinary_text_is_unchanged_in_a_csv_cell(text: str) -> None:
    assert safe_cell(text) == text


def test_negative_numbers_get_no_apostrophe(tmp_path: Path) -> None:
    write(str(tmp_path / "t.csv"), ROW | {"price": Decimal("-5.00"), "id": -1})
    assert "-1," in (tmp_path / "t.csv").read_text().splitlines()[1]
    assert ",-5.00," in (tmp_path / "t.csv").read_text().splitlines()[1]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_escaping_a_cell_only_adds_apostrophes(text: str) -> None:
    assert safe_cell(text).replace("'", "") == text.replace("'", "")
    assert not safe_cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_a_table_can_be_written_to_any_fsspec_address() -> None:
    write("memory://bucket/t.jsonl", {"id": 1})
    storage = fsspec.filesystem("memory")
    assert json.loads(storage.cat_file("/bucket/t.jsonl"))["id"] == 1
    assert [name for name in storage.ls("/bucket", detail=False) if ".part" in name] == []


def test_a_table_file_is_replaced_when_the_new_one_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    write(str(file), {"id": 1})
    before = file.read_text()
    with TableFiles({str(file): COLUMNS}) as files:
        files.write(str(file), {"id": 2})
        assert file.read_text() == before
        files.finish()
    assert file.read_text() != before
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_an_error_while_writing_keeps_the_previous_files(tmp_path: Path) -> None:
    write(str(tmp_path / "one.csv"), {"id": 1})
    one, two = str(tmp_path / "one.csv"), str(tmp_path / "two.csv")
    before = (tmp_path / "one.csv").read_text()
    with suppress(ZeroDivisionError), TableFiles({one: COLUMNS, two: COLUMNS}) as files:
        files.write(one, {"id": 2})
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["one.csv"]
    assert (tmp_path / "one.csv").read_text() == before


KILLED = textwrap.dedent("""
    import sys
    from prefect_tracktor.table_files import TableFiles

    with TableFiles({sys.argv[1]: ("id",)}) as files:
        for number in range(10**9):
            files.write(sys.argv[1], {"id": number})
            if number == 10_000:
                print("writing", flush=True)
""")


def test_a_killed_process_leaves_no_incomplete_table_file(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not file.exists()
    write(str(file), {"id": 1})
    with file.open(newline="") as lines:
        assert [row["id"] for row in csv.DictReader(lines)] == ["1"]


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("{tmp}/absent/t.csv", r"/absent/t\.csv: cannot be written .* create it"),
        ("{tmp}/file/t.csv", r"file/t\.csv: cannot be written .* check the path"),
        ("s4://key:geheim@host/t.csv", r"t\.csv: cannot be written"),
        ("s3://bucket/t.csv?token=geheim", r"t\.csv.*: cannot be written \(ImportError\); install"),
    ],
)
def test_an_unwritable_address_is_named_without_secrets(
    address: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=problem) as caught:
        write(address.format(tmp=tmp_path), {"id": 1})
    if "geheim" in address:
        assert "key:geheim" not in str(caught.value)
