"""Bash as a reader uses it: a session that goes on from block to block, and shells beside it."""

import os
import re
import select
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_GUARD_SECONDS = 180
_GRACE_SECONDS = 20


class Shell:
    """One bash session; what is exported and where it stands is kept from block to block.

    Args:
        folder: Where it begins.
        environment: The variables that it begins with.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._scripts = folder / ".blocks"
        self._scripts.mkdir(exist_ok=True)
        self._bash = _bash([], folder, environment)

    def run(self, name: str, code: str) -> str:
        """Run a block to its end.

        Args:
            name: What its script is called.
            code: The block.

        Returns:
            What it printed.

        Raises:
            AssertionError: A command failed, or does not come to an end.
        """
        script, printed = self._scripts / f"{name}.sh", self._scripts / f"{name}.out"
        script.write_text(code, encoding="utf-8")
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f". {script} >{printed} 2>&1 </dev/null; echo done\n")
        self._bash.stdin.flush()
        ended, _, _ = select.select([self._bash.stdout], [], [], _GUARD_SECONDS)
        outcome = self._bash.stdout.readline() if ended else "it does not come to an end"
        said = printed.read_text(encoding="utf-8", errors="replace")
        assert outcome == "done\n", f"{outcome or 'a command failed'}\n{code}\n{said}"
        return said

    def close(self) -> None:
        """End the session and what it left running."""
        _end(self._bash)


class ShellBeside:
    """A bash of its own that runs one block in the background.

    Args:
        folder: Where it begins.
        environment: The variables that it begins with.
        code: The block.
        ready: What it prints once it serves.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], code: str, ready: re.Pattern[str]
    ) -> None:
        self._lines: list[str] = []
        self._settled = threading.Event()
        self._is_ready = False
        self._bash = _bash(["-c", code], folder, environment)
        self._reader = threading.Thread(target=self._read, args=[ready], daemon=True)
        self._reader.start()
        if not self._settled.wait(_GUARD_SECONDS) or not self._is_ready:
            self.close()
            raise AssertionError(f"it never said {ready.pattern!r}:\n{code}\n{self.said}")

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return "".join(self._lines)

    def close(self) -> None:
        """End it and all that it started."""
        _end(self._bash, self._reader)

    def _read(self, ready: re.Pattern[str]) -> None:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            self._lines.append(line)
            if ready.search(line):
                self._is_ready = True
                self._settled.set()
        self._settled.set()


def _bash(
    arguments: list[str], folder: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["bash", "--norc", "-eu", *arguments],  # noqa: S607  # the reader's bash, wherever it is
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _signal(bash: "subprocess.Popen[str]", number: signal.Signals) -> None:
    """Tell a bash and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(bash.pid, number)


def _end(bash: "subprocess.Popen[str]", printing: threading.Thread | None = None) -> None:
    """End a bash and all that it started, in good order or else at once."""
    _signal(bash, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        bash.wait(_GRACE_SECONDS)
    if printing is not None:
        # ends when the last of what was started has ended
        printing.join(_GRACE_SECONDS)
    _signal(bash, signal.SIGKILL)
    bash.wait()
    for pipe in (bash.stdin, bash.stdout):
        if pipe is not None:
            pipe.close()
