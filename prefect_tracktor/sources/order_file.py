"""Order ids from a file: the export of a shop, of a warehouse or of a spreadsheet."""

import csv
import json
import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, TextIO
from urllib.parse import urlsplit

import fsspec  # type: ignore[import-untyped]  # it brings no types
from prefect.blocks.core import Block
from prefect.types import SecretDict
from pydantic import Field, HttpUrl, StringConstraints, field_validator

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.masking import redact

_FORMATS: dict[str, Literal["csv", "jsonl"]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}
_DELIMITERS = ",;\t"

# Shopify repeats an order's name on each of its lines, and gives its id on the first one only.
_ORDER_NAME_COLUMN = "Name"

# A plain number, and what spreadsheets and Shopify's bulk exports make of it.
_ORDER_ID = re.compile(r"'?(?:gid://shopify/Order/)?([1-9][0-9]{0,18})(\.0+)?")
_SCIENTIFIC = re.compile(r"'?[+-]?[0-9]+([.,][0-9]+)?[eE][+-]?[0-9]+")
_BITS_OF_AN_ID = 63
_BITS_OF_A_FLOAT = 53

_SHOWN_AT_MOST = 40
_READ_OF_A_VALUE = 200
_EMPTY = "the file is empty; export it again"

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class OrderFile(Block):
    """The ids of a shop's orders, read from a file.

    The file is a CSV file, such as the orders export of Shopify as it comes, or holds JSON Lines.
    It is streamed and each order is named once, so that a file of any length can be read; what
    has been named takes about 100 MB per million orders. Whatever is not surely an order id is
    refused with its place, never guessed.

    A CSV file has a header line, and commas, semicolons or tabs between its cells. A line of
    JSON Lines is an object, or the id alone.

    Attributes:
        path: Where the file is.
        column: The CSV column, or the key in JSON Lines, that holds the order id.
        format: How to read the file.
        storage_options: What the storage needs to be opened, such as keys.
        encoding: How the file's text is encoded.

    Example:
        Read the orders of an export:
        ```python
        from prefect_tracktor import OrderFile

        order_file = OrderFile.load("BLOCK_NAME")
        for order_id in order_file.order_ids():
            print(order_id)
        ```
    """

    _block_type_name = "Tracktor Order File"
    _block_type_slug = "tracktor-order-file"
    _documentation_url = HttpUrl("https://www.theshoppad.com/apps/tracktor/api/docs")

    path: _Text = Field(
        title="Path",
        description="A path, or an address such as s3://bucket/orders.csv or "
        "https://host/orders.csv.gz; the package for the storage (s3fs, gcsfs, adlfs and so on) "
        "must be installed where the flow runs.",
        examples=["~/orders_export.csv", "s3://bucket/orders.jsonl.gz"],
    )
    column: _Text = Field(
        default="Id",
        title="Column",
        description="The CSV column, or the key in JSON Lines, that holds the Shopify order id.",
    )
    format: Literal["auto", "csv", "jsonl"] = Field(
        default="auto",
        title="Format",
        description="How to read the file; auto goes by the suffix, below .gz, .bz2 or .xz.",
    )
    storage_options: SecretDict = Field(
        default_factory=lambda: SecretDict({}),
        title="Storage Options",
        description="What the storage needs to be opened, such as keys, in the words of its "
        "fsspec implementation.",
    )
    encoding: _Text = Field(
        default="utf-8-sig",
        title="Encoding",
        description="How the text is encoded: utf-8-sig reads UTF-8 with and without a mark at "
        "its start; older spreadsheets write cp1252 or utf-16.",
    )

    @field_validator("encoding")
    @classmethod
    def _is_a_text_encoding(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except LookupError:
            raise ValueError("not a text encoding that Python knows; try utf-8-sig") from None
        return encoding

    def order_ids(self) -> Iterator[int]:
        r"""Name the orders in the file, each once, in the order of their first line.

        Returns:
            The ids, read while they are asked for.

        Raises:
            InvalidInput: The file, its header or a line cannot be read for sure. The message
                names the file, the line, and what to do.

        Example:
            >>> storage = fsspec.filesystem("memory")
            >>> storage.pipe("/export.csv", b"Name,Id,Item\n#1,5001,Mug\n#1,,Cup\n#2,5002,Mug")
            >>> list(OrderFile(path="memory://export.csv").order_ids())
            [5001, 5002]
        """
        name = _name_of(self.path)
        entries = _csv_entries if self._format_of(name) == "csv" else _json_entries
        seen: set[int] = set()
        with self._opened(name) as stream:
            lines = _Lines(stream, name)
            for line, value in entries(lines, self.column):
                try:
                    order_id = _order_id(value)
                except ValueError as problem:
                    raise lines.refusal(line, str(problem), column=self.column) from None
                if order_id not in seen:
                    seen.add(order_id)
                    yield order_id

    def _format_of(self, name: str) -> Literal["csv", "jsonl"]:
        if self.format != "auto":
            return self.format
        path = PurePosixPath(name.lower())
        suffix = PurePosixPath(path.stem).suffix if path.suffix in _COMPRESSIONS else path.suffix
        if suffix not in _FORMATS:
            raise InvalidInput(
                f"{name}: the suffix {suffix!r} tells neither CSV nor JSON Lines; "
                "set `format` of the OrderFile to csv or jsonl"
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
                **self.storage_options.get_secret_value(),
            ).open()
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise InvalidInput(
                f"{_place_of(self.path)}: cannot be opened ({type(error).__name__}); "
                "check `path` of the OrderFile, as seen from the machine that runs the flow"
            ) from None
        with stream:
            yield stream


class _Lines(Iterator[str]):
    """The lines of a text file, and the errors that point at one."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._number = 0

    def __next__(self) -> str:
        try:
            line = next(self._stream)
        except UnicodeDecodeError as error:
            # no whole line was left before the part that cannot be decoded
            number = self._number + 1 + error.object[: error.start].count(b"\n")
            raise self.refusal(number, _not_decoded(error)) from None
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
                "set `encoding` of the OrderFile to utf-16",
            )
        return line

    def refusal(self, line: int, problem: str, *, column: str = "") -> InvalidInput:
        """The error for a line, ready to be raised."""
        place = f"{self._name}, line {line}" + (f", column {column}" if column else "")
        return InvalidInput(f"{place}: {problem}")


def _not_decoded(error: UnicodeDecodeError) -> str:
    return (
        f"the byte 0x{error.object[error.start]:02x} is not {error.encoding}; "
        "set `encoding` of the OrderFile, for example to cp1252 or utf-16, or save as UTF-8"
    )


def _csv_entries(lines: _Lines, column: str) -> Iterator[tuple[int, str]]:
    """The id cells with the lines that they are on, without an order's further lines."""
    first = next(lines, None)
    if first is None:
        raise lines.refusal(1, _EMPTY)
    rows = _csv_rows(first, lines, column)
    _, header = next(rows)
    index = _index_of(column, header, lines=lines, line=1)
    name_index = header.index(_ORDER_NAME_COLUMN) if _ORDER_NAME_COLUMN in header else len(header)
    name = ""
    for line, row in rows:
        if any(map(str.strip, row[len(header) :])):
            problem = f"{len(row)} cells, but the header has {len(header)}; mend the line"
            raise lines.refusal(line, problem)
        value = _cell(row, index)
        name_before, name = name, _cell(row, name_index)
        if value or not name or name != name_before:
            yield line + _line_breaks(row[:index]), value


def _csv_rows(first: str, others: _Lines, column: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line that it starts on."""
    # strict: a quote that is never closed would otherwise swallow the rest of the file
    reader = csv.reader(chain([first], others), delimiter=_delimiter_of(first, column), strict=True)
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


def _delimiter_of(header: str, column: str) -> str:
    """What sets the wanted column apart; else what makes the most of the header."""

    def cells(delimiter: str) -> list[str]:
        try:
            return next(csv.reader([header], delimiter=delimiter))
        except csv.Error:
            return []

    return max(
        _DELIMITERS, key=lambda mark: (bool(_positions(column, cells(mark))), len(cells(mark)))
    )


def _cell(row: Sequence[str], index: int) -> str:
    """A cell; spreadsheets leave out the blank ones at the end of a row."""
    return row[index].strip() if index < len(row) else ""


def _line_breaks(cells: Sequence[str]) -> int:
    text = "|".join(cells)
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _json_entries(lines: _Lines, column: str) -> Iterator[tuple[int, object]]:
    """The id of each object, or each entry that is no object, with the line that it is on."""
    line = 0
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            # numbers as they are written: a float could have lost digits
            entry = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError):
            problem = "not JSON; JSON Lines holds one whole object on each line"
            raise lines.refusal(line, problem) from None
        if isinstance(entry, dict):
            keys = list(entry)
            entry = entry[keys[_index_of(column, keys, lines=lines, line=line)]]
        yield line, entry
    if line == 0:
        raise lines.refusal(1, _EMPTY)


def _positions(wanted: str, names: Sequence[str]) -> list[int]:
    """Where a column is: by its exact name, else in any letter case."""
    stripped = [name.strip() for name in names]
    exact = [index for index, name in enumerate(stripped) if name == wanted]
    return exact or [
        index for index, name in enumerate(stripped) if name.casefold() == wanted.casefold()
    ]


def _index_of(wanted: str, names: Sequence[str], *, lines: _Lines, line: int) -> int:
    positions = _positions(wanted, names)
    if len(positions) == 1:
        return positions[0]
    if positions:
        problem = f"the column {wanted!r} is there {len(positions)} times; rename all but one"
    elif any("@" in name or _ORDER_ID.fullmatch(name.strip()) for name in names):
        problem = f"values where the header must be; add a header line with the column {wanted!r}"
    else:
        problem = f"no column {wanted!r}; {_known_columns(wanted, names)}"
    raise lines.refusal(line, problem)


def _known_columns(wanted: str, names: Sequence[str]) -> str:
    shown = {name.strip().casefold(): _cut(name.strip()) for name in names}
    nearest = get_close_matches(wanted.casefold(), shown, n=1, cutoff=0.4)
    hint = f" (the nearest is {shown[nearest[0]]!r})" if nearest else ""
    columns = ", ".join(map(repr, shown.values())) or "none"
    return f"set `column` of the OrderFile to one of those there: {columns}{hint}"


def _order_id(value: object) -> int:
    """Read what is surely an order id.

    Raises:
        ValueError: It is not; the message says why and what to do.
    """
    text = value.strip() if isinstance(value, str) else ""
    match = _ORDER_ID.fullmatch(text)
    if match is None:
        raise ValueError(_why_not(value, text))
    order_id, exact_bits = int(match[1]), _BITS_OF_A_FLOAT if match[2] else _BITS_OF_AN_ID
    if order_id.bit_length() > exact_bits:
        raise ValueError(f"{text!r} is too large for an order id; correct it")
    return order_id


def _why_not(value: object, text: str) -> str:
    if value is None or value == "":
        return (
            "no order id; add it, or take the line out (only the further lines of an order in a "
            f"CSV file, with its name repeated in the column {_ORDER_NAME_COLUMN!r}, go without)"
        )
    if _SCIENTIFIC.fullmatch(text):
        return (
            f"{_abridged(text)!r} may have lost digits in a spreadsheet; give the column the "
            "format text (or number without decimals) there and export again"
        )
    shown = repr(_abridged(text)) if isinstance(value, str) else f"a {type(value).__name__}"
    return (
        f"{shown} is not an order id; it is a positive whole number (not the order's name such "
        "as #1001): correct it, or set `column` of the OrderFile to where the ids are"
    )


def _abridged(text: str) -> str:
    """Enough to find a value again, and little of a customer's data if the column is wrong."""
    first, *others = _cut(text).split(maxsplit=1) or [""]
    return f"{first} …" if others else first


def _cut(text: str) -> str:
    shown = redact(text[:_READ_OF_A_VALUE])
    return shown if len(shown) <= _SHOWN_AT_MOST else shown[:_SHOWN_AT_MOST] + "…"


def _name_of(path: str) -> str:
    """The file's name, without what a signed web address holds."""
    if path.startswith(("http://", "https://")):
        path = urlsplit(path).path
    return PurePosixPath(path).name or "the file"


def _place_of(path: str) -> str:
    """The whole path of a local file; of an address the name only, since it can hold secrets."""
    return _name_of(path) if "://" in path else str(Path(path).expanduser().absolute())
