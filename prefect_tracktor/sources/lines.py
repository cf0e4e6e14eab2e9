"""Text files: encoding detection, and numbered lines of limited length."""

import codecs
import io
import re
from collections.abc import Iterator
from json import detect_encoding
from typing import TextIO

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.sources.unpacking import PeekableStream, refusal

# far more than the longest row of an export, and still little memory
_MAX_ROW_LENGTH = 10_000_000
_BLANK_CHARACTERS = " ,;|\t\r\n"

# encodings of text files; Python also has EBCDIC, and codecs that are not encodings
_TEXT_ENCODINGS = re.compile(
    r"ascii|utf-(8|8-sig|(16|32)(-[bl]e)?)|iso8859-\d+|mac-.+|koi8-.|tis-620|ptcp154|kz1048"
    r"|cp(437|720|737|775|85\d|86\d|874|932|949|950|1006|1125|125\d)"
    r"|iso2022_.+|gb.+|big5.*|euc_.+|shift_jis.*|johab"
)


def text_of(content: PeekableStream, name: str, encoding: str, block: str) -> TextIO:
    """Decode a file: with the encoding that its first bytes show, or else with the given one."""
    detected = detect_encoding(content.head)
    found = "" if detected == "utf-8" else detected  # "utf-8" stands for all others, too
    is_wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    if not found and content.head and is_wide:
        is_ascii = content.head.isascii() and b"\0" not in content.head
        if is_ascii or not encoding.lower().endswith(("le", "be")):
            raise InvalidInput(
                f"{name}, line 1: not {encoding}; set `encoding` of the {block} to utf-8-sig"
                + ("" if is_ascii else f", or to {encoding}-le or {encoding}-be")
            )
    return io.TextIOWrapper(
        io.BufferedReader(content),
        encoding=found or encoding,
        newline="",  # required by the csv module
    )


class Lines(Iterator[str]):
    """Lines of a text file, with errors that name the line."""

    def __init__(self, stream: TextIO, name: str, *, block: str) -> None:
        self.block = block
        self.number = 0
        self.is_unterminated = False
        self._stream = stream
        self._name = name
        self._length_of_row = 0

    def __next__(self) -> str:
        try:
            line = self._stream.readline(_MAX_ROW_LENGTH)
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
        self.is_unterminated = line[-1] not in "\r\n"
        self._length_of_row += len(line)
        if self._length_of_row >= _MAX_ROW_LENGTH:
            problem = f"a row of more than {_MAX_ROW_LENGTH:,} characters; no export has such rows"
            raise self.refusal(self.number, problem)
        if "\0" in line:
            raise self.refusal(
                self.number,
                "a NUL character, which no text file has; if a spreadsheet wrote the file, "
                f"set `encoding` of the {self.block} to utf-16-le",
            )

    def begin_row(self) -> None:
        """Start counting the characters of a row."""
        self._length_of_row = 0

    def first_not_blank(self, *, empty: str, blank: str) -> str:
        """Return the first line that is not blank."""
        for line in self:
            if line.strip(_BLANK_CHARACTERS):
                return line
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
    if not _TEXT_ENCODINGS.fullmatch(name):
        raise ValueError("not a text encoding for files; try utf-8-sig, cp1252 or utf-16")
    return encoding
