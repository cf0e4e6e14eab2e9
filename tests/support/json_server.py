"""Base class of Tracktor servers in tests, over real sockets; a subclass gives the responses."""

import json
import threading
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from prefect_tracktor import TracktorCredentials


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # connections beyond it would wait a second


class JsonServer(ABC):
    """A server that responds with JSON while its block runs."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @abstractmethod
    def respond(self, method: str, path: str, body: Any, /) -> tuple[int, Any]:
        """Return the status and the JSON for a request; the path is the part after the account."""

    def credentials_with(self, **fields: Any) -> TracktorCredentials:
        """Return credentials for this server, with other fields of the block."""
        usual = {
            "uuid": "00000000-0000-4000-8000-000000000001",
            "api_key": "k3y",
            "base_url": f"http://127.0.0.1:{self._server.server_port}",
        }
        return TracktorCredentials.model_validate(usual | fields)

    @property
    def credentials(self) -> TracktorCredentials:
        """Credentials for this server."""
        return self.credentials_with()

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
        respond = self.respond

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                sent = self.rfile.read(int(self.headers.get("content-length") or 0))
                path = self.path.removesuffix(".json").split("/", 2)[2]
                status, answer = respond(self.command, path, json.loads(sent or b"null"))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = _serve  # noqa: N815  # the base class finds them by these names

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler
