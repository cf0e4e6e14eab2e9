"""Order files: columns, ids, encodings, errors."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fsspec  # type: ignore[import-untyped]  # it brings no types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.sources import OrderFile

LARGEST_ID = 2**63 - 1

SHOPIFY_EXPORT = """\
Name,Email,Lineitem name,Notes,Id
#1001,ada@example.com,Mug,"Please ring
the bell",5001
#1001,ada@example.com,Cup,,
#1001,ada@example.com,Plate,,
#1002,,Mug,,5002
"""


def ids_of(content: str | bytes, *, suffix: str = ".csv", column: str = "Id") -> list[int]:
    """Read the ids of a file with this content."""
    data = content.encode() if isinstance(content, str) else content
    fsspec.filesystem("memory").pipe(f"/orders{suffix}", data)
    return list(OrderFile(path=f"memory://orders{suffix}", column=column).find_orders().order_ids)


def refusal_of(content: str | bytes, *, suffix: str = ".csv", column: str = "Id") -> str:
    with pytest.raises(InvalidInput) as refused:
        ids_of(content, suffix=suffix, column=column)
    return str(refused.value)


def test_a_shopify_export_yields_each_order_once() -> None:
    assert ids_of(SHOPIFY_EXPORT) == [5001, 5002]


def test_duplicate_ids_in_a_file_are_yielded_once_in_order() -> None:
    assert ids_of("Id\n5003\n5001\n5003\n5002\n5001\n") == [5003, 5001, 5002]


def test_the_delimiter_is_the_one_that_separates_the_wanted_columns() -> None:
    assert ids_of("Id;Notes, remarks, and so on\n5001;fragile, heavy\n") == [5001]


@pytest.mark.parametrize(("header", "column"), [("ID", "Id"), ("id", "Id"), (" Id ", "Id")])
def test_column_names_ignore_letter_case_and_spaces(header: str, column: str) -> None:
    assert ids_of(f"Name,{header}\n#1,5001\n", column=column) == [5001]


def test_an_exact_column_name_takes_precedence_over_another_letter_case() -> None:
    assert ids_of("ID,Id\n1,5001\n") == [5001]


def test_the_column_of_the_order_id_can_be_set() -> None:
    assert ids_of("Id,Order\n1,5001\n", column="Order") == [5001]


@pytest.mark.parametrize("text", ["5001", " 5001 ", "'5001", "5001.0", "gid://shopify/Order/5001"])
def test_order_ids_are_read_in_the_formats_of_spreadsheets_and_shopify(text: str) -> None:
    assert ids_of(f"Id\n{text}\n") == [5001]


def test_blank_lines_and_missing_last_cells_are_accepted() -> None:
    assert ids_of("Id,Name,Note\n5001\n\n,,\n5002,#2,\n\n") == [5001, 5002]


@pytest.mark.parametrize(
    "value",
    ["12x", "#1001", "0", "-5001", "007", "5,001", "5001.5", "0x10", "٣", "5 001", "True", "1_000"],
)
def test_an_invalid_order_id_is_reported_with_file_line_and_column(value: str) -> None:
    content = io.StringIO()
    csv.writer(content).writerows([["Name", "Id"], ["#1", "5001"], ["#2", value]])
    message = refusal_of(content.getvalue())
    assert re.match(
        r"orders\.csv, line 3, column Id: ('.+'|text of \d+ characters) is not an order id",
        message,
    )


@pytest.mark.parametrize("value", ["5.00012E+12", "5,00012E+12", "5e12"])
def test_an_order_id_in_scientific_notation_is_rejected(value: str) -> None:
    message = refusal_of(f"Id\tName\n{value}\t#1\n")
    assert "line 2, column Id: a number in scientific notation may have lost digits" in message


@pytest.mark.parametrize("value", [str(LARGEST_ID + 1), f"{2**53 + 1}.0"])
def test_an_order_id_that_is_too_large_is_rejected(value: str) -> None:
    message = refusal_of(f"Id\n{value}\n")
    assert re.search(r"line 2, column Id: text of \d+ (digits|characters) is too large", message)
    assert value not in message


def test_the_largest_possible_order_id_is_read() -> None:
    assert ids_of(f"Id\n{LARGEST_ID}\n") == [LARGEST_ID]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("Id,Total\n5001,1\n,2\n", 3),  # no column of names
        ("Name,Id\n#1,5001\n#2,\n", 3),  # another order
        ("Name,Id\n#1,\n#1,5001\n", 2),  # the first line of an order
        ("Name,Id,Total\n#1,5001,1\n,,2\n,,3\n", 3),  # no name either
    ],
)
def test_a_blank_id_is_accepted_only_on_further_lines_of_an_order(content: str, line: int) -> None:
    assert refusal_of(content).startswith(f"orders.csv, line {line}, column Id: no order id")


def test_line_numbers_in_errors_match_those_of_an_editor() -> None:
    rows = 'Note,Id,Remark\n"a\nb",5001,"c\r\nd"\n\n"e\nf",12x,"g\nh"\n'
    assert refusal_of(rows).startswith("orders.csv, line 7, column Id: '12x'")


def test_an_unclosed_quote_is_rejected() -> None:
    assert refusal_of('Id,Note\n5001,x\n5002,"oops\n5003,y\n').startswith("orders.csv, line 3: ")


def test_a_line_with_more_cells_than_the_header_is_rejected() -> None:
    message = refusal_of("Id,Note\n5001,x\n5002,4,5\n")
    assert message.startswith("orders.csv, line 3: 3 cells, but the header has 2")


def test_an_error_about_a_missing_column_suggests_the_nearest_name() -> None:
    message = refusal_of("Name,Order ID,Total\n#1,5001,1\n", column="OrderNo")
    assert message.startswith("orders.csv, line 1: no column 'OrderNo'")
    assert "'Name', 'Order ID', 'Total' (the nearest is 'Order ID')" in message


@pytest.mark.parametrize(
    "row",
    [
        "Ada,ada@example.com,5001",
        "Ada Lovelace;12 Main Street;Berlin",
        "Ada,+49 30 1234567",
        "Ada|#12",
    ],
)
def test_an_error_about_a_missing_header_hides_the_values(row: str) -> None:
    message = refusal_of(f"{row}\n{row}\n")
    assert "add a header line" in message
    assert not any(word in message for word in ("Ada", "Lovelace", "Main", "Berlin", "1234567"))


@pytest.mark.parametrize("header", ["Id,Id", "id,ID"])
def test_a_duplicate_id_column_is_rejected(header: str) -> None:
    assert "is there 2 times" in refusal_of(f"{header}\n1,2\n")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_an_empty_order_file_is_rejected(suffix: str) -> None:
    assert refusal_of("", suffix=suffix) == (
        f"orders{suffix}, line 1: the file is empty; export it again"
    )


def test_a_nul_character_in_a_file_is_rejected() -> None:
    assert refusal_of("Id\n5001\n5\0002\n").startswith("orders.csv, line 3: a NUL character")


def test_an_undecodable_byte_is_reported_with_its_line() -> None:
    content = "Id,Note\n5001,x\n5002,café\n".encode("cp1252")
    assert refusal_of(content).startswith("orders.csv, line 3: the byte 0xe9 is not utf-8")


def test_the_line_of_an_undecodable_byte_is_correct_in_a_long_file() -> None:
    content = b"Id,Note\n" + b"5001,x\n" * 5000 + b"5002,caf\xe9\n" + b"5003,x\n" * 5000
    assert refusal_of(content).startswith("orders.csv, line 5002: ")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_the_encoding_of_an_order_file_can_be_set(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("Id;Note\n5001;café\n", encoding=encoding)
    assert list(OrderFile(path=str(file), encoding=encoding).find_orders().order_ids) == [5001]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("ada@example.com", "an email address"),
        ("ada@home", "an email address"),
        ("Lovelace", "text of 8 characters"),
        ("+49 30 1234567", "text of 14 characters"),
        ("0301234567", "text of 10 digits"),
        ("12 Main Street", "text of 14 characters"),
        ("Łódź", "text of 4 characters"),
        ("…", "'…'"),
    ],
)
def test_errors_about_a_wrong_column_contain_no_customer_data(value: str, kind: str) -> None:
    for content, suffix in [
        (f"Customer\n{value}\n", ".csv"),
        (json.dumps({"Customer": value}), ".jsonl"),
    ]:
        message = refusal_of(content, suffix=suffix, column="Customer")
        assert f"column Customer: {kind} is not an order id" in message
        assert not any(word in message for word in value.split() if len(word) > 2)


def test_json_lines_contain_objects_or_bare_ids() -> None:
    lines = '{"id": 5001, "x": [1]}\n\n{"Id": "5002"}\n5003\n"5004"\n{"id": 5001}\n'
    assert ids_of(lines, suffix=".jsonl") == [5001, 5002, 5003, 5004]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[5002]", "column Id: a list is not an order id"),
        ("null", "column Id: no order id"),
        ("true", "column Id: a bool is not an order id"),
        ('{"id": null}', "column Id: no order id"),
        ('{"id": {"email": "ada@example.com"}}', "column Id: a dict is not an order id"),
        ('{"id": 5.00012E+12}', "column Id: a number in scientific notation may have lost digits"),
        ('{"id": NaN}', "column Id: 'NaN' is not an order id"),
        ('{"idd": 1}', "no column 'Id'; set the column in the OrderFile"),
        ('{"id": 5002', "not JSON"),
        ("{id: 5002}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"id": 5002}{"id": 5003}', "not JSON"),
    ],
)
def test_an_invalid_json_line_is_reported_with_its_line_number(line: str, problem: str) -> None:
    message = refusal_of(f'{{"id": 5001}}\n{line}\n', suffix=".ndjson")
    assert re.match(r"orders\.ndjson, line 2[:,] ", message)
    assert problem in message
    assert "example.com" not in message


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_a_compressed_file_is_read_and_a_truncated_one_is_rejected(
    suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    data = compress(b"Id\n" + b"".join(b"%d\n" % n for n in range(1, 20_000)))
    assert len(ids_of(data, suffix=f".csv{suffix}")) == 19_999
    assert "damaged or cut off" in refusal_of(data[:-100], suffix=f".csv{suffix}")
    # an HTTP client may have decompressed it already
    assert ids_of(b"Id\n5001\n", suffix=f".csv{suffix}") == [5001]


def test_a_path_may_start_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "orders.csv").write_text("Id\n5001\n")
    assert list(OrderFile(path="~/orders.csv").find_orders().order_ids) == [5001]


def test_the_path_of_an_order_file_may_be_a_url(tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text("5001\n")
    assert list(OrderFile(path=file.as_uri()).find_orders().order_ids) == [5001]


def test_storage_options_are_passed_to_the_storage(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("Id\n5001\n")
    options = {"fo": "/", "target_protocol": "file", "path": str(tmp_path)}
    # from Python, and from a form
    for form in (options, json.dumps(options)):
        file = OrderFile.model_validate({"path": "dir://orders.csv", "storage_options": form})
        assert list(file.find_orders().order_ids) == [5001]


@pytest.mark.parametrize("options", ["k3y", '["k3y"]', '{"key": "k3y"', {"key": object()}])
def test_invalid_storage_options_are_rejected_without_showing_them(
    options: object,
) -> None:
    with pytest.raises(ValidationError, match=r"JSON") as caught:
        OrderFile.model_validate({"path": "orders.csv", "storage_options": options})
    assert "k3y" not in str(caught.value)


def test_an_error_about_a_missing_file_contains_its_full_path(tmp_path: Path) -> None:
    path = str(tmp_path / "orders.csv")
    with pytest.raises(InvalidInput, match=re.escape(f"{path}: cannot be opened")):
        next(OrderFile(path=path).find_orders().order_ids)


def test_a_file_with_an_unknown_suffix_needs_a_format(tmp_path: Path) -> None:
    file = tmp_path / "orders.dat"
    file.write_text("Id\n5001\n")
    with pytest.raises(InvalidInput, match="set `format` of the OrderFile to csv or jsonl"):
        next(OrderFile(path=str(file)).find_orders().order_ids)
    assert list(OrderFile(path=str(file), format="csv").find_orders().order_ids) == [5001]


def test_an_error_about_a_signed_url_hides_its_signature() -> None:
    file = OrderFile(path="https://storage.example/orders.dat?signature=s3cret")
    with pytest.raises(InvalidInput, match=r"^orders\.dat: "):
        next(file.find_orders().order_ids)


def test_an_order_file_is_read_only_as_needed() -> None:
    fsspec.filesystem("memory").pipe("/orders.csv", b"Id\n5001\n" + b"bad\n" * 100)
    ids = OrderFile(path="memory://orders.csv").find_orders().order_ids
    assert next(ids) == 5001


order_ids = st.integers(min_value=1, max_value=LARGEST_ID)
# no NUL characters and no surrogates
texts = st.text(
    st.one_of(st.sampled_from("\r\n\"',; "), st.characters(codec="utf-8", exclude_characters="\0")),
    max_size=12,
)


@given(
    rows=st.lists(st.tuples(texts, order_ids, texts), max_size=20),
    delimiter=st.sampled_from(",;\t"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
)
def test_ids_written_by_a_csv_writer_are_read_back(
    rows: list[tuple[str, int, str]], delimiter: str, quoting: int
) -> None:
    content = io.StringIO()
    writer = csv.writer(
        content,
        delimiter=delimiter,
        quoting=quoting,  # type: ignore[arg-type]  # the stubs want a literal
    )
    writer.writerows([("Before", "Id", "After"), *rows])
    assert ids_of(content.getvalue()) == list(dict.fromkeys(order_id for _, order_id, _ in rows))


@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.text(st.sampled_from("0123456789,;\t\"'\n\r.eE+-#Id{}[]: \0é"), max_size=200).map(
            lambda text: f"Id,Name\n{text}".encode()
        ),
    ),
    suffix=st.sampled_from([".csv", ".jsonl"]),
)
def test_a_corrupt_file_yields_only_ids_that_it_contains(content: bytes, suffix: str) -> None:
    ids: list[int] = []
    with suppress(InvalidInput):
        ids = ids_of(content, suffix=suffix)
    numbers = re.findall(rb"[0-9]+", content)
    assert all(str(order_id).encode() in numbers for order_id in ids)
