"""Slack and Teams for notification blocks: a proxy that responds in place of their hosts.

All requests through the proxy end at this server, which responds over TLS as the requested host.
"""

import json
import ssl
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

SLACK = "hooks.slack.com"
TEAMS = "prod-01.westeurope.logic.azure.com"


@dataclass(frozen=True)
class SendResult:
    """A message that a webhook received."""

    host: str
    path: str
    body: Any


class ChatServer(ThreadingHTTPServer):
    """Accept or refuse posts to any webhook."""

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.tls.load_cert_chain(certificate)
        self.posted: list[SendResult] = []
        # the statuses of the next responses, instead of 200
        self.statuses: list[int] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.server_close()

    @property
    def texts(self) -> list[str]:
        """The texts of the messages, in any format."""
        return [_text(posted.body) for posted in self.posted]


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_CONNECT(self) -> None:  # the base class finds it by this name
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self.close_connection = False
        self.handle_one_request()
        self.close_connection = True

    def do_POST(self) -> None:  # ditto
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            path = urlsplit(self.path).path
            self.server.posted.append(SendResult(self.headers["host"].split(":")[0], path, body))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name there
        """Say nothing."""


def _text(body: Any) -> str:
    if "attachments" not in body:
        return str(body["text"])
    [attachment] = body["attachments"]
    if "text" in attachment:
        return str(attachment["text"])
    return str(attachment["content"]["body"][-1]["text"])
