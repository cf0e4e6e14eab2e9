"""Tables written to files wherever fsspec finds them: CSV that is safe in spreadsheets, JSON Lines.

A file gets its final name once all of it is written: a killed run leaves no half file there.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self
from uuid import uuid4

from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # it brings no types

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.sources.files import place_of

Row = Mapping[str, Any]

# what makes a cell a formula, behind characters that a spreadsheet leaves out; where a semicolon
# separates cells, and after a line break, another cell begins within the text
_FORMULA = re.compile(
    r"(^|[;\t\r\n])([\s\u0000-\u0020\u00ad\u200b-\u200f\ufeff\"]*)"
    r"(?=[=+\-@\uff1d\uff0b\uff0d\uff20])"
)
_CONTROL = re.compile(r"^(?=[\t\r\n])")


@dataclass(frozen=True, slots=True)
class TableFile:
    """Where a table is written to, and its columns; a name that ends in .csv makes it CSV."""

    address: str
    columns: Sequence[str]


class TableFiles:
    """Files of tables that appear together, once all are complete; else none does."""

    def __init__(self, files: Mapping[str, TableFile], *, storage_options: str = "") -> None:
        self._stack = ExitStack()
        self._files: dict[str, _OpenFile] = {}
        with self._stack:
            for name, file in files.items():
                opened = _OpenFile(file, storage_options)
                self._stack.callback(opened.discard)
                self._files[name] = opened
            self._stack = self._stack.pop_all()

    def write(self, name: str, row: Row) -> None:
        """Write a row into one of the files."""
        self._files[name].write(row)

    def finish(self) -> None:
        """Give all files their final names."""
        for file in self._files.values():
            file.close()
        for file in self._files.values():
            file.move()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not finished."""
        self._stack.close()


class _OpenFile:
    """A file under a temporary name beside its final one."""

    def __init__(self, file: TableFile, storage_options: str) -> None:
        self._file = file
        with self._problems_named():
            self._storage, self._path = url_to_fs(
                file.address, **json.loads(storage_options or "{}")
            )
            folder, slash, name = self._path.rpartition("/")
            self._temporary = f"{folder}{slash}.{name}.{uuid4().hex[:12]}.part"
            binary = self._storage.open(self._temporary, "wb")
        self._stream = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        self._write = _row_writer(self._stream, file)

    def write(self, row: Row) -> None:
        with self._problems_named():
            self._write(row)

    def close(self) -> None:
        with self._problems_named():
            self._stream.close()

    def move(self) -> None:
        with self._problems_named():
            self._storage.mv(self._temporary, self._path)

    def discard(self) -> None:
        """Remove what is there under the temporary name, if anything is."""
        for step in (self._stream.close, lambda: self._storage.rm_file(self._temporary)):
            with suppress(Exception):  # the storage may be away, or the file is in its place
                step()

    @contextmanager
    def _problems_named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  # storages raise errors of their own
            problem = _not_written(error, self._file.address)
        else:
            return
        # raised outside of the handler, whose error may repeat a secret of the address
        raise InvalidInput(problem)


def _row_writer(stream: io.TextIOBase, file: TableFile) -> Callable[[Row], Any]:
    columns = file.columns
    if not file.address.lower().endswith(".csv"):
        return lambda row: stream.write(
            json.dumps({name: _json(row.get(name)) for name in columns}, ensure_ascii=False) + "\n"
        )
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    return lambda row: writer.writerow([_cell(row.get(name)) for name in columns])


def csv_text(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """A table as the text of a CSV file, safe for spreadsheets."""
    stream = io.StringIO()
    write = _row_writer(stream, TableFile(".csv", columns))
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
    """Text that no spreadsheet takes for a formula: an apostrophe stands before what might be."""
    return _CONTROL.sub("'", _FORMULA.sub(r"\1\2'", text))


def _not_written(error: Exception, address: str) -> str:
    if isinstance(error, ImportError):
        remedy = "install the fsspec package for this kind of address, such as s3fs or gcsfs"
    elif isinstance(error, FileNotFoundError):
        remedy = "there is no such folder; create it, or correct the address"
    elif "://" in address:
        remedy = "check the address, the storage options, and whether you may write there"
    else:
        remedy = "check the path, whether you may write there, and whether there is space left"
    return f"{place_of(address)}: cannot be written ({type(error).__name__}); {remedy}"
