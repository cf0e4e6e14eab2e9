"""Pages of the handbook and the README, and their code blocks."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]

SHELL_OF_ITS_OWN = "In a shell of its own"
_LANGUAGES = {"python", "sh", "text"}

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_INFO = re.compile(r'(?P<language>\w+)(?: title="(?P<title>[^"]+)")?')
_FILE_NAME = re.compile(r"[\w./-]*\.\w+")


@dataclass(frozen=True, slots=True)
class Block:
    """A code block.

    Attributes:
        page: The page's file.
        line: The line of the page on which its code begins.
        language: Its language.
        title: Its title: a file name, or that it has its own shell.
        code: Its text, without the indentation of the page.
    """

    page: Path
    line: int
    language: str
    title: str
    code: str

    @property
    def is_file(self) -> bool:
        """Whether the reader saves it as a file with this name."""
        return bool(_FILE_NAME.fullmatch(self.title))

    @property
    def is_understood(self) -> bool:
        """Whether the tests know what to do with it."""
        if self.is_file:
            return True
        titles = {"", SHELL_OF_ITS_OWN} if self.language == "sh" else {""}
        return self.language in _LANGUAGES and self.title in titles


def name_of(page: Path) -> str:
    """Return a page's relative path, such as docs/tutorial.md."""
    return page.relative_to(PROJECT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """Return all code blocks of a page, in order.

    Args:
        page: The page's file.

    Returns:
        The blocks.

    Raises:
        ValueError: A fence begins or ends no block.
    """
    return list(_blocks(page, page.read_text(encoding="utf-8")))


def _blocks(page: Path, text: str) -> Iterator[Block]:
    rest = text
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        info = _INFO.fullmatch(found["info"].strip())
        if info is None:
            raise ValueError(f"{page}:{line - 1}: {found['info']!r} is no language with a title")
        code = textwrap.dedent(found["code"])
        yield Block(page, line, info["language"], info["title"] or "", code)
        rest = rest.replace(found[0], "", 1)
    if stray := re.search(r"^.*(?:```|~~~).*$", rest, re.MULTILINE):
        raise ValueError(f"{page}: a fence that belongs to no block: {stray[0]!r}")
