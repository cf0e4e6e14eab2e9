"""Table files: CSV or JSON Lines, read row by row, each cell with its place."""

import csv
import json
import re
from abc import ABC
from collections.abc import Callable, Generator, Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache, partial
from itertools import chain
from pathlib import PurePosixPath
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, field_validator

from prefect_tracktor.block import TracktorBlock
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.sources.cells import is_order_id
from prefect_tracktor.sources.files import opened
from prefect_tracktor.sources.lines import Lines, checked_encoding, text_of
from prefect_tracktor.sources.unpacking import FORMATS, tables_in
from prefect_tracktor.text import shortened

T = TypeVar("T")

_COMPRESSIONS = {".gz", ".bz2", ".xz", ".zst"}
_DELIMITERS = ",;\t|"
# Excel's line before the header
_DELIMITER_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_JSON_START = re.compile(r'\s*(\{\s*("|\}|$)|\[\s*([\[{"\d\]]|$))')
_MAX_STATES = 100
_COLUMNS_SHOWN = 100
_NAME_LENGTH_SHOWN = 40
_WORDS_OF_HEADERS = frozenset(
    re.findall(
        "[a-z]+",
        "id ids order orders name number email status state stage date created updated total price"
        " amount currency sku item items product quantity customer phone address city country"
        " tracking carrier shipping note notes tags",
    )
)
_NUMBER = re.compile(r"#\s?\d|\d{4}")

_EMPTY = "the file is empty; export it again"
_BLANK = "the file has only blank lines; export it again"
_CUT_OFF = (
    "the last line has no line end and seems to be cut off ({}); copy the file again, or, if the"
    " line is whole, add a line end"
)
_ONE_DOCUMENT = (
    "one JSON document, not JSON Lines, which holds one whole object on each line; convert it, for"
    " example with: jq -c '.[]' orders.json > orders.jsonl (or '.orders[]')"
)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Row(NamedTuple):
    """Row of a table: its values by column, and a function that names a column's line."""

    values: dict[str, object]
    line: Callable[[str], str]

    def place(self, column: str) -> str:
        return f"{self.line(column)}, column {column}"

    def read(self, column: str, reader: Callable[[object], T]) -> T:
        """Parse a value with `reader`, which gets `None` for a missing column."""
        try:
            return reader(self.values.get(column))
        except InvalidInput as problem:
            raise InvalidInput(f"{self.place(column)}: {problem}") from None


def _no_column(_column: str) -> bool:
    return False


class Wanted(NamedTuple):
    """The columns to read: by name, or if they have a state or a fact of the order."""

    columns: Sequence[str]
    optional: Sequence[str] = ()
    is_state: Callable[[str], bool] = _no_column
    is_fact: Callable[[str], bool] = _no_column


