"""Every code block of the README and the handbook works as printed."""

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.settings import PREFECT_HOME, temporary_settings

from prefect_tracktor.sandbox import MailServer, Sandbox, Shop
from tests.support.programs import PROJECT
from tests.system.handbook.pages import PAGES, blocks_of, name_of
from tests.system.handbook.reader import OURS, Reader

# pages that start their own Prefect server
FROM_NOTHING = {"docs/start.md", "docs/tutorial.md"}
# creating them takes a second or two
_NEEDS_BLOCKS = re.compile(
    r"load\(|/tracktor\b|--credentials|prefect-tracktor (?:blocks|serve|deploy)"
)


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Path:
    """The page to follow."""
    return PROJECT / str(request.param)


@pytest.fixture
def reader(
    page: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    """A reader of the page."""
    from_nothing = name_of(page) in FROM_NOTHING
    if not from_nothing:
        request.getfixturevalue("prefect_api")
    monkeypatch.chdir(tmp_path)
    shop = Shop(orders=200, expired=10, just_ready=3, now=datetime.now(UTC))
    with MailServer() as mail, Sandbox(shop) as tracktor:
        uses_blocks = not from_nothing and _NEEDS_BLOCKS.search(page.read_text("utf-8"))
        reader = Reader(tmp_path, tracktor, mail, from_nothing, with_blocks=bool(uses_blocks))
        with temporary_settings(updates={PREFECT_HOME: reader.home}):
            reader.set_up()
            for name, value in reader.environment.items():
                if name.startswith(OURS):
                    monkeypatch.setenv(name, value)
            # so that Python finds the files that the reader saved
            monkeypatch.syspath_prepend(tmp_path)
            try:
                yield reader
            finally:
                reader.close()
                forget_modules_in(tmp_path)


def forget_modules_in(folder: Path) -> None:
    """Forget modules, because another page may have a file of the same name."""
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def pages_with_code() -> list[str]:
    return [name_of(page) for page in PAGES if re.search(r"```(?!text)", page.read_text("utf-8"))]


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_every_code_block_is_of_a_known_kind(page: str) -> None:
    unknown = [block for block in blocks_of(PROJECT / page) if not block.is_understood]
    assert not unknown


@pytest.mark.handbook
@pytest.mark.parametrize("page", pages_with_code(), indirect=True)
def test_every_code_block_works_as_printed(page: Path, reader: Reader) -> None:
    for block in blocks_of(page):
        reader.follow(block)
        if block.language == "python" and re.search(r"^ *assert ", block.code, re.MULTILINE):
            reader.follow(block)  # a test must pass repeatedly
