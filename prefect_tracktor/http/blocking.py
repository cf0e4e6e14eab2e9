"""Async code for sync callers: one event loop, in a background thread of the process."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _background_loop() -> asyncio.AbstractEventLoop:
    global _loop  # noqa: PLW0603
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            # a daemon: a client that is never closed must not keep the process alive
            threading.Thread(target=_loop.run_forever, name="http", daemon=True).start()
        return _loop


def _reset() -> None:
    global _lock, _loop
    _lock, _loop = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    # a child process does not inherit the thread
    os.register_at_fork(after_in_child=_reset)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from sync code, whether or not an event loop runs in the caller's thread."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _background_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()  # the caller was interrupted
        raise