class TableFile(TracktorBlock, ABC):
    """Base class of the blocks that read a table from a file.

    Attributes:
        path: A path on the machine that runs the flow, or an address such as
            s3://bucket/orders.csv; the package for the storage (s3fs, gcsfs, adlfs and so on) must
            be installed there.
        format: The format of the file; auto uses the suffix of its name, such as .csv, .txt, .jsonl
            or .json, also within .zip, .gz, .bz2 or .xz.
        encoding: The encoding of the text. UTF-16, and a file with a byte order mark, is detected;
            utf-8-sig reads UTF-8, and older spreadsheets write cp1252.
        storage_options: Options of the storage as a JSON object, such as {"key": "...", "secret":
            "..."} for S3; empty if it needs none.
    """

    path: Text = Field(examples=["/data/orders_export.csv", "s3://bucket/orders.jsonl.gz"])
    format: Literal["auto", "csv", "jsonl"] = "auto"
    encoding: Annotated[Text, AfterValidator(checked_encoding)] = "utf-8-sig"
    # text, not SecretDict: a form shows a secret object as asterisks, and refuses these as no JSON
    storage_options: SecretStr = SecretStr("")

    @field_validator("storage_options", mode="before")
    @classmethod
    def _is_a_json_object(cls, options: object) -> SecretStr:
        value = options.get_secret_value() if isinstance(options, SecretStr) else options
        try:
            text = json.dumps(value) if isinstance(value, dict) else str(value).strip()
            is_object = not text or isinstance(json.loads(text), dict)
        except (TypeError, ValueError):
            is_object = False
        if not is_object:
            raise ValueError('must be a JSON object such as {"key": "..."}, or empty')
        return SecretStr(text)

    def rows(self, wanted: Wanted) -> Generator[Row, None, None]:
        """Read the wanted columns row by row."""
        block = type(self).__name__
        with opened(self.path, self.storage_options.get_secret_value(), block) as (name, stream):
            for table, content in tables_in(stream, name, any_suffix=self.format != "auto"):
                read = _csv_rows if self._format_of(table) == "csv" else _json_rows
                with text_of(content, table, self.encoding, block) as text:
                    yield from read(Lines(text, table, block=block), wanted)

    def _format_of(self, name: str) -> Literal["csv", "jsonl"]:
        if self.format != "auto":
            return self.format
        path = PurePosixPath(name.lower())
        suffix = PurePosixPath(path.stem).suffix if path.suffix in _COMPRESSIONS else path.suffix
        if suffix not in FORMATS:
            raise InvalidInput(
                f"{name}: the suffix {suffix!r} is neither for CSV nor for JSON Lines; "
                f"set `format` of the {type(self).__name__} to csv or jsonl"
            )
        return FORMATS[suffix]


class _Header(NamedTuple):
    """The column names of a table, and the line that they are on."""

    names: Sequence[str]
    lines: Lines
    line: int
    may_be_values: bool = False

    def indices(self, wanted: Wanted) -> dict[str, int]:
        """Find the columns; only one with a fact may be there twice: the first counts."""
        names = dict.fromkeys(map(str.strip, self.names))
        optional = [column for column in wanted.optional if self._positions(column)]
        unique = [*filter(wanted.is_state, names), *wanted.columns, *optional]
        indices = {column: self._index(column) for column in unique}
        facts = [name for name in filter(wanted.is_fact, names) if name not in indices]
        return {name: self._positions(name)[0] for name in facts} | indices

    def _positions(self, column: str) -> list[int]:
        return column_positions(column, self.names)

    def _index(self, column: str) -> int:
        names, positions = self.names, self._positions(column)
        if len(positions) == 1:
            return positions[0]
        if positions:
            problem = f"the column {column!r} is there {len(positions)} times; rename all but one"
        elif len(names) == 1 and any(mark in names[0] for mark in _DELIMITERS):
            problem = f"no column {column!r}: each line is in quotes as a whole; export it again"
        elif self.may_be_values:
            problem = (
                f"no column {column!r} among the {len(names)} of the first line, which seems to"
                " hold values; add a header line, or set the column's name in the"
                f" {self.lines.block}"
            )
        else:
            problem = f"no column {column!r}; {self._known_columns(column)}"
        raise self.lines.refusal(self.line, problem)

    def _known_columns(self, column: str) -> str:
        names = map(str.strip, self.names[:_COLUMNS_SHOWN])
        shown = {name.casefold(): shortened(name, length=_NAME_LENGTH_SHOWN) for name in names}
        nearest = get_close_matches(column.casefold(), shown, n=1, cutoff=0.4)
        hint = f" (the nearest is {shown[nearest[0]]!r})" if nearest else ""
        columns = ", ".join(map(repr, shown.values())) or "none"
        return f"set the column in the {self.lines.block} to one of {columns}{hint}"


