"""A file that holds a table: CSV or JSON Lines, read row by row, each cell with its place."""

import csv
import json
import re
from abc import ABC
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache, partial
from itertools import chain
from pathlib import PurePosixPath
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import Field, SecretStr, StringConstraints, field_validator

from prefect_tracktor.block import TracktorBlock
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.sources.cells import is_order_id, shortened
from prefect_tracktor.sources.files import opened
from prefect_tracktor.sources.lines import Lines, checked_encoding, text_of
from prefect_tracktor.sources.unpacking import FORMATS, tables_in

T = TypeVar("T")

_COMPRESSIONS = {".gz", ".bz2", ".xz", ".zst"}
_DELIMITERS = ",;\t|"
# what Excel writes and reads before the header
_DELIMITER_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_JSON_START = re.compile(r'\s*(\{\s*("|\}|$)|\[\s*([\[{"\d\]]|$))')
_MOST_COLUMNS = 10_000
_MOST_STATES = 100
_COLUMNS_SHOWN = 100
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
    """A row of a table: its values by column, and what names the place of one."""

    values: dict[str, object]
    line: Callable[[str], str]

    def place(self, column: str) -> str:
        """Name the place of a value."""
        return f"{self.line(column)}, column {column}"

    def read(self, column: str, reader: Callable[[object], T]) -> T:
        """Read a value; that of a column that is not there is `None`."""
        try:
            return reader(self.values.get(column))
        except InvalidInput as problem:
            raise InvalidInput(f"{self.place(column)}: {problem}") from None


def _no_column(_column: str) -> bool:
    return False


class TableFile(TracktorBlock, ABC):
    """What the blocks that read a table from a file have in common."""

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
        description="How to read the file; auto uses the suffix of its name, such as .csv, .txt,"
        " .jsonl or .json, also within .zip, .gz, .bz2 or .xz.",
    )
    encoding: Text = Field(
        default="utf-8-sig",
        title="Encoding",
        description="How the text is encoded. A file in UTF-16, or with a mark at its start, is"
        " recognized; utf-8-sig reads UTF-8, and older spreadsheets write cp1252.",
    )

    # text, not SecretDict: a form shows a secret object as asterisks, and refuses these as no JSON
    storage_options: SecretStr = Field(
        default=SecretStr(""),
        title="Storage options",
        description='What the storage needs, as a JSON object, such as {"key": "...", "secret":'
        ' "..."} for S3; empty if it needs nothing.',
    )

    @field_validator("encoding")
    @classmethod
    def _is_a_text_encoding(cls, encoding: str) -> str:
        return checked_encoding(encoding)

    @field_validator("storage_options", mode="before")
    @classmethod
    def _is_a_json_object(cls, options: object) -> SecretStr:
        """Programs may give a mapping."""
        value = options.get_secret_value() if isinstance(options, SecretStr) else options
        try:
            text = json.dumps(value) if isinstance(value, dict) else str(value).strip()
            is_object = not text or isinstance(json.loads(text), dict)
        except (TypeError, ValueError):
            is_object = False
        if not is_object:
            raise ValueError('must be a JSON object such as {"key": "..."}, or empty')
        return SecretStr(text)

    def rows(
        self,
        columns: Sequence[str],
        optional: Sequence[str] = (),
        *,
        also: Callable[[str], bool] = _no_column,
        besides: Callable[[str], bool] = _no_column,
    ) -> Generator[Row, None, None]:
        """Read the table row by row; the columns `besides` have no place, and need not be clear."""
        block = type(self).__name__
        wanted = _Wanted(columns, optional, also, besides)
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
                f"{name}: the suffix {suffix!r} tells neither CSV nor JSON Lines; "
                f"set `format` of the {type(self).__name__} to csv or jsonl"
            )
        return FORMATS[suffix]


