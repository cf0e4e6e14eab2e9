"""Compressed files, archives, encodings, and files that are not tables."""

import bz2
import codecs
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import fsspec  # type: ignore[import-untyped]  # it brings no types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor import InvalidInput, OrderFile, StatusFile
from prefect_tracktor.sources import lines, unpacking

EXPORT = b"Name,Id\n#1,5001\n#2,5002\n"


def zipped(files: Mapping[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("orders.csv")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def ids_of(content: bytes, name: str = "orders.csv", path: str = "", **fields: Any) -> list[int]:
    fsspec.filesystem("memory").pipe(f"/{name}", content)
    return list(OrderFile(path=path or f"memory://{name}", **fields).find_orders().order_ids)


def refusals_of(content: bytes, name: str = "orders.csv", path: str = "", **fields: Any) -> str:
    """Return the error of `OrderFile.verify`; that of a `StatusFile` must be the same."""
    fsspec.filesystem("memory").pipe(f"/{name}", content)
    messages = set()
    fields["path"] = path or f"memory://{name}"
    for block in (
        OrderFile(**fields),
        StatusFile(order_id_column="Id", status_column="Id", **fields),
    ):
        with pytest.raises(InvalidInput) as refused:
            block.verify()
        messages.add(str(refused.value).replace(type(block).__name__, "BLOCK"))
    assert len(messages) == 1
    return messages.pop()


def test_a_zipped_shopify_export_is_read() -> None:
    assert ids_of(zipped({"orders_export_1.csv": EXPORT}), "orders_export_1.zip") == [5001, 5002]


def test_the_parts_of_a_zipped_export_are_read_in_natural_order() -> None:
    packed = zipped(
        {
            "__MACOSX/._orders_2.csv": b"\0\5",
            "orders_10.csv": b"Name,Id\n#4,5004\n",
            "orders_2.csv": b"Name,Id\n#3,,\n#5,5005\n",
            "orders_1.csv": b"Name,Id\n#3,5003\n",
            "readme.md": b"two parts",
        }
    )
    assert ids_of(packed, "orders.zip") == [5003, 5005, 5004]


@pytest.mark.parametrize("other", ["b.xlsx", "b.csv.gz", "b.zip", "part/b.ODS"])
def test_an_archive_with_an_unreadable_table_is_rejected(other: str) -> None:
    packed = zipped({"a.csv": EXPORT, other: b"x"})
    message = refusals_of(packed, "orders.zip")
    assert message.startswith("orders.zip: the archive holds ")
    assert "b." in message


def test_an_error_names_the_file_within_the_archive() -> None:
    packed = zipped({"a.csv": b"Id\nx\n"})
    assert refusals_of(packed, "orders.zip").startswith("orders.zip/a.csv, line 2, column Id: ")


def test_a_zipped_status_file_is_read() -> None:
    packed = zipped({"plan.csv": "order_id;status\n5001;Nähen\n".encode("utf-16")})
    fsspec.filesystem("memory").pipe("/plan.zip", packed)
    [row] = StatusFile(path="memory://plan.zip").desired()
    assert row.desired.status == "Nähen"


@pytest.mark.parametrize(
    "path",
    [
        "zip://*.csv::memory://orders.zip",
        "zip://orders.csv::memory://orders.zip",
        "zip://orders.csv::simplecache::memory://orders.zip",
        "simplecache::memory://orders.zip",
        "memory://orders.z*",
    ],
)
def test_chained_addresses_and_patterns_are_opened(path: str) -> None:
    packed = zipped({"orders.csv": EXPORT})
    assert ids_of(packed, "orders.zip", path) == [5001, 5002]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("zip://*.csv::memory://orders.zip", "*.csv: 2 files match this pattern"),
        ("zip://c.csv::memory://orders.zip", "c.csv: cannot be opened (FileNotFoundError)"),
        ("memory://orders_*.csv", "orders_*.csv: no files match this pattern"),
        ("zip://*.csv::foo://me:s3cret@x", "*.csv: cannot be opened (ValueError); fsspec does"),
        ("reference://orders.csv", "orders.csv: cannot be opened (TypeError); check `path`"),
        (
            "foo://me:s3cret@host",
            "the file: cannot be opened (ValueError); fsspec does not know the storage",
        ),
        ("simplecache::http://127.0.0.1:1/o.csv?key=s3cret", "o.csv: cannot be opened ("),
        ("s3://bucket/orders.csv", "orders.csv: cannot be opened (ImportError); install the"),
    ],
)
def test_an_error_about_an_unusable_address_names_the_remedy(path: str, problem: str) -> None:
    packed = zipped({"a.csv": EXPORT, "b.csv": EXPORT})
    message = refusals_of(packed, "orders.zip", path)
    assert message.startswith(problem)
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (zipped({"[Content_Types].xml": "", "xl/workbook.xml": ""}), "an Excel workbook (.xlsx)"),
        (zipped({"META-INF/manifest.xml": "", "content.xml": ""}), "an OpenDocument spreadsheet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls)"),
        (b"  <!DOCTYPE html><title>Sign in</title>", "a web page, not a table, perhaps a page to"),
        ("<html>".encode("utf-16"), "a web page"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", "XML, not a table"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PAR1\x15", "a Parquet file"),
        (b"SQLite format 3\0", "an SQLite database"),
        (tarred(EXPORT), "a tar archive; unpack it"),
        (gzip.compress(tarred(EXPORT)), "a tar archive; unpack it"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07", "a RAR archive"),
        (b"PK\x07\x08", "a part of a split or damaged zip archive"),
        (zipped({}), "no CSV file and no JSON Lines are in this archive (in it: nothing)"),
        (
            zipped({"photo.png": b""}),
            "no CSV file and no JSON Lines are in this archive (in it: .p",
        ),
        (zipped({"a.csv": EXPORT})[:-30], "the file is damaged or cut off here (BadZipFile)"),
        (zipped({"inner.zip": zipped({})}), "it was packed twice"),
        (gzip.compress(gzip.compress(EXPORT)), "it was packed twice"),
        (b'[{"id": 5001}]', "JSON, not CSV; name the file .jsonl"),
        (b'{"id": 5001}\n{"id": 5002}\n', "JSON, not CSV; name the file .jsonl"),
        (b'"Name,Id"\n"#1,5001"\n', "each line is in quotes as a whole"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_a_file_of_another_kind_is_rejected_with_its_kind(content: bytes, problem: str) -> None:
    assert problem in refusals_of(content, "orders.csv")


def test_an_archive_with_a_password_is_rejected() -> None:
    packed = bytearray(zipped({"a.csv": EXPORT}))
    for header, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(header) + flags_at] |= 1
    assert "protected with a password" in refusals_of(bytes(packed), "orders.zip")


def test_a_zstandard_file_needs_the_package_zstandard() -> None:
    assert "install the package zstandard" in refusals_of(b"\x28\xb5\x2f\xfd\x04\x00")


@pytest.mark.parametrize(
    "content",
    [
        b'{"orders": [{"id": 5001}]}',
        b'[{"id": 5001}, {"id": 5002}]',
        b'{\n  "orders": [\n',
        b"[\n  5001,\n",
    ],
)
def test_an_error_about_a_json_document_shows_how_to_convert_it(content: bytes) -> None:
    assert "convert it, for example with: jq -c" in refusals_of(content, "orders.json")


def test_json_lines_may_have_the_suffix_json() -> None:
    assert ids_of(b'{"id": 5001}\n{"id": 5002}\n', "orders.json") == [5001, 5002]


@pytest.mark.parametrize(
    "content",
    ["Name|Id\n#1|5001\n", "sep=;\r\nName;Id\r\n#1;5001\r\n", '\n\n"Name";"Id"\n"#1";"5001"\n'],
)
def test_separators_of_spreadsheets_are_detected(content: str) -> None:
    assert ids_of(content.encode(), "orders.txt") == [5001]


def test_a_decompression_bomb_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unpacking, "_PLAUSIBLE_BYTES", 1_000_000)
    bomb = b"Id\n" + b" " * 20_000_000
    for name, packed in [
        ("orders.csv.gz", gzip.compress(bomb)),
        ("orders.csv.bz2", bz2.compress(bomb)),
        ("orders.csv.xz", lzma.compress(bomb)),
        ("orders.zip", zipped({"orders.csv": bomb})),
    ]:
        assert "when unpacked, which no export does" in refusals_of(packed, name)


def test_a_row_that_is_too_long_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_MAX_ROW_LENGTH", 10_000)
    header = b"Id\n"
    assert "line 2: a row of more than" in refusals_of(header + b"5" * 20_000)
    assert "a row of more than" in refusals_of(header + b'"a\n",' * 20_000)
    assert ids_of(b"\n" * 20_000 + b"Id\n" + b"\n" * 20_000 + b"5001\n") == [5001]


@pytest.mark.parametrize(
    "encoding",
    [
        *("punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined", "utf-7"),
        *("rot13", "base64_codec", "hex", "zlib_codec", "bz2_codec", "quopri", "uu"),
        *("cp037", "klingon", "a\0b", "é", "../x"),
    ],
)
@pytest.mark.parametrize("block", [OrderFile, StatusFile])
def test_a_block_with_a_codec_that_is_no_text_encoding_is_rejected(
    encoding: str, block: type[OrderFile | StatusFile]
) -> None:
    with pytest.raises(ValidationError, match="not a text encoding for files; try utf-8-sig"):
        block(path="orders.csv", encoding=encoding)


@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 2**63 - 1),
            st.text("abcdefäöüßéñ żółć 注文 Ω", max_size=8).map(
                lambda text: text.replace("\n", "")
            ),
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda row: row[0],
    ),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(
        ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]
    ),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    pack=st.sampled_from([bytes, gzip.compress, lambda data: zipped({"orders.csv": data})]),
)
def test_encoding_separator_and_compression_are_detected_from_the_content(
    rows: list[tuple[int, str]],
    delimiter: str,
    encoding: str,
    line_end: str,
    pack: Callable[[bytes], bytes],
) -> None:
    table = [("Name", "Id"), *((f"#{name}", str(order_id)) for order_id, name in rows)]
    text = "".join(delimiter.join(row) + line_end for row in table)
    # the header is ASCII; names in other scripts follow
    assert ids_of(pack(text.encode(encoding))) == [order_id for order_id, _ in rows]


