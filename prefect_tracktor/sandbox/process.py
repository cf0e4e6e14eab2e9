"""The sandbox in a process of its own: for benchmarks, and for tests that need one."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 60
_STOP_SECONDS = 10


@dataclass(frozen=True)
class RunningSandbox:
    """Where a sandbox in another process can be reached.

    Attributes:
        base_url: The address to give to clients.
        uuid: The account's uuid.
        api_key: The account's key.
        shopify_url: What to give as `base_url` of `ShopifyCredentials`.
        shopify_client_id: The client id of the app that may read orders.
        shopify_client_secret: Its secret.
        shopify_access_token: An access token, instead of these two.
        smtp_host: Where its mail server listens.
        smtp_port: The mail server's port.
        about_url: Where its messages and its state can be read as JSON: below it, `messages` and
            `state`.
        order_ids: The shop's order ids.

    Example:
        >>> with sandbox_process(orders=3) as tracktor:
        ...     len(tracktor.order_ids)
        3
    """

    base_url: str
    uuid: str
    api_key: str
    shopify_url: str
    shopify_client_id: str
    shopify_client_secret: str
    shopify_access_token: str
    smtp_host: str
    smtp_port: int
    about_url: str
    order_ids: tuple[int, ...]


@contextmanager
def sandbox_process(**options: str | float | bool | Path) -> Iterator[RunningSandbox]:
    """Run `prefect-tracktor sandbox` in a process of its own until the block ends.

    Args:
        **options: The command's options with underscores, such as `orders=1000`, `latency_ms=50`
            or `bare=True`.

    Yields:
        Where it can be reached.

    Raises:
        RuntimeError: It did not start; it has said why on the standard error.

    Example:
        >>> with sandbox_process(orders=3, seed=2) as tracktor:
        ...     tracktor.base_url.startswith("http://127.0.0.1:")
        True
    """
    with tempfile.TemporaryDirectory() as folder:
        ready_file = Path(folder, "ready.json")
        command = [sys.executable, "-m", __package__, "--ready-file", str(ready_file)]
        process = subprocess.Popen(  # noqa: S603  # this very package
            [*command, *_arguments(options)], stdout=subprocess.PIPE, text=True
        )
        try:
            _wait_until_it_serves(process)
            yield _read(ready_file)
        finally:
            _stop(process)


def _arguments(options: dict[str, str | float | bool | Path]) -> Iterator[str]:
    for name, value in options.items():
        if value is not False:
            yield f"--{name.replace('_', '-')}"
        if not isinstance(value, bool):
            yield str(value)


def _wait_until_it_serves(process: subprocess.Popen[str]) -> None:
    """Read what it prints until it says that it serves."""
    too_long = threading.Timer(_START_SECONDS, process.kill)
    too_long.start()
    try:
        for line in process.stdout or ():
            if line.startswith("Serving"):
                return
    finally:
        too_long.cancel()
    raise RuntimeError("the sandbox did not start; it says why on the standard error")


def _read(ready_file: Path) -> RunningSandbox:
    fields = json.loads(ready_file.read_text(encoding="utf-8"))
    return RunningSandbox(**fields | {"order_ids": tuple(fields["order_ids"])})


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