@dataclass
class _Wanted:
    """Which columns are read, and where they are in a table."""

    columns: Sequence[str]
    optional: Sequence[str]
    also: Callable[[str], bool]
    besides: Callable[[str], bool]

    def indices(
        self, names: Sequence[str], lines: Lines, line: int, *, may_be_values: bool = False
    ) -> dict[str, int]:
        """Where the columns are that are wanted, and those of the others that are there."""
        there = [column for column in self.optional if column_positions(column, names)]
        stripped = dict.fromkeys(map(str.strip, names))
        clear = {name: _index_of(name, names, lines, line) for name in stripped if self.also(name)}
        clear |= {
            column: _index_of(column, names, lines, line, may_be_values=may_be_values)
            for column in (*self.columns, *there)
        }
        others = (name for name in stripped if name not in clear and self.besides(name))
        return {name: column_positions(name, names)[0] for name in others} | clear


class _Ends:
    """Tells whether a last row without a line end was cut off in its middle."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._fewest = 0
        self._shortest = 0
        self._states: set[str] = set()

    def check(
        self, line: int, id_cell: object, *, cells: int, header: int, ends_in_id: bool, state: str
    ) -> None:
        """Take a row into account; refuse it if it is the last and seems to be cut off."""
        length = len(id_cell) if isinstance(id_cell, str) and is_order_id(id_cell) else 0
        if self._lines.unended:
            how = ""
            if self._states and state not in {"", *self._states} and not _has_digit(state):
                how = "it ends in a state that no other line has"
            elif cells < (self._fewest or header):
                how = "it has fewer cells than the others"
            elif ends_in_id and 0 < length < self._shortest:
                how = "its id is shorter than all others"
            if how:
                raise self._lines.refusal(line, _CUT_OFF.format(how))
        if state and len(self._states) < _MOST_STATES:
            self._states.add(state)
        self._fewest = min(self._fewest or cells, cells)
        self._shortest = min(self._shortest or length, length or self._shortest)


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _csv_rows(lines: Lines, wanted: _Wanted) -> Iterator[Row]:
    """The rows of a CSV file; a cell's place is the line that it is on."""
    first, delimiter = _csv_start(lines, wanted.columns)
    records = _csv_records(first, lines, delimiter)
    at, header = next(records, (1, []))
    if not header:
        raise lines.refusal(1, _BLANK)
    if len(header) > _MOST_COLUMNS:
        raise lines.refusal(at, f"{len(header):,} columns, which no export has; export it again")
    indices = wanted.indices(header, lines, at, may_be_values=not _is_header(header))
    states = {index for column, index in indices.items() if wanted.also(column)}
    id_at, ends = indices[wanted.columns[0]], _Ends(lines)

    def line_of(line: int, record: list[str], column: str) -> str:
        return lines.place(line + _line_breaks(record[: indices[column]]))

    for line, record in records:
        if any(map(str.strip, record[len(header) :])):
            problem = f"{len(record)} cells, but the header has {len(header)}; correct the line"
            raise lines.refusal(line, problem)
        # in a row with fewer cells than these, or in which it is the last, the id may be cut off
        last = len(record) - 1
        ends.check(
            line,
            _cell(record, id_at),
            cells=len(record),
            header=len(header),
            ends_in_id=last == id_at,
            state=record[-1].strip() if last in states else "",
        )
        values: dict[str, object] = {name: _cell(record, index) for name, index in indices.items()}
        yield Row(values, partial(line_of, line, record))


def _csv_start(lines: Lines, columns: Sequence[str]) -> tuple[str, str]:
    """The first line of the header, and what stands between the cells."""
    first = lines.first_that_is_not_blank(empty=_EMPTY, blank=_BLANK)
    if _JSON_START.match(first):
        problem = f"JSON, not CSV; name the file .jsonl, or set `format` of the {lines.block}"
        raise lines.refusal(lines.number, problem)
    if given := _DELIMITER_LINE.fullmatch(first):
        return lines.first_that_is_not_blank(empty=_EMPTY, blank=_BLANK), given[1]
    return first, _delimiter_of(first, columns)


