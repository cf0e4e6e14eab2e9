"""Commands of the pages that the tests only check, and why they are not run."""

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


def _make(arguments: list[str]) -> str:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for target in (argument for argument in arguments[1:] if "=" not in argument):
        if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE):
            return f"the Makefile has no target {target}"
    return ""


def _pip(arguments: list[str]) -> str:
    known = _PYPROJECT["project"]["optional-dependencies"].keys()
    for argument in arguments[2:]:
        if argument.startswith(("-", ".")) or argument.endswith(".txt"):
            continue
        try:
            wanted = Requirement(argument)
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
    """Return the exit status and the help text of a command, a Python module."""
    arguments = shlex.split(command)
    output = StringIO()
    with (
        patch.object(sys, "argv", [*arguments, "--help"]),
        redirect_stdout(output),
        redirect_stderr(output),
    ):
        try:
            runpy.run_module(arguments[0], run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0), output.getvalue()
    return 0, output.getvalue()


def _prefect(arguments: list[str]) -> str:
    subcommand = list(_until_option(arguments))
    status, output = _help_of(shlex.join(subcommand))
    if status:
        return output
    options = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    unknown = [option for option in options if option not in output]
    return f"{shlex.join(subcommand)} has no {unknown}" if unknown else ""


def _until_option(arguments: list[str]) -> Iterator[str]:
    for argument in arguments:
        if argument.startswith("-"):
            return
        yield argument


def _deploy(arguments: list[str]) -> str:
    [place] = [at for at, argument in enumerate(arguments) if argument == "--pip-package"]
    return _pip(["pip", "install", arguments[place + 1]])


def _nothing(_words: list[str]) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class CheckedOnly:
    """A command that is not run.

    Attributes:
        command: Its first words.
        why: The reason.
        problem: Returns what is wrong with its arguments; empty if nothing is.
    """

    command: str
    why: str
    problem: Callable[[list[str]], str]


_CHECKED_ONLY = [
    CheckedOnly("make", "the targets install, or run these tests", _make),
    CheckedOnly("pip install", "the environment of the tests must not change", _pip),
    CheckedOnly("python -m pip install", "likewise", lambda arguments: _pip(arguments[2:])),
    CheckedOnly("python -m venv", "likewise", _nothing),
    CheckedOnly("prefect cloud", "there is no account", _prefect),
    CheckedOnly("prefect work-pool create --type prefect:managed", "likewise", _prefect),
    CheckedOnly("prefect-tracktor deploy --work-pool managed", "likewise", _deploy),
    CheckedOnly("git clone", "there is no network", _nothing),
    CheckedOnly("docker", "there is no Docker", _nothing),
    CheckedOnly("kubectl", "there is no Kubernetes", _nothing),
    CheckedOnly("helm", "there is no Kubernetes", _nothing),
]
# where the server of the tests replaces that of the reader
PREFECT_SERVER = CheckedOnly("prefect server start", "the tests have a server already", _prefect)

# commands that run until stopped, and what they print once they serve
_SERVERS = {
    r"prefect-tracktor serve": r"being served",
    r"prefect-tracktor sandbox": r"Serving until",
    r"prefect-tracktor receive(?! (?:template|token))": r"listening on",
    r"prefect server start": r"Check out the dashboard",
    r"prefect worker start": r"started!",
}
# a reader's file that serves its flow; in the foreground, it may as well end
_SERVERS_IN_BACKGROUND = _SERVERS | {r"python \w+\.py": r"being served"}


def ready_pattern(code: str, *, in_background: bool = False) -> re.Pattern[str] | None:
    """Return what the last server that the code starts prints once it serves.

    Args:
        code: A block of shell commands.
        in_background: Whether the code has its own shell.

    Returns:
        The pattern; `None` if it starts no server.
    """
    servers = _SERVERS_IN_BACKGROUND if in_background else _SERVERS
    found = [
        ready for line in code.splitlines() for start, ready in servers.items()
        if re.match(rf"\s*{start}\b(?!.*--help)", line)
    ]  # fmt: skip
    return re.compile(found[-1]) if found else None


def runnable(code: str, *, has_server: bool) -> str:
    """Return the code without the commands that are only checked.

    Args:
        code: A block of shell commands.
        has_server: Whether a Prefect server runs, so that its start is only checked.

    Returns:
        The code to run.

    Raises:
        AssertionError: A command that is only checked is invalid.
    """
    checked = [*_CHECKED_ONLY, PREFECT_SERVER] if has_server else _CHECKED_ONLY
    lines = re.split(r"(?<!\\)\n", code)
    return "\n".join(_checked(line, checked) for line in lines)


def _checked(line: str, checked: list[CheckedOnly]) -> str:
    for known in checked:
        if re.match(rf"{re.escape(known.command)}\b", line):
            problem = known.problem(shlex.split(line, comments=True))
            assert not problem, f"{line}: {problem}"
            return ":"
    return line
