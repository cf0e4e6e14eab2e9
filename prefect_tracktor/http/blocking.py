"""Async code for sync callers: one event loop, in a background thread of the process."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _BackgroundLoop:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # a daemon: a client that nobody closes must not keep the process from ending
                threading.Thread(target=self._loop.run_forever, name="http", daemon=True).start()
            return self._loop


_background = _BackgroundLoop()


def _forget() -> None:
    global _background  # noqa: PLW0603
    _background = _BackgroundLoop()


if hasattr(os, "register_at_fork"):
    # a child process does not inherit the thread
    os.register_at_fork(after_in_child=_forget)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from sync code, whether or not an event loop runs in the caller's thread."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _background.get())
    try:
        return future.result()
    except BaseException:
        future.cancel()  # of use when the caller is interrupted
        raise
