"""Table files at any address of fsspec: CSV that is safe in spreadsheets, or JSON Lines.

A file gets its final name once all of it is written: a killed run leaves no half file there.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Self
from uuid import uuid4

from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # it brings no types

from prefect_tracktor.errors import InvalidInput, replaced_errors
from prefect_tracktor.sources.files import place_of

Row = Mapping[str, Any]

# the start of a formula, after characters that spreadsheets ignore; in some of them, a semicolon,
# tab or line break within the text begins another cell
_FORMULA = re.compile(
    r"(^|[;\t\r\n])([\s\u0000-\u0020\u00ad\u200b-\u200f\ufeff\"]*)"
    r"(?=[=+\-@\uff1d\uff0b\uff0d\uff20])"
)
_CONTROL = re.compile(r"^(?=[\t\r\n])")


class TableFiles:
    """Files of tables, by address, that get their final names together when all are complete.

    An address that ends in .csv makes it a CSV file.
    """

    def __init__(self, columns: Mapping[str, Sequence[str]]) -> None:
        self._files: dict[str, _OpenFile] = {}
        with ExitStack() as stack:
            for address, names in columns.items():
                self._files[address] = _OpenFile(address, names)
                stack.callback(self._files[address].discard)
            self._stack = stack.pop_all()

    def write(self, address: str, row: Row) -> None:
        self._files[address].write(row)

    def finish(self) -> None:
        """Give all files their final names."""
        for file in self._files.values():
            file.close()
        for file in self._files.values():
            file.move()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class _OpenFile:
    """A file under a temporary name beside its final one."""

    def __init__(self, address: str, columns: Sequence[str]) -> None:
        # Exception: storages raise errors of their own
        self._errors = partial(replaced_errors, Exception, partial(_not_written, address))
        with self._errors():
            self._storage, self._path = url_to_fs(address)
            folder, slash, name = self._path.rpartition("/")
            self._temporary = f"{folder}{slash}.{name}.{uuid4().hex[:12]}.part"
            binary = self._storage.open(self._temporary, "wb")
        self._stream = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        is_csv = address.lower().endswith(".csv")
        self._write = _row_writer(self._stream, columns, is_csv=is_csv)

    def write(self, row: Row) -> None:
        with self._errors():
            self._write(row)

    def close(self) -> None:
        with self._errors():
            self._stream.close()

    def move(self) -> None:
        with self._errors():
            self._storage.mv(self._temporary, self._path)

    def discard(self) -> None:
        """Remove the file with the temporary name, if there is one."""
        for step in (self._stream.close, lambda: self._storage.rm_file(self._temporary)):
            with suppress(Exception):  # the storage may fail, or the file has its final name
                step()


def _row_writer(
    stream: io.TextIOBase, columns: Sequence[str], *, is_csv: bool
) -> Callable[[Row], Any]:
    if not is_csv:
        return lambda row: stream.write(
            json.dumps({name: _json(row.get(name)) for name in columns}, ensure_ascii=False) + "\n"
        )
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    return lambda row: writer.writerow([_cell(row.get(name)) for name in columns])


def csv_text(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Return a table as the text of a CSV file, safe for spreadsheets."""
    stream = io.StringIO()
    write = _row_writer(stream, columns, is_csv=True)
    for row in rows:
        write(row)
    return stream.getvalue()


def _json(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Decimal():
            return float(value)
    return value


def _cell(value: Any) -> Any:
    match value:
        case bool():
            return "true" if value else "false"
        case Decimal():
            return value
        case str():
            return safe_cell(value)
    return _json(value)


def safe_cell(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet could take for a formula."""
    return _CONTROL.sub("'", _FORMULA.sub(r"\1\2'", text))


def _not_written(address: str, error: Exception) -> InvalidInput:
    if isinstance(error, ImportError):
        remedy = "install the fsspec package for this kind of address, such as s3fs or gcsfs"
    elif isinstance(error, FileNotFoundError):
        remedy = "there is no such folder; create it, or correct the address"
    elif "://" in address:
        remedy = "check the address, the credentials, and whether you may write there"
    else:
        remedy = "check the path, whether you may write there, and whether there is space left"
    kind = type(error).__name__
    return InvalidInput(f"{place_of(address)}: cannot be written ({kind}); {remedy}")
