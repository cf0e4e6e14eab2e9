"""Programs in other processes, such as Prefect's server, and waiting for them."""

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
    # so that events can be read back soon
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.3",
}


@contextmanager
def prefect_server(folder: Path, settings: dict[str, str]) -> Iterator[str]:
    """Run a server until the block ends.

    Args:
        folder: The folder of its database, unless a setting names another, and of its log.
        settings: Environment variables of Prefect.

    Yields:
        The address of its API.
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
        process.kill()  # its database is not used again


@contextmanager
def running(
    *arguments: str,
    log: Path,
    says: str = "",
    environment: Mapping[str, str] = os.environ,
    python: str = sys.executable,
    cwd: Path = PROJECT,
) -> Iterator[Popen[bytes]]:
    """Run a Python program, and wait until it is ready.

    Args:
        *arguments: Python's arguments, such as `-m flows serve`.
        log: The file for its output.
        says: What it prints once it is ready.
        environment: All its environment variables.
        python: The Python executable.
        cwd: Its working directory.

    Yields:
        The process.
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
            # its own process group, as in a shell, so that tests can send it Ctrl+C
            process_group=0,
        ) as process,
    ):
        try:
            for attempt in waiting():
                with attempt:
                    _check_ready(says, log, process)
            yield process
        except BaseException:
            sys.stdout.write(log.read_text())
            raise
        finally:
            _end(process)


def _check_ready(says: str, log: Path, process: Popen[bytes]) -> None:
    ended = process.poll()
    is_ready = says in log.read_text()
    if ended is not None and not is_ready:
        raise RuntimeError(f"it ended with {ended} and never printed: {says}")
    assert is_ready


def _end(process: Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except TimeoutExpired:
        # a thread of Prefect's worker may keep it from ending
        process.kill()


def free_port() -> int:
    """Return a free port outside of the range that the system assigns."""
    while True:
        port = random.SystemRandom().randint(15_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def waiting(error: type[Exception] | Callable[[Exception], bool] = AssertionError) -> Any:
    """Repeat a block until it succeeds, also on a busy machine.

    Args:
        error: The errors after which it is repeated.

    Returns:
        The attempts, each a context.
    """
    return stamina.retry_context(
        on=error, attempts=None, timeout=240, wait_initial=0.1, wait_max=0.3, wait_jitter=0
    )
