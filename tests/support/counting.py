"""A server that has every order, and counts its requests."""

import threading
import time
from typing import Any

from tests.support.json_server import JsonServer


class CountingServer(JsonServer):
    """Respond after 10 ms; record the times of arrival and the most simultaneous requests."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[float] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def respond(self, _method: str, path: str, _body: Any, /) -> tuple[int, Any]:
        """Return the requested order."""
        with self._lock:
            self.arrivals.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(0.01)
        with self._lock:
            self._at_once -= 1
        return 200, {"order": {"order_id": int(path.rpartition("/")[2])}}
