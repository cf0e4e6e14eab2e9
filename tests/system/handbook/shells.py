"""Bash as a reader uses it: one session for all blocks, and shells in the background."""

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
    """One bash session, which keeps exports and the directory from block to block.

    Args:
        folder: The working directory.
        environment: The environment variables.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._scripts = folder / ".blocks"
        self._scripts.mkdir(exist_ok=True)
        self._bash = _bash([], folder, environment)

    def run(self, name: str, code: str) -> str:
        """Run a block to its end.

        Args:
            name: The name of its script.
            code: The block.

        Returns:
            The output.

        Raises:
            AssertionError: A command failed, or does not end.
        """
        script, printed = self._scripts / f"{name}.sh", self._scripts / f"{name}.out"
        script.write_text(code, encoding="utf-8")
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f". {script} >{printed} 2>&1 </dev/null; echo done\n")
        self._bash.stdin.flush()
        ended, _, _ = select.select([self._bash.stdout], [], [], _GUARD_SECONDS)
        outcome = self._bash.stdout.readline() if ended else "it does not end"
        output = printed.read_text(encoding="utf-8", errors="replace")
        assert outcome == "done\n", f"{outcome or 'a command failed'}\n{code}\n{output}"
        return output

    def close(self) -> None:
        """End the session and its processes."""
        _end(self._bash)


class BackgroundShell:
    """A bash that runs one block in the background.

    Args:
        folder: The working directory.
        environment: The environment variables.
        code: The block.
        ready: What it prints once it serves.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], code: str, ready: re.Pattern[str]
    ) -> None:
        self._lines: list[str] = []
        self._started = threading.Event()
        self._is_ready = False
        self._bash = _bash(["-c", code], folder, environment)
        self._reader = threading.Thread(target=self._read, args=[ready], daemon=True)
        self._reader.start()
        if not self._started.wait(_GUARD_SECONDS) or not self._is_ready:
            self.close()
            raise AssertionError(f"it never printed {ready.pattern!r}:\n{code}\n{self.output}")

    @property
    def output(self) -> str:
        """The output so far."""
        return "".join(self._lines)

    def close(self) -> None:
        """End it and its processes."""
        _end(self._bash, self._reader)

    def _read(self, ready: re.Pattern[str]) -> None:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            self._lines.append(line)
            if ready.search(line):
                self._is_ready = True
                self._started.set()
        self._started.set()


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
    """Send a signal to a bash and its processes."""
    with suppress(ProcessLookupError):
        os.killpg(bash.pid, number)


def _end(bash: "subprocess.Popen[str]", printing: threading.Thread | None = None) -> None:
    """End a bash and its processes, gracefully or else by SIGKILL."""
    _signal(bash, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        bash.wait(_GRACE_SECONDS)
    if printing is not None:
        # ends with the last process
        printing.join(_GRACE_SECONDS)
    _signal(bash, signal.SIGKILL)
    bash.wait()
    for pipe in (bash.stdin, bash.stdout):
        if pipe is not None:
            pipe.close()
