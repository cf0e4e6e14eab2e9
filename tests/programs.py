"""Programs in processes of their own, Prefect's server first, and waiting for what they do."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import stamina

_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # events can be read back at once
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.1",
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
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | _SETTINGS | {"PREFECT_HOME": str(folder / "home")} | settings
    said = folder / "prefect-server.log"
    with (
        said.open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, stdout=log, stderr=log
        ) as process,
    ):
        try:
            for attempt in waiting(httpx.HTTPError):
                with attempt:
                    assert process.poll() is None, said.read_text()
                    httpx.get(f"{url}/health").raise_for_status()
            yield url
        finally:
            process.kill()


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
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
