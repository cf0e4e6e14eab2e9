"""A server that knows every order, and counts: how many requests at once, and when each arrived."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from prefect_tracktor import TracktorCredentials, TransportLimits


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # connections beyond it would wait a second


class CountingServer:
    """Answers each request after a hundredth of a second."""

    def __init__(self) -> None:
        self.arrivals: list[float] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)

    def credentials(self, **limits: Any) -> TracktorCredentials:
        """An account at this server."""
        return TracktorCredentials(
            uuid="00000000-0000-4000-8000-000000000001",
            api_key="k3y",
            base_url=f"http://127.0.0.1:{self._server.server_port}",
            limits=TransportLimits(**limits),
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.count(time.monotonic(), +1)
                time.sleep(0.01)
                server.count(None, -1)
                order_id = self.path.rpartition("/")[2].removesuffix(".json")
                body = f'{{"order": {{"order_id": {order_id}}}}}'.encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler

    def count(self, arrival: float | None, change: int) -> None:
        """Note a request that begins or ends."""
        with self._lock:
            self._at_once += change
            self.most_at_once = max(self.most_at_once, self._at_once)
            if arrival is not None:
                self.arrivals.append(arrival)
