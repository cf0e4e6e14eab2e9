"""Programs in processes of their own, Prefect's server first, and waiting for what they do."""

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
    """Run a server until the block ends.

    Args:
        folder: Where it keeps its database, unless a setting says otherwise, and its log.
        settings: Environment variables of Prefect's.

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
        process.kill()  # nobody misses what it would tidy up


@contextmanager
def running(
    *arguments: str,
    log: Path,
    says: str = "",
    environment: Mapping[str, str] = os.environ,
    python: str = sys.executable,
    cwd: Path = PROJECT,
) -> Iterator[Popen[bytes]]:
    """Run a program of Python's, from when it says something until it is told to end.

    Args:
        *arguments: What Python is to run, such as `-m flows serve`.
        log: Where it is kept what the program says.
        says: What it says once it is ready.
        environment: All its environment variables.
        python: Which Python.
        cwd: Its directory.

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
            # its own group, as in a shell: what Ctrl+C does there can be done to it
            process_group=0,
        ) as process,
    ):
        try:
            for attempt in waiting():
                with attempt:
                    _look_for(says, log, process)
            yield process
        except BaseException:
            sys.stdout.write(log.read_text())
            raise
        finally:
            _end(process)


def _look_for(says: str, log: Path, process: Popen[bytes]) -> None:
    ended = process.poll()
    said = says in log.read_text()
    if ended is not None and not said:
        raise RuntimeError(f"it ended with {ended} and never said: {says}")
    assert said


def _end(process: Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except TimeoutExpired:
        # Prefect's worker may leave a thread behind that keeps it from ending
        process.kill()


def free_port() -> int:
    """A port of this machine that nothing listens on, and that the system gives to nobody."""
    while True:
        port = random.SystemRandom().randint(15_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def waiting(error: type[Exception] | Callable[[Exception], bool] = AssertionError) -> Any:
    """Try again until it is so, however busy the machine is.

    Args:
        error: Upon what it is tried again.

    Returns:
        The attempts, each a context.
    """
    return stamina.retry_context(
        on=error, attempts=None, timeout=240, wait_initial=0.1, wait_max=0.3, wait_jitter=0
    )
