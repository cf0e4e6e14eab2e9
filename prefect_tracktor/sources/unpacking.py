"""Unpacking: compressed files and archives, and refusal of files without a table."""

import io
import lzma
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal, cast

from fsspec.compression import compr  # type: ignore[import-untyped]  # it brings no types

from prefect_tracktor.errors import InvalidInput, replaced_errors
from prefect_tracktor.text import shortened

FORMATS: dict[str, Literal["csv", "jsonl"]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
}

_HEAD = 4096
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}

_AS_CSV = 'open it, and save it as "CSV UTF-8"'
_PACKED_TWICE = "it was packed twice; unpack it once"
_UNPACK = "unpack it, or pack it as .zip or .gz"
_EXPORT = "export it as CSV"
_OTHER_KINDS = {
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook (.xls)", _AS_CSV),
    b"%PDF": ("a PDF document", _EXPORT),
    b"PAR1": ("a Parquet file", _EXPORT),
    b"SQLite format 3": ("an SQLite database", f"{_EXPORT}, or use a StatusQuery for statuses"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"Rar!": ("a RAR archive", _UNPACK),
    b"PK": ("a part of a split or damaged zip archive", "download it again as one file"),
}
# members of office programs' zip archives
_WORKBOOKS = {
    "xl/workbook.xml": "an Excel workbook (.xlsx)",
    "META-INF/manifest.xml": "an OpenDocument spreadsheet (.ods)",
}
_WEB_PAGE = re.compile(rb"<(!doctype html|html|head|body|title|script|meta|!--)")

# compression makes a table ten or thirty times smaller, and a decompression bomb far more
_PLAUSIBLE_BYTES = 100_000_000
_PLAUSIBLE_RATIO = 200
_MAX_IN_MEMORY = 10_000_000
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_ARCHIVES = {".zip", ".gz", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z", ".rar"}
_SPREADSHEETS = {".xlsx", ".xls", ".xlsb", ".ods", ".numbers"}
_HIDDEN = ("__MACOSX/", ".")


class PeekableStream(io.RawIOBase):
    """Stream whose first bytes can be read ahead; `check` gets the number of bytes read so far."""

    def __init__(self, stream: Any, check: Callable[[int], None] = lambda _size: None) -> None:
        super().__init__()
        self._stream = stream
        self._check = check
        self.size = 0
        self.head = b""
        self._left = b""
        while len(self.head) < _HEAD and (data := self._read(_HEAD - len(self.head))):
            self.head += data
        self._left, self.size = self.head, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        data, self._left = self._left[:size], self._left[size:]
        data = data or self._stream.read(size)
        self.size += len(data)
        self._check(self.size)
        return data


def tables_in(
    stream: BinaryIO, name: str, *, any_suffix: bool = False
) -> Iterator[tuple[str, PeekableStream]]:
    """Yield the tables in a file, each with its name."""
    # Exception: storages raise errors of their own
    with replaced_errors(Exception, partial(refusal, name)):
        file = PeekableStream(stream)
        if file.head.startswith(_ZIP):
            tables = _members(stream, file, name, any_suffix=any_suffix)
        elif opener := _decompressor(file.head, name):
            unpacked = opener(io.BufferedReader(file))
            table = PeekableStream(unpacked, lambda size: _refuse_bombs(size, file.size, name))
            tables = iter([(name, table)])
        else:
            tables = iter([(name, file)])
        for table_name, table in tables:
            if table.head.startswith(_ZIP) or _decompressor(table.head, table_name):
                raise InvalidInput(f"{table_name}: {_PACKED_TWICE}")
            _refuse_other_kinds(table.head, table_name)
            yield table_name, table


def refusal(place: str, error: Exception) -> InvalidInput:
    """Build the error for a file that cannot be read further."""
    kind = type(error).__name__
    if isinstance(error, NotImplementedError):
        problem = "packed in a way that Python cannot read; pack it again as an ordinary .zip"
    elif isinstance(error, _DAMAGED) or (isinstance(error, OSError) and error.errno is None):
        problem = f"the file is damaged or cut off here ({kind}); copy it again"
    else:
        problem = f"the storage failed ({kind}); run it again, or copy the file here first"
    return InvalidInput(f"{place}: {problem}")


def _decompressor(head: bytes, name: str) -> Callable[[BinaryIO], Any] | None:
    kind = next((kind for mark, kind in _COMPRESSIONS.items() if head.startswith(mark)), None)
    if kind == "zstd" and kind not in compr:
        raise InvalidInput(
            f"{name}: compressed with Zstandard; install the package zstandard where the flow"
            " runs, or pack it as .gz"
        )
    return cast("Callable[[BinaryIO], Any]", compr[kind]) if kind else None


def _members(
    stream: BinaryIO, file: PeekableStream, name: str, *, any_suffix: bool
) -> Iterator[tuple[str, PeekableStream]]:
    with tempfile.SpooledTemporaryFile(_MAX_IN_MEMORY) as copy:
        packed_file = stream if stream.seekable() else copy
        if packed_file is copy:
            shutil.copyfileobj(cast("BinaryIO", file), copy)
        archive = zipfile.ZipFile(packed_file)
        members = _tables_among(archive.infolist(), name, any_suffix=any_suffix)
        size = sum(member.file_size for member in members)
        _refuse_bombs(size, packed_file.seek(0, io.SEEK_END), name)
        for member in members:
            with archive.open(member) as packed:
                yield f"{name}/{_shown(member)}", PeekableStream(packed)


def _tables_among(
    members: list[zipfile.ZipInfo], name: str, *, any_suffix: bool
) -> list[zipfile.ZipInfo]:
    for member in members:
        if kind := _WORKBOOKS.get(member.filename):
            raise InvalidInput(f"{name}: {kind}; {_AS_CSV}")
    files = [member for member in members if not member.is_dir() and not _is_hidden(member)]
    tables = [file for file in files if any_suffix or _suffix(file) in FORMATS]
    if not tables and any(_suffix(file) in _ARCHIVES for file in files):
        raise InvalidInput(f"{name}: {_PACKED_TWICE}")
    # leaving one out would leave out its orders
    if unread := [file for file in files if _suffix(file) in _ARCHIVES | _SPREADSHEETS]:
        raise InvalidInput(
            f"{name}: the archive holds {_shown(unread[0])}, which cannot be read; take it out, or"
            " replace it with its CSV export"
        )
    if not tables:
        found = ", ".join(sorted({_suffix(file) or "no suffix" for file in files})) or "nothing"
        raise InvalidInput(
            f"{name}: no CSV file and no JSON Lines are in this archive (in it: {found}); pack the"
            " export itself"
        )
    if any(table.flag_bits & 1 for table in tables):
        raise InvalidInput(f"{name}: protected with a password; unpack it, and pack it without one")
    return sorted(tables, key=_in_natural_order)


def _is_hidden(member: zipfile.ZipInfo) -> bool:
    return member.filename.startswith(_HIDDEN) or PurePosixPath(member.filename).name[:1] == "."


def _suffix(member: zipfile.ZipInfo) -> str:
    path = PurePosixPath(member.filename.lower())
    return path.suffix if path.suffix.isascii() else ""


def _in_natural_order(member: zipfile.ZipInfo) -> list[tuple[int, str]]:
    """`orders_2.csv` before `orders_10.csv`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", member.filename)
    return [(int(part[:18]) if part[0] in "0123456789" else -1, part) for part in parts]


def _shown(member: zipfile.ZipInfo) -> str:
    name = PurePosixPath(member.filename).name
    return shortened("".join(filter(str.isprintable, name)), length=40)


def _refuse_bombs(size: int, packed: int, name: str) -> None:
    if size > _PLAUSIBLE_BYTES and size > _PLAUSIBLE_RATIO * packed:
        raise InvalidInput(
            f"{name}: {packed:,} bytes become more than {size:,} when unpacked, which no export"
            " does; get it again from where it comes, or unpack it yourself"
        )


def _refuse_other_kinds(head: bytes, name: str) -> None:
    found = next((kind for mark, kind in _OTHER_KINDS.items() if head.startswith(mark)), None)
    text = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").lower()
    if head[257:262] == b"ustar":
        found = "a tar archive", _UNPACK
    elif _WEB_PAGE.match(text):
        found = (
            "a web page, not a table, perhaps a page to sign in",
            "use an address that needs no login, or download the export itself",
        )
    elif text.startswith(b"<"):
        found = "XML, not a table", _EXPORT
    if found:
        raise InvalidInput(f"{name}: {found[0]}; {found[1]}")
