"""Programs in other processes, such as a Prefect server, and waiting for their effects."""

import os
import random
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import STDOUT, Popen, TimeoutExpired
from typing import Any

import httpx
import stamina

PROJECT = Path(__file__).parents[2]

_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # events can be read back soon; each flush is some work
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.3",
}


@contextmanager
def prefect_server(folder: Path, settings: dict[str, str]) -> Iterator[str]:
    """Run a Prefect server until the block ends; yield the address of its API.

    Its log, and its database unless the settings name another, are in the folder.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    own = {"PREFECT_HOME": str(folder / "home"), "PREFECT_SERVER_UI_API_URL": url}
    environment = os.environ | _SETTINGS | own | settings
    log = folder / "prefect-server.log"
    with running(*command, log=log, environment=environment) as process:
        for attempt in waiting(httpx.HTTPError):
            with attempt:
                assert process.poll() is None, log.read_text()
                httpx.get(f"{url}/health").raise_for_status()
        yield url
        process.kill()  # a graceful stop takes longer


@contextmanager
def running(
    *arguments: str,
    log: Path,
    says: str = "",
    environment: Mapping[str, str] = os.environ,
    python: str = sys.executable,
    cwd: Path = PROJECT,
) -> Iterator[Popen[bytes]]:
    """Run a Python program until the block ends, which begins once the log contains `says`.

    Args:
        *arguments: The arguments of Python, such as `-m flows serve`.
        log: The file for the program's output.
        says: A text in the output of a program that is ready.
        environment: All environment variables of the program.
        python: The Python interpreter.
        cwd: The working directory.
    """
    command = [python, *arguments]
    with (
        log.open("ab") as written,
        Popen(
            command,
            cwd=cwd,
            env=environment,
            stdout=written,
            stderr=STDOUT,
            # its own group, as in a shell, so that a test can send it Ctrl+C
            process_group=0,
        ) as process,
    ):
        try:
            for attempt in waiting():
                with attempt:
                    _check_output(says, log, process)
            yield process
        except BaseException:
            sys.stdout.write(log.read_text())
            raise
        finally:
            _end(process)


def _check_output(says: str, log: Path, process: Popen[bytes]) -> None:
    ended = process.poll()
    said = says in log.read_text()
    if ended is not None and not said:
        raise RuntimeError(f"the program ended with status {ended} before its output had {says!r}")
    assert said


def _end(process: Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except TimeoutExpired:
        # a thread of Prefect's worker may keep the process alive
        process.kill()


def free_port() -> int:
    """Return a free port, outside of the range that the system assigns."""
    while True:
        port = random.SystemRandom().randint(15_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def waiting(error: type[Exception] | Callable[[Exception], bool] = AssertionError) -> Any:
    """Return attempts, each a context, that retry on an error for up to four minutes."""
    return stamina.retry_context(
        on=error, attempts=None, timeout=240, wait_initial=0.1, wait_max=0.3, wait_jitter=0
    )