class _TruncationCheck:
    """Detects that the last row was cut off: it has no line end, and differs from the others."""

    def __init__(self, lines: Lines, *, cells: int) -> None:
        self._lines = lines
        self._cells = cells
        self._fewest = 0
        self._shortest_id = 0
        self._states: set[str] = set()

    def check(self, line: int, *, cells: int, last_id: str, last_state: str) -> None:
        """Refuse a row that seems cut off; of its last cell, one of both is given, if any."""
        length = len(last_id) if is_order_id(last_id) else 0
        if self._lines.is_unterminated and (why := self._difference(cells, length, last_state)):
            raise self._lines.refusal(line, _CUT_OFF.format(why))
        if last_state and len(self._states) < _MAX_STATES:
            self._states.add(last_state)
        self._fewest = min(self._fewest or cells, cells)
        self._shortest_id = min(self._shortest_id or length, length or self._shortest_id)

    def _difference(self, cells: int, id_length: int, state: str) -> str:
        # not a date in a column such as Cancelled at, of which a part is enough
        if state and self._states and not state[0].isdigit():
            if any(other.startswith(state) for other in self._states - {state}):
                return "it ends in a part of another line's status"
            if state not in self._states and not any(map(str.isdigit, state)):
                return "it ends in a status that no other line has"
        if cells < (self._fewest or self._cells):
            return "it has fewer cells than the others"
        return "its id is shorter than all others" if 0 < id_length < self._shortest_id else ""


def _csv_rows(lines: Lines, wanted: Wanted) -> Iterator[Row]:
    """Read the rows of a CSV file; a cell's place is its own line, which may not be its row's."""
    first, delimiter = _csv_start(lines, wanted.columns)
    records = _csv_records(first, lines, delimiter)
    at, header = next(records, (1, []))
    if not header:
        raise lines.refusal(1, _BLANK)
    indices = _Header(header, lines, at, may_be_values=_may_be_values(header)).indices(wanted)
    states = {index for column, index in indices.items() if wanted.is_state(column)}
    id_at = indices[wanted.columns[0]]
    truncation = _TruncationCheck(lines, cells=len(header))

    def line_of(line: int, record: list[str], column: str) -> str:
        return lines.place(line + _line_breaks(record[: indices[column]]))

    for line, record in records:
        if any(map(str.strip, record[len(header) :])):
            problem = f"{len(record)} cells, but the header has {len(header)}; correct the line"
            raise lines.refusal(line, problem)
        last, end = len(record) - 1, record[-1].strip()
        truncation.check(
            line,
            cells=len(record),
            last_id=end if last == id_at else "",
            last_state=end if last in states else "",
        )
        values: dict[str, object] = {name: _cell(record, index) for name, index in indices.items()}
        yield Row(values, partial(line_of, line, record))


def _csv_start(lines: Lines, columns: Sequence[str]) -> tuple[str, str]:
    """Return the first line of the header, and the delimiter."""
    first = lines.first_not_blank(empty=_EMPTY, blank=_BLANK)
    if _JSON_START.match(first):
        problem = f"JSON, not CSV; name the file .jsonl, or set `format` of the {lines.block}"
        raise lines.refusal(lines.number, problem)
    if given := _DELIMITER_LINE.fullmatch(first):
        return lines.first_not_blank(empty=_EMPTY, blank=_BLANK), given[1]
    return first, _delimiter_of(first, columns)


