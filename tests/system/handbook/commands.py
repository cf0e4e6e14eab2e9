"""Which commands of the pages the tests cannot run, why, and what of them is looked at instead."""

import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from unittest.mock import patch

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tests.support.programs import PROJECT

_PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))


def _make(words: list[str]) -> str:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for target in (word for word in words[1:] if "=" not in word):
        if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE):
            return f"the Makefile has no target {target}"
    return ""


def _pip(words: list[str]) -> str:
    known = _PYPROJECT["project"]["optional-dependencies"].keys()
    for word in words[2:]:
        if word.startswith(("-", ".")) or word.endswith(".txt"):
            continue
        try:
            wanted = Requirement(word)
        except InvalidRequirement as invalid:
            return str(invalid)
        if canonicalize_name(wanted.name) != "prefect-tracktor":
            continue
        if not wanted.url:
            return "prefect-tracktor is on no package index: give an address"
        if unknown := wanted.extras - known:
            return f"prefect-tracktor has no extra {unknown}"
    return ""


@cache
def _help_of(command: str) -> tuple[int, str]:
    """What Python's module of this name says of a command, and the exit status."""
    words = shlex.split(command)
    said = StringIO()
    with (
        patch.object(sys, "argv", [*words, "--help"]),
        redirect_stdout(said),
        redirect_stderr(said),
    ):
        try:
            runpy.run_module(words[0], run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()


def _prefect(words: list[str]) -> str:
    subcommand = list(_until_option(words))
    status, said = _help_of(shlex.join(subcommand))
    if status:
        return said
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    unknown = [option for option in options if option not in said]
    return f"{shlex.join(subcommand)} has no {unknown}" if unknown else ""


def _until_option(words: list[str]) -> Iterator[str]:
    for word in words:
        if word.startswith("-"):
            return
        yield word


def _deploy(words: list[str]) -> str:
    [place] = [at for at, word in enumerate(words) if word == "--pip-package"]
    return _pip(["pip", "install", words[place + 1]])


def _nothing(_words: list[str]) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class CheckedOnly:
    """A command that is not run.

    Attributes:
        command: How it begins.
        why: Why not.
        problem: What is wrong with its words; empty if nothing is.
    """

    command: str
    why: str
    problem: Callable[[list[str]], str]


_CHECKED_ONLY = [
    CheckedOnly("make", "the targets install, or run these very tests", _make),
    CheckedOnly("pip install", "the environment of the tests stays as it is", _pip),
    CheckedOnly("python -m pip install", "likewise", lambda words: _pip(words[2:])),
    CheckedOnly("python -m venv", "likewise", _nothing),
    CheckedOnly("prefect cloud", "there is no account", _prefect),
    CheckedOnly("prefect work-pool create --type prefect:managed", "likewise", _prefect),
    CheckedOnly("prefect-tracktor deploy --work-pool managed", "likewise", _deploy),
    CheckedOnly("git clone", "there is no network", _nothing),
    CheckedOnly("docker", "there is no Docker", _nothing),
    CheckedOnly("kubectl", "there is no Kubernetes", _nothing),
    CheckedOnly("helm", "there is no Kubernetes", _nothing),
]
# where the tests' own server stands in for the reader's
PREFECT_SERVER = CheckedOnly("prefect server start", "the tests have a server already", _prefect)

# what goes on until it is stopped, and what it prints once it serves
_SERVERS = {
    r"prefect-tracktor serve": r"being served",
    r"prefect-tracktor sandbox": r"Serving until",
    r"prefect-tracktor receive(?! (?:template|token))": r"listening on",
    r"prefect server start": r"Check out the dashboard",
    r"prefect worker start": r"started!",
}
# a reader's own file that serves its flow; elsewhere it may as well come to an end
_SERVERS_BESIDE = _SERVERS | {r"python \w+\.py": r"being served"}


def ready_pattern(code: str, *, beside: bool = False) -> re.Pattern[str] | None:
    """What the last server that the code starts prints once it serves.

    Args:
        code: A block of shell commands.
        beside: Whether it has a shell of its own.

    Returns:
        The pattern; `None` if it starts no server.
    """
    servers = _SERVERS_BESIDE if beside else _SERVERS
    found = [
        ready for line in code.splitlines() for start, ready in servers.items()
        if re.match(rf"\s*{start}\b(?!.*--help)", line)
    ]  # fmt: skip
    return re.compile(found[-1]) if found else None


def runnable(code: str, *, server_stands: bool) -> str:
    """The code without the commands that are only checked.

    Args:
        code: A block of shell commands.
        server_stands: Whether `prefect server start` is one of them.

    Returns:
        What can be run.

    Raises:
        AssertionError: A command that is only checked is not right.
    """
    checked = [*_CHECKED_ONLY, PREFECT_SERVER] if server_stands else _CHECKED_ONLY
    lines = re.split(r"(?<!\\)\n", code)
    return "\n".join(_checked(line, checked) for line in lines)


def _checked(line: str, checked: list[CheckedOnly]) -> str:
    for known in checked:
        if re.match(rf"{re.escape(known.command)}\b", line):
            problem = known.problem(shlex.split(line, comments=True))
            assert not problem, f"{line}: {problem}"
            return ":"
    return line
