"""HTTP service that receives notices and keeps them."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl


@dataclass(frozen=True)
class Posted:
    """A request that was accepted."""

    path: str
    headers: Mapping[str, str]
    body: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body))


@dataclass(frozen=True)
class Instead:
    """An injected response; with the status 0 there is no response."""

    status: int
    taken: bool = False


@dataclass
class HttpService:
    """Respond with `status` and `answer`, or to each n-th request as in `every`."""

    status: int = 200
    answer: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0
    posted: list[Posted] = field(default_factory=list)
    every: dict[int, Instead] = field(default_factory=dict)
    requests: int = 0
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def next(self) -> Instead | None:
        """Return the injected response to the next request, if any."""
        self.requests += 1
        found = (one for number, one in self.every.items() if self.requests % number == 0)
        return next(found, None)

    @contextmanager
    def serving(self) -> Iterator["HttpService"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                instead = service.next()
                if instead is None or instead.taken:
                    service.posted.append(
                        Posted(self.path, cast("Mapping[str, str]", self.headers), body)
                    )
                time.sleep(service.delay_seconds)
                status = service.status if instead is None else instead.status
                if status:
                    self._answer(status, json.dumps(service.answer).encode())
                else:
                    self.close_connection = True

            def do_HEAD(self) -> None:
                self._answer(404, b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                for name, value in service.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler
