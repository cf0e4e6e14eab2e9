"""Base class of the sandbox's servers, which run in a background thread."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Self

from anyio.from_thread import BlockingPortal, start_blocking_portal


class BackgroundServer(ABC):
    """A server on loopback that runs in a background thread with its own event loop."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self._portal: BlockingPortal | None = None
        self._running = ExitStack()

    def start(self) -> None:
        """Start the server; afterwards its port is known."""
        with ExitStack() as starting:
            portal = starting.enter_context(start_blocking_portal(name=type(self).__name__))
            starting.enter_context(portal.wrap_async_context_manager(self._serving()))
            self._portal = portal
            self._running = starting.pop_all()

    def stop(self) -> None:
        """Close all connections and stop the server, which keeps its data."""
        self._portal = None
        self._running.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _serving(self) -> AbstractAsyncContextManager[None]:
        """Serve while the block runs."""