def _csv_records(first: str, others: Lines, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the header and the rows that are not blank, each with its first line's number."""
    before = others.number - 1
    # strict: a quote that is never closed would otherwise swallow the rest of the file
    reader = csv.reader(chain([first], others), delimiter=delimiter, strict=True)
    while True:
        line = before + reader.line_num + 1
        others.begin_row()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"not well-formed CSV from here on ({error}); correct the quotes"
            raise others.refusal(line, problem) from None
        if any(map(str.strip, row)):
            yield line, row


def _delimiter_of(header: str, columns: Sequence[str]) -> str:
    """Choose the delimiter that yields the most wanted columns, then the most columns."""

    def rank(delimiter: str) -> tuple[int, int]:
        try:
            cells = next(csv.reader([header], delimiter=delimiter))
        except csv.Error:
            return 0, 0
        return sum(bool(column_positions(column, cells)) for column in columns), len(cells)

    return max(_DELIMITERS, key=rank)


def _cell(row: Sequence[str], index: int) -> str:
    """Return a cell; spreadsheets leave out the blank ones at the end of a row."""
    return row[index].strip() if index < len(row) else ""


def _line_breaks(cells: Sequence[str]) -> int:
    text = "|".join(cells)
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _json_rows(lines: Lines, wanted: Wanted) -> Iterator[Row]:
    """Read the objects of JSON Lines."""
    truncation = _TruncationCheck(lines, cells=1)
    first = lines.first_not_blank(empty=_EMPTY, blank=_BLANK)
    first_line = lines.number
    for text in map(str.strip, chain([first], lines)):
        if text:
            row = _json_row(text, lines, wanted, is_first=lines.number == first_line)
            is_bare_id = text == row.values[wanted.columns[0]]
            last_id = text if is_bare_id else ""
            truncation.check(lines.number, cells=1, last_id=last_id, last_state="")
            yield row
        lines.begin_row()


def _json_row(text: str, lines: Lines, wanted: Wanted, *, is_first: bool) -> Row:
    line = lines.number
    try:
        # numbers as text: a float could lose digits
        entry = json.loads(
            text,
            parse_int=str,
            parse_float=str,
            parse_constant=str,
            object_pairs_hook=_unique_keys,
        )
    except InvalidInput as duplicate:
        raise lines.refusal(line, str(duplicate)) from None
    except (ValueError, RecursionError):
        problem = "not JSON; JSON Lines holds one whole object on each line"
        is_document = is_first and _JSON_START.match(text)
        raise lines.refusal(line, _ONE_DOCUMENT if is_document else problem) from None
    if is_first and _is_document(entry, wanted.columns):
        raise lines.refusal(line, _ONE_DOCUMENT)
    if isinstance(entry, dict):
        names = list(entry)
        indices = _Header(names, lines, line).indices(wanted)
        values = {column: entry[names[index]] for column, index in indices.items()}
    elif len(wanted.columns) > 1:
        keys = " and ".join(map(repr, wanted.columns))
        problem = f"no JSON object; each line must hold one with the keys {keys}"
        raise lines.refusal(line, problem)
    else:
        values = {wanted.columns[0]: entry}
    return Row(values, lambda _column: lines.place(line))


def _is_document(entry: object, columns: Sequence[str]) -> bool:
    """Whether the first line holds all rows: a list, or an object that has a list of them."""
    if isinstance(entry, list):
        return True
    return (
        isinstance(entry, dict)
        and not any(column_positions(column, list(entry)) for column in columns)
        and any(isinstance(value, list) and value for value in entry.values())
    )


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        duplicate = next(key for key in keys if keys.count(key) > 1)
        shown = shortened(duplicate, length=_NAME_LENGTH_SHOWN)
        raise InvalidInput(f"the key {shown!r} is there twice; take one out")
    return entries


def column_positions(wanted: str, names: Sequence[str]) -> list[int]:
    """Find a column by its exact name, or else by its letters and digits in any case."""
    stripped = [name.strip() for name in names]
    exact = [index for index, name in enumerate(stripped) if name == wanted]
    return exact or [index for index, name in enumerate(stripped) if folded(name) == folded(wanted)]


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """Return a column's name in the form by which names are compared."""
    return "".join(filter(str.isalnum, name.casefold())) or name


def _may_be_values(names: Sequence[str]) -> bool:
    """Whether the first line may hold a customer's data, as the file has no header."""
    words = {word for name in names for word in re.findall("[a-z]+", name.casefold())}
    return not words & _WORDS_OF_HEADERS or any(map(_looks_like_a_value, names))


def _looks_like_a_value(name: str) -> bool:
    return "@" in name or is_order_id(name.strip()) or _NUMBER.search(name) is not None
