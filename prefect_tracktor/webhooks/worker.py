"""Background work of the receiver: repeated steps, and serialized writes to the queue."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio
import httpx

from prefect_tracktor.errors import TracktorError
from prefect_tracktor.events.prefect_api import reason_of

T = TypeVar("T")

_MAX_PAUSE_SECONDS = 60

_log = logging.getLogger(__name__)


class RetryLater(Exception):
    """A step failed and is repeated after a pause; the message is the reason."""


class SingleWriter:
    """Single-writer executor: one call to the queue at a time, in a thread."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(1)

    async def run(self, function: Callable[..., T], *arguments: object, **options: object) -> T:
        call = partial(function, *arguments, **options)
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)


async def repeat(step: Callable[[], Awaitable[bool]], *, idle_seconds: float = 0.5) -> None:
    """Repeat a step until cancelled, with pauses that grow while it fails."""
    failures = 0
    while True:
        try:
            pause = 0.0 if await step() else idle_seconds
            failures = 0
        except (RetryLater, TracktorError) as error:
            failures += 1
            reason = str(error)
        except (httpx.HTTPError, OSError, ValueError) as error:
            failures += 1
            reason = f"Prefect: {reason_of(error)}"
        if failures:
            pause = min(_MAX_PAUSE_SECONDS, 2.0 ** min(failures - 1, 10))
            _log.warning("%s; trying again in %d s", reason, pause)
        await anyio.sleep(pause)
