"""Text encodings of files: which there are, and which one a file is in."""

import codecs

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# width of a character, and where the zeros of ASCII characters stand in it
_WITHOUT_A_MARK = {
    "utf-32-le": (4, (1, 2, 3)),
    "utf-32-be": (4, (0, 1, 2)),
    "utf-16-le": (2, (1,)),
    "utf-16-be": (2, (0,)),
}
_WIDE = ("utf-16", "utf-32")
_SURELY = 0.6

# what tables are made of, and what codecs that are no encodings of files make something else of
_PROBE = "Id,Name;a\t|0123456789\"'#:/._-+ =41 +AEE- xn--a &#65;\r\n"
_ESCAPES = (b"u0041", b"\\u0041"), (b"xn--9ca", b"xn--9ca")


def checked_encoding(encoding: str) -> str:
    """Refuse what is no encoding of text files."""
    if not _is_for_files(encoding):
        raise ValueError("not a text encoding for files; try utf-8-sig, cp1252 or utf-16")
    return encoding


def _is_for_files(encoding: str) -> bool:
    try:
        if is_wide(encoding):
            return True
        written = _PROBE.encode(encoding)
        return (
            written == _PROBE.encode("ascii") or written == codecs.BOM_UTF8 + _PROBE.encode("ascii")
        ) and all(kept.decode("ascii") in escape.decode(encoding) for kept, escape in _ESCAPES)
    except (LookupError, ValueError):
        return False


def is_wide(encoding: str) -> bool:
    """Whether the characters of an encoding have two or four bytes."""
    return codecs.lookup(encoding).name.startswith(_WIDE)


def encoding_of(head: bytes) -> str:
    r"""Tell the encoding of a file by its first bytes."""
    marked = (encoding for mark, encoding in _MARKS.items() if head.startswith(mark))
    wide = (name for name, (width, at) in _WITHOUT_A_MARK.items() if _fits(head, width, at))
    return next(marked, "") or next(wide, "")


def _fits(head: bytes, width: int, zeros_at: tuple[int, ...]) -> bool:
    """Whether most characters are ASCII in this width; some may be of any script."""
    head = head[: len(head) // width * width]
    if not head:
        return False
    columns = [head[place::width] for place in range(width)]
    enough = len(columns[0]) * _SURELY
    return all(
        column.count(0) >= enough if place in zeros_at else column.count(0) == 0
        for place, column in enumerate(columns)
    )