def test_a_byte_order_mark_takes_precedence_over_the_set_encoding() -> None:
    for mark, encoding in [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_BE, "utf-16-be")]:
        content = mark + "Name;Id\né;5001\n".encode(encoding)
        assert ids_of(content, encoding="cp1252") == [5001]


def test_a_set_encoding_that_does_not_fit_the_file_is_rejected() -> None:
    message = refusals_of(EXPORT, encoding="utf-16")
    assert message == "orders.csv, line 1: not utf-16; set `encoding` of the BLOCK to utf-8-sig"


def test_a_file_truncated_within_a_character_is_rejected() -> None:
    for content in (EXPORT.decode().encode("utf-16")[:-1], EXPORT + "ü".encode()[:1]):
        with pytest.raises(InvalidInput, match="in the middle of a character; copy it again"):
            ids_of(content)


class StorageError(Exception):
    """An error of a storage."""


def test_a_storage_error_while_reading_is_reported_with_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 100_000:
                raise StorageError("https://storage.example/?key=s3cret")
            return super().read(size)

    content = b"Id\n" + b"".join(b"%d\n" % n for n in range(100_000, 200_000))
    storage = fsspec.filesystem("memory")
    storage.pipe("/orders.csv", content)
    monkeypatch.setattr(type(storage), "open", lambda *_args, **_options: Failing(content))
    with pytest.raises(
        InvalidInput, match=r"^orders.csv, line \d+: the storage failed \(StorageError\)"
    ):
        list(OrderFile(path="memory://orders.csv").find_orders().order_ids)


def test_an_archive_in_a_storage_without_seek_is_read_from_a_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Streamed(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_place: int) -> int:
            raise io.UnsupportedOperation("seek")

    packed = zipped({"orders.csv": EXPORT})
    storage = type(fsspec.filesystem("memory"))
    monkeypatch.setattr(storage, "open", lambda *_args, **_options: Streamed(packed))
    assert list(OrderFile(path="memory://orders.zip").find_orders().order_ids) == [5001, 5002]
