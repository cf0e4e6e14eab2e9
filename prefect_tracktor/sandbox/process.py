"""Sandbox in a separate process, for benchmarks and tests."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_START_SECONDS = 60
_STOP_SECONDS = 10


@dataclass(frozen=True)
class RunningSandbox:
    """The addresses and credentials of a sandbox in another process.

    Attributes:
        base_url: The address for clients.
        uuid: The account's uuid.
        api_key: The account's key.
        shopify_url: The `base_url` for `ShopifyCredentials`.
        shopify_client_id: The client id of the app that may read orders.
        shopify_client_secret: The client secret of that app.
        shopify_access_token: An access token, instead of client id and secret.
        smtp_host: The mail server's host.
        smtp_port: The mail server's port.
        state_url: The address of the sandbox's state as JSON: requests, changes, deliveries and
            movement.
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
    state_url: str
    order_ids: range

    def to_json(self) -> str:
        """Return it as a line of JSON, for another process."""
        ids = self.order_ids
        return json.dumps(vars(self) | {"order_ids": (ids.start, ids.stop, ids.step)})

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Parse the line that another process printed."""
        fields = json.loads(line)
        return cls(**fields | {"order_ids": range(*fields["order_ids"])})


@contextmanager
def sandbox_process(**options: str | float | bool | Path) -> Iterator[RunningSandbox]:
    """Run `prefect-tracktor sandbox` in a separate process until the block ends.

    Args:
        **options: The command's options with underscores, such as `orders=1000`,
            `latency_seconds=0.05` or `bare=True`.

    Yields:
        The sandbox's addresses and credentials.

    Raises:
        RuntimeError: It did not start; it has printed the reason on standard error.

    Example:
        >>> with sandbox_process(orders=3, seed=2) as tracktor:
        ...     tracktor.base_url.startswith("http://127.0.0.1:")
        True
    """
    command = [sys.executable, "-m", __package__, "--json", *_arguments(options)]
    with subprocess.Popen(  # noqa: S603  # this package
        command, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _started(process)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _arguments(options: dict[str, str | float | bool | Path]) -> Iterator[str]:
    for name, value in options.items():
        if value is not False:
            yield f"--{name.replace('_', '-')}"
        if not isinstance(value, bool):
            yield str(value)


def _started(process: subprocess.Popen[str]) -> RunningSandbox:
    timeout = threading.Timer(_START_SECONDS, process.kill)
    timeout.start()
    try:
        line = process.stdout.readline() if process.stdout else ""
    finally:
        timeout.cancel()
    if not line:
        raise RuntimeError("the sandbox did not start; the reason is on standard error")
    return RunningSandbox.from_json(line)
