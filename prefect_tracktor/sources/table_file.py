"""A file that holds a table: CSV or JSON Lines, read row by row, each cell with its place."""

import csv
import json
import lzma
import zlib
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple, TextIO
from urllib.parse import urlsplit

import fsspec  # type: ignore[import-untyped]  # it brings no types
from prefect.blocks.core import Block
from pydantic import Field, Secret, SecretStr, StringConstraints, field_validator

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.forms import BLOCK_CONFIG
from prefect_tracktor.sources.cells import is_order_id, shortened

_FORMATS: dict[str, Literal["csv", "jsonl"]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}
_DELIMITERS = ",;\t"

_EMPTY = "the file is empty; export it again"

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Cell(NamedTuple):
    """A value of a table, and where it stands.

    In CSV it is text without blanks around it; in JSON Lines anything, with numbers as the text
    that was written, since a float could lose digits of an id.

    Example:
        >>> Cell("plan.csv, line 2, column status", "Sewing").value
        'Sewing'
    """

    place: str
    value: object


Row = dict[str, Cell]


class TableFile(Block, ABC):
    r"""What the blocks that read a table from a file have in common.

    Attributes:
        path: Where the file is.
        format: How to read the file.
        encoding: How the file's text is encoded.
        storage_options: What the storage needs to be opened, such as keys: a JSON object.

    Example:
        >>> storage = fsspec.filesystem("memory")
        >>> storage.pipe("/plan.csv", b"order_id;status\n5001;Sewing")
        >>> for row in TableFile(path="memory://plan.csv").rows(["status"]):
        ...     print(row["status"])
        Cell(place='plan.csv, line 2, column status', value='Sewing')
    """

    model_config = BLOCK_CONFIG

    path: Text = Field(
        title="Path",
        description="A path on the machine that runs the flow, or an address such as"
        " s3://bucket/orders.csv; the package for the storage (s3fs, gcsfs, adlfs and so on)"
        " must be installed there.",
        examples=["/data/orders_export.csv", "s3://bucket/orders.jsonl.gz"],
    )
    format: Literal["auto", "csv", "jsonl"] = Field(
        default="auto",
        title="Format",
        description="How to read the file; auto goes by the suffix of its name: .csv, .tsv, .jsonl"
        " or .ndjson, each also with .gz, .bz2 or .xz after it.",
    )
    encoding: Text = Field(
        default="utf-8-sig",
        title="Encoding",
        description="How the text is encoded: utf-8-sig reads UTF-8 with and without a mark at "
        "its start; older spreadsheets write cp1252 or utf-16.",
    )

    # text, not SecretDict: a form shows a secret object as asterisks, and refuses these as no JSON
    storage_options: SecretStr = Field(
        default=SecretStr(""),
        title="Storage options",
        description='What the storage asks for, as a JSON object, such as {"key": "...", "secret":'
        ' "..."} for S3; empty where it asks for nothing.',
    )

    @field_validator("encoding")
    @classmethod
    def _is_a_text_encoding(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError:
            raise ValueError("not a text encoding that Python knows; try utf-8-sig") from None
        return encoding

    @field_validator("storage_options", mode="before")
    @classmethod
    def _mapping_as_text(cls, options: object) -> object:
        """Programs give a mapping, and so do documents that were saved when this was one."""
        value = options.get_secret_value() if isinstance(options, Secret) else options
        if not isinstance(value, dict):
            return options
        try:
            return json.dumps(value)
        except TypeError:
            raise ValueError("holds what JSON cannot; give text, numbers and the like") from None

    @field_validator("storage_options")
    @classmethod
    def _text_is_an_object(cls, options: SecretStr) -> SecretStr:
        text = options.get_secret_value()
        try:
            is_object = not text.strip() or isinstance(json.loads(text), dict)
        except ValueError:
            is_object = False
        if not is_object:
            raise ValueError('must be a JSON object such as {"key": "..."}, or empty')
        return SecretStr(text.strip())

    def rows(self, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Row]:
        """Read the table row by row.

        Args:
            columns: The columns, or keys in JSON Lines, that must be there.
            optional: Those that may be there.

        Returns:
            Each row's cells by column, while they are asked for; a JSON line that is no object is
            the cell of the one column asked for.

        Raises:
            InvalidInput: The file, its header or a line cannot be read for sure. The message
                names the file, the line, and what to do.
        """
        name = _name_of(self.path)
        read = _csv_rows if self._format_of(name) == "csv" else _json_rows
        with self._opened(name) as stream:
            yield from read(_Lines(stream, name, block=type(self).__name__), columns, optional)

    def _format_of(self, name: str) -> Literal["csv", "jsonl"]:
        if self.format != "auto":
            return self.format
        path = PurePosixPath(name.lower())
        suffix = PurePosixPath(path.stem).suffix if path.suffix in _COMPRESSIONS else path.suffix
        if suffix not in _FORMATS:
            raise InvalidInput(
                f"{name}: the suffix {suffix!r} tells neither CSV nor JSON Lines; "
                f"set `format` of the {type(self).__name__} to csv or jsonl"
            )
        return _FORMATS[suffix]

    @contextmanager
    def _opened(self, name: str) -> Iterator[TextIO]:
        try:
            stream: TextIO = fsspec.open(
                self.path,
                "rt",
                compression=_COMPRESSIONS.get(PurePosixPath(name.lower()).suffix),
                encoding=self.encoding,
                newline="",  # as the csv module asks
                **json.loads(self.storage_options.get_secret_value() or "{}"),
            ).open()
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise InvalidInput(
                f"{_place_of(self.path)}: cannot be opened ({type(error).__name__}); check"
                f" `path` of the {type(self).__name__}, as seen from the machine that runs the flow"
            ) from None
        except (ImportError, ValueError) as error:
            raise InvalidInput(
                f"{name}: cannot be opened ({type(error).__name__}); install the fsspec package for"
                f" the address in `path` of the {type(self).__name__}, such as s3fs or gcsfs"
            ) from None
        with stream:
            yield stream


class _Lines(Iterator[str]):
    """The lines of a text file, and the errors that point at one."""

    def __init__(self, stream: TextIO, name: str, *, block: str) -> None:
        self.block = block
        self._stream = stream
        self._name = name
        self._number = 0

    def __next__(self) -> str:
        try:
            line = next(self._stream)
        except UnicodeDecodeError as error:
            # no whole line was left before the part that cannot be decoded
            number = self._number + 1 + error.object[: error.start].count(b"\n")
            raise self.refusal(number, _not_decoded(error, self.block)) from None
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            problem = f"the file is damaged or cut off here ({type(error).__name__}); copy it again"
            raise self.refusal(self._number + 1, problem) from None
        self._number += 1
        if "\0" in line:
            raise self.refusal(
                self._number,
                "a NUL character, which no text holds; if a spreadsheet wrote the file, "
                f"set `encoding` of the {self.block} to utf-16",
            )
        return line

    def refusal(self, line: int, problem: str, column: str = "") -> InvalidInput:
        """The error for a line, ready to be raised."""
        return InvalidInput(f"{self.place(line, column)}: {problem}")

    def place(self, line: int, column: str = "") -> str:
        """How to name a line, or a cell in it."""
        return f"{self._name}, line {line}" + (f", column {column}" if column else "")


def _not_decoded(error: UnicodeDecodeError, block: str) -> str:
    return (
        f"the byte 0x{error.object[error.start]:02x} is not {error.encoding}; "
        f"set `encoding` of the {block}, for example to cp1252 or utf-16, or save as UTF-8"
    )


def _csv_rows(lines: _Lines, columns: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    """The rows of a CSV file; a cell's place is the line that it is on."""
    first = next(lines, None)
    if first is None:
        raise lines.refusal(1, _EMPTY)
    records = _csv_records(first, lines, columns)
    _, header = next(records)
    indices = _indices(columns, optional, header, lines=lines, line=1)
    for line, record in records:
        if any(map(str.strip, record[len(header) :])):
            problem = f"{len(record)} cells, but the header has {len(header)}; mend the line"
            raise lines.refusal(line, problem)
        yield {
            column: Cell(
                lines.place(line + _line_breaks(record[:index]), column), _cell(record, index)
            )
            for column, index in indices.items()
        }


def _csv_records(
    first: str, others: _Lines, columns: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line that it starts on."""
    # strict: a quote that is never closed would otherwise swallow the rest of the file
    reader = csv.reader(
        chain([first], others), delimiter=_delimiter_of(first, columns), strict=True
    )
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"not well-formed CSV from here on ({error}); mend the quotes"
            raise others.refusal(line, problem) from None
        if line == 1 or any(map(str.strip, row)):
            yield line, row


def _delimiter_of(header: str, columns: Sequence[str]) -> str:
    """What sets the most of the wanted columns apart; else what makes the most of the header."""

    def cells(delimiter: str) -> list[str]:
        try:
            return next(csv.reader([header], delimiter=delimiter))
        except csv.Error:
            return []

    def wanted(delimiter: str) -> int:
        return sum(bool(column_positions(column, cells(delimiter))) for column in columns)

    return max(_DELIMITERS, key=lambda mark: (wanted(mark), len(cells(mark))))


def _cell(row: Sequence[str], index: int) -> str:
    """A cell; spreadsheets leave out the blank ones at the end of a row."""
    return row[index].strip() if index < len(row) else ""


def _line_breaks(cells: Sequence[str]) -> int:
    text = "|".join(cells)
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _json_rows(lines: _Lines, columns: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    """The objects of JSON Lines, each on its line."""
    line = 0
    for line, text in enumerate(lines, start=1):
        if text.strip():
            yield _json_row(text, lines, line, columns, optional)
    if line == 0:
        raise lines.refusal(1, _EMPTY)


def _json_row(
    text: str, lines: _Lines, line: int, columns: Sequence[str], optional: Sequence[str]
) -> Row:
    try:
        # numbers as they are written: a float could have lost digits
        entry = json.loads(
            text,
            parse_int=str,
            parse_float=str,
            parse_constant=str,
            object_pairs_hook=_without_doubles,
        )
    except _DoubleKeyError as double:
        raise lines.refusal(line, str(double)) from None
    except (ValueError, RecursionError):
        problem = "not JSON; JSON Lines holds one whole object on each line"
        raise lines.refusal(line, problem) from None
    if isinstance(entry, dict):
        names = list(entry)
        indices = _indices(columns, optional, names, lines=lines, line=line)
        return {
            column: Cell(lines.place(line, column), entry[names[index]])
            for column, index in indices.items()
        }
    if len(columns) > 1:
        problem = f"no JSON object; each line must hold one with the keys {_quoted(columns)}"
        raise lines.refusal(line, problem)
    return {columns[0]: Cell(lines.place(line, columns[0]), entry)}


class _DoubleKeyError(ValueError):
    """An object has a key twice, and it is not clear which value is meant."""


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in keys if keys.count(key) > 1)
        raise _DoubleKeyError(f"the key {shortened(double)!r} is there twice; take one out")
    return entries


def column_positions(wanted: str, names: Sequence[str]) -> list[int]:
    """Find a column by its exact name, else in any letter case and with any blanks in it.

    Args:
        wanted: The column's name.
        names: The names that there are.

    Returns:
        Its positions: one if it is there, more if it is not clear which is meant.

    Example:
        >>> column_positions("order_id", ["Name", "Order Id"])
        [1]
    """
    stripped = [name.strip() for name in names]
    exact = [index for index, name in enumerate(stripped) if name == wanted]
    return exact or [
        index for index, name in enumerate(stripped) if _folded(name) == _folded(wanted)
    ]


def _folded(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _indices(
    columns: Sequence[str],
    optional: Sequence[str],
    names: Sequence[str],
    *,
    lines: _Lines,
    line: int,
) -> Mapping[str, int]:
    """Where the columns are that are wanted, and those of the optional ones that are there."""
    there = [column for column in optional if column_positions(column, names)]
    return {
        column: _index_of(column, names, lines=lines, line=line) for column in (*columns, *there)
    }


def _index_of(wanted: str, names: Sequence[str], *, lines: _Lines, line: int) -> int:
    positions = column_positions(wanted, names)
    if len(positions) == 1:
        return positions[0]
    if positions:
        problem = f"the column {wanted!r} is there {len(positions)} times; rename all but one"
    elif any("@" in name or is_order_id(name.strip()) for name in names):
        problem = f"values where the header must be; add a header line with the column {wanted!r}"
    else:
        problem = f"no column {wanted!r}; {_known_columns(wanted, names, lines.block)}"
    raise lines.refusal(line, problem)


def _known_columns(wanted: str, names: Sequence[str], block: str) -> str:
    shown = {name.strip().casefold(): shortened(name.strip()) for name in names}
    nearest = get_close_matches(wanted.casefold(), shown, n=1, cutoff=0.4)
    hint = f" (the nearest is {shown[nearest[0]]!r})" if nearest else ""
    columns = ", ".join(map(repr, shown.values())) or "none"
    return f"name one of those there in the {block}: {columns}{hint}"


def _quoted(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names))


def _name_of(path: str) -> str:
    """The file's name, without what a signed web address holds."""
    if path.startswith(("http://", "https://")):
        path = urlsplit(path).path
    return PurePosixPath(path).name or "the file"


def _place_of(path: str) -> str:
    """The whole path of a local file; of an address the name only, since it can hold secrets."""
    return _name_of(path) if "://" in path else str(Path(path).expanduser().absolute())
