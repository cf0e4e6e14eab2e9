"""The tests of the pages detect errors."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_tracktor.sandbox import MailServer, Sandbox, Shop
from tests.system.handbook.commands import ready_pattern, runnable
from tests.system.handbook.pages import Block, blocks_of
from tests.system.handbook.reader import Reader
from tests.system.handbook.shells import BackgroundShell, Shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path, os.environ)
    yield shell
    shell.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with MailServer() as mail, Sandbox(Shop(orders=3, expired=0)) as tracktor:
        reader = Reader(tmp_path, tracktor, mail, from_nothing=False)
        yield reader
        reader.close()


def block(language: str, code: str = "", title: str = "") -> Block:
    return Block(Path("page.md"), 1, language, title, code)


@pytest.mark.parametrize(
    ("language", "title"), [("console", ""), ("bash", ""), ("sh", "Later"), ("python", "Run it")]
)
def test_a_code_block_of_an_unknown_kind_is_detected(language: str, title: str) -> None:
    assert not block(language, title=title).is_understood


@pytest.mark.parametrize(
    "text",
    ["```\nmake\n```\n", "~~~sh\nmake\n~~~\n", "```sh\nmake\n", "    ```sh\n  make\n  ```\n"],
)
def test_an_invalid_fence_is_an_error(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"page\.md"):
        blocks_of(page)


def test_a_code_block_is_read_with_its_line_and_without_indentation(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '# Title\n\n1. Save it:\n   ```python title="a.py"\n   if a:\n       b()\n   ```\n'
    )
    assert blocks_of(page) == [Block(page, 5, "python", "a.py", "if a:\n    b()\n")]


def test_a_shell_keeps_exports_and_reports_a_failing_command(shell: Shell) -> None:
    shell.run("first", "export NAME=value\ncd ..")
    assert shell.run("second", "echo $NAME") == "value\n"
    with pytest.raises(AssertionError, match="a command failed"):
        shell.run("third", "false\necho it went on")


def test_an_unset_shell_variable_is_an_error(shell: Shell) -> None:
    with pytest.raises(AssertionError, match="NOT_SET"):
        shell.run("first", "echo $NOT_SET")


def test_a_background_shell_that_never_serves_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no such program"):
        BackgroundShell(tmp_path, os.environ, "echo no such program", re.compile("serving"))


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("make cake", "no target cake"),
        ("pip install 'prefect-tracktor[mongodb]@https://a.example/a.whl'", "no extra {'mongodb'}"),
        ("pip install 'prefect-tracktor[sandbox]'", "no package index"),
        ("pip install prefect tracktor==", "Expected"),
        ("prefect cloud rain", "rain"),
        ("prefect cloud login \\\n    --workspaces mine", "--workspaces"),
    ],
)
def test_an_invalid_command_that_is_only_checked_is_an_error(code: str, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        runnable(code, has_server=True)


def test_all_other_commands_are_run() -> None:
    code = "make demo   # a comment\nprefect-tracktor blocks\nmakeshift\n"
    assert runnable(code, has_server=True) == ":\nprefect-tracktor blocks\nmakeshift\n"


@pytest.mark.parametrize(
    ("code", "waits"),
    [
        ("prefect-tracktor receive --port 0", True),
        ("prefect-tracktor receive token", False),
        ("prefect-tracktor serve --only reconcile", True),
        ("prefect-tracktor serve --help", False),
        ("prefect-tracktor deploy --work-pool shop", False),
    ],
)
def test_commands_that_run_until_stopped_are_recognized(code: str, *, waits: bool) -> None:
    assert (ready_pattern(code) is not None) == waits


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("export TRACKTOR_UUID=… OTHER=1", "export TRACKTOR_UUID={uuid} OTHER=1"),
        ("BERLIN_TRACKTOR_UUID='…'", "BERLIN_TRACKTOR_UUID={uuid}"),
        ("# TRACKTOR_UUID=none", "# TRACKTOR_UUID=none"),
    ],
)
def test_placeholders_are_replaced_by_the_readers_values(
    reader: Reader, code: str, expected: str
) -> None:
    title = "settings.env"
    reader.follow(block("sh", code, title))
    assert (reader.folder / title).read_text() == expected.format(uuid=reader.tracktor.uuid)


def test_a_placeholder_without_a_value_is_an_error(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="there is no value for"):
        reader.follow(block("sh", "export OTHER=…"))


def test_a_server_in_the_foreground_is_an_error(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="it never ends"):
        reader.follow(block("sh", "prefect-tracktor serve"))
