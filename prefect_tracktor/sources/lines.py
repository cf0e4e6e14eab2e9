"""Text files: encoding detection, and numbered lines of limited length."""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.sources.unpacking import Peeked, refusal

# far more than the longest row of an export, and still little memory
_LONGEST_ROW = 10_000_000
_OF_BLANK_ROWS = " ,;|\t\r\n"
# more than a spreadsheet has rows
_MOST_BLANK = 2_000_000

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# encodings without a mark: the width of a character, and the zero bytes of an ASCII one
_WITHOUT_A_MARK = {
    "utf-32-le": (4, (1, 2, 3)),
    "utf-32-be": (4, (0, 1, 2)),
    "utf-16-le": (2, (1,)),
    "utf-16-be": (2, (0,)),
}
_WIDE = ("utf-16", "utf-32")
_ASCII_SHARE = 0.6

# encodings of text files; Python also has EBCDIC, and codecs that are not encodings
_OF_FILES = re.compile(
    r"ascii|utf-(8|8-sig|(16|32)(-[bl]e)?)|iso8859-\d+|mac-.+|koi8-.|tis-620|ptcp154|kz1048"
    r"|cp(437|720|737|775|85\d|86\d|874|932|949|950|1006|1125|125\d)"
    r"|iso2022_.+|gb.+|big5.*|euc_.+|shift_jis.*|johab"
)


@contextmanager
def text_of(content: Peeked, name: str, encoding: str, block: str) -> Iterator[TextIO]:
    """Decode a file: by its first bytes, or else with the given encoding."""
    found = _encoding_of(content.head)
    if not found and content.head and _is_wide(encoding):
        is_ascii = content.head.isascii() and b"\0" not in content.head
        if is_ascii or not encoding.lower().endswith(("le", "be")):
            raise InvalidInput(
                f"{name}, line 1: not {encoding}; set `encoding` of the {block} to utf-8-sig"
                + ("" if is_ascii else f", or to {encoding}-le or {encoding}-be")
            )
    with io.TextIOWrapper(
        io.BufferedReader(content),
        encoding=found or encoding,
        newline="",  # required by the csv module
    ) as text:
        yield text


class Lines(Iterator[str]):
    """Lines of a text file, with errors that name the line."""

    def __init__(self, stream: TextIO, name: str, *, block: str) -> None:
        self.block = block
        self.number = 0
        self.unended = False
        self._stream = stream
        self._name = name
        self._length_of_row = 0
        self._blank = 0

    def __next__(self) -> str:
        try:
            line = self._stream.readline(_LONGEST_ROW)
        except UnicodeDecodeError as error:
            # the bytes that were decoded together may hold several lines
            number = self.number + 1 + error.object[: error.start].count(b"\n")
            raise self.refusal(number, _not_decoded(error, self.block)) from None
        except UnicodeError:
            problem = f"not {self._stream.encoding}; set `encoding` of the {self.block}"
            raise self.refusal(self.number + 1, problem) from None
        except InvalidInput:
            raise
        except Exception as error:  # noqa: BLE001  # storages raise errors of their own
            raise refusal(self.place(self.number + 1), error) from None
        if not line:
            raise StopIteration
        self._check(line)
        return line

    def _check(self, line: str) -> None:
        self.number += 1
        self.unended = line[-1] not in "\r\n"
        self._length_of_row += len(line)
        if self._length_of_row >= _LONGEST_ROW:
            problem = f"a row of more than {_LONGEST_ROW:,} characters; no export has such rows"
            raise self.refusal(self.number, problem)
        if "\0" in line:
            raise self.refusal(
                self.number,
                "a NUL character, which no text holds; if a spreadsheet wrote the file, "
                f"set `encoding` of the {self.block} to utf-16-le",
            )

    def begin_row(self) -> None:
        """Start counting the characters of a row."""
        self._length_of_row = 0

    def skip_blank(self) -> None:
        """Count a blank row, and refuse a file with too many of them."""
        self._blank += 1
        if self._blank > _MOST_BLANK:
            problem = f"more than {_MOST_BLANK:,} blank lines; export it again"
            raise self.refusal(self.number, problem)

    def first_not_blank(self, *, empty: str, blank: str) -> str:
        """Return the first line that is not blank."""
        for line in self:
            if line.strip(_OF_BLANK_ROWS):
                return line
            self.skip_blank()
            self.begin_row()
        raise self.refusal(1, blank if self.number else empty)

    def refusal(self, line: int, problem: str) -> InvalidInput:
        """Build the error for a line."""
        return InvalidInput(f"{self.place(line)}: {problem}")

    def place(self, line: int) -> str:
        return f"{self._name}, line {line}"


def _not_decoded(error: UnicodeDecodeError, block: str) -> str:
    if error.reason in {"truncated data", "unexpected end of data"}:
        return "the file is damaged or cut off here, in the middle of a character; copy it again"
    return (
        f"the byte 0x{error.object[error.start]:02x} is not {error.encoding}; "
        f"set `encoding` of the {block}, for example to cp1252, or save as UTF-8"
    )


def checked_encoding(encoding: str) -> str:
    """Refuse a codec that is not an encoding of text files."""
    try:
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        name = ""
    if not _OF_FILES.fullmatch(name):
        raise ValueError("not a text encoding for files; try utf-8-sig, cp1252 or utf-16")
    return encoding


def _is_wide(encoding: str) -> bool:
    """Whether the characters of an encoding have two or four bytes."""
    return codecs.lookup(encoding).name.startswith(_WIDE)


def _encoding_of(head: bytes) -> str:
    """Detect the encoding of a file from its first bytes; empty if unknown."""
    marked = (encoding for mark, encoding in _MARKS.items() if head.startswith(mark))
    wide = (name for name, (width, at) in _WITHOUT_A_MARK.items() if _fits(head, width, at))
    return next(marked, "") or next(wide, "")


def _fits(head: bytes, width: int, zeros_at: tuple[int, ...]) -> bool:
    """Whether most characters are ASCII characters of this width."""
    head = head[: len(head) // width * width]
    if not head:
        return False
    columns = [head[place::width] for place in range(width)]
    enough = len(columns[0]) * _ASCII_SHARE
    return all(
        column.count(0) >= enough if place in zeros_at else column.count(0) == 0
        for place, column in enumerate(columns)
    )