def _csv_records(first: str, others: Lines, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line that it starts on; the header first."""
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
        else:
            others.skip_blank()


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


def _json_rows(lines: Lines, wanted: _Wanted) -> Iterator[Row]:
    """The objects of JSON Lines, each on its line."""
    ends = _Ends(lines)
    text: str | None = lines.first_that_is_not_blank(empty=_EMPTY, blank=_BLANK)
    first = lines.number
    while text is not None:
        if text.strip():
            row = _json_row(text, lines, wanted, is_first=lines.number == first)
            bare = text.strip() == row.values[wanted.columns[0]]
            id_cell = text.strip() if bare else None
            ends.check(lines.number, id_cell, cells=1, header=1, ends_in_id=bare, state="")
            yield row
        else:
            lines.skip_blank()
        lines.begin_row()
        text = next(lines, None)


def _json_row(text: str, lines: Lines, wanted: _Wanted, *, is_first: bool) -> Row:
    line = lines.number
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
        is_document = is_first and _JSON_START.match(text)
        raise lines.refusal(line, _ONE_DOCUMENT if is_document else problem) from None
    if is_first and _is_document(entry, wanted.columns):
        raise lines.refusal(line, _ONE_DOCUMENT)
    if isinstance(entry, dict):
        names = list(entry)
        indices = wanted.indices(names, lines, line)
        values = {column: entry[names[index]] for column, index in indices.items()}
    elif len(wanted.columns) > 1:
        keys = " and ".join(map(repr, wanted.columns))
        problem = f"no JSON object; each line must hold one with the keys {keys}"
        raise lines.refusal(line, problem)
    else:
        values = {wanted.columns[0]: entry}
    return Row(values, lambda _column: lines.place(line))


def _is_document(entry: object, columns: Sequence[str]) -> bool:
    """Whether the first line holds all rows at once: a list, or an object with a list of them."""
    if isinstance(entry, list):
        return True
    return (
        isinstance(entry, dict)
        and not any(column_positions(column, list(entry)) for column in columns)
        and any(isinstance(value, list) and value for value in entry.values())
    )


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
    """Find a column by its exact name, else by its letters and digits, in any letter case."""
    stripped = [name.strip() for name in names]
    exact = [index for index, name in enumerate(stripped) if name == wanted]
    return exact or [index for index, name in enumerate(stripped) if folded(name) == folded(wanted)]


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """Give a column's name the form by which it is compared."""
    return "".join(filter(str.isalnum, name.casefold())) or name


def _index_of(
    wanted: str, names: Sequence[str], lines: Lines, line: int, *, may_be_values: bool = False
) -> int:
    positions = column_positions(wanted, names)
    if len(positions) == 1:
        return positions[0]
    if positions:
        problem = f"the column {wanted!r} is there {len(positions)} times; rename all but one"
    elif len(names) == 1 and any(mark in names[0] for mark in _DELIMITERS):
        problem = f"no column {wanted!r}: each line is in quotes as a whole; export it again"
    elif may_be_values:
        problem = (
            f"no column {wanted!r} among the {len(names)} of the first line, which seems to hold"
            f" values; add a header line, or set the column's name in the {lines.block}"
        )
    else:
        problem = f"no column {wanted!r}; {_known_columns(wanted, names, lines.block)}"
    raise lines.refusal(line, problem)


def _is_header(names: Sequence[str]) -> bool:
    """Whether the first line can be shown: without a header it holds a customer's data."""
    words = {word for name in names for word in re.findall("[a-z]+", name.casefold())}
    return bool(words & _WORDS_OF_HEADERS) and not any(map(_looks_like_a_value, names))


def _looks_like_a_value(name: str) -> bool:
    return "@" in name or is_order_id(name.strip()) or _NUMBER.search(name) is not None


def _known_columns(wanted: str, names: Sequence[str], block: str) -> str:
    shown = {name.strip().casefold(): shortened(name.strip()) for name in names[:_COLUMNS_SHOWN]}
    nearest = get_close_matches(wanted.casefold(), shown, n=1, cutoff=0.4)
    hint = f" (the nearest is {shown[nearest[0]]!r})" if nearest else ""
    columns = ", ".join(map(repr, shown.values())) or "none"
    return f"name one of those there in the {block}: {columns}{hint}"
