"""Server with scripted responses, byte for byte, over real sockets."""

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

DROP = b""


def answer(
    status: int = 200, body: str = "{}", *, headers: str = "", length: int | None = None
) -> bytes:
    """Return an HTTP response; a `length` above the size of the body makes it truncated."""
    size = len(body.encode()) if length is None else length
    return (
        f"HTTP/1.1 {status} X\r\nContent-Length: {size}\r\nConnection: close\r\n{headers}\r\n{body}"
    ).encode()


@dataclass(frozen=True)
class Request:
    """A received request: first line without the version, headers, body, time of arrival."""

    line: str
    headers: str
    body: str
    at: float


class ScriptedServer:
    """Give the n-th response to the n-th request, and the last one to all further requests.

    `DROP` closes the connection without a response; a float is a silence in seconds.
    """

    def __init__(self, responses: Sequence[bytes | float]) -> None:
        self._responses = list(responses)
        self.requests: list[Request] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        # wakes the listener out of accept()
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            connection, _ = self._listener.accept()
            with connection:
                if not self._closing.is_set():
                    self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        request = _read(connection)
        if request is None:
            return
        self.requests.append(request)
        reply = self._responses[min(len(self.requests), len(self._responses)) - 1]
        if isinstance(reply, float):
            self._closing.wait(reply)
        else:
            with suppress(ConnectionError):  # the client may have read enough
                connection.sendall(reply)


class DrippingServer(ScriptedServer):
    """Send a beginning, and then the same few bytes every 20 ms without end."""

    def __init__(self, beginning: bytes, drop: bytes) -> None:
        super().__init__([])
        self._beginning = beginning
        self._drop = drop
        self._stopping = threading.Event()

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        super().__exit__(*error)  # type: ignore[arg-type]

    def _converse(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(self._beginning)
        while not self._stopping.wait(0.02):
            try:
                connection.sendall(self._drop)
            except OSError:
                return


def _read(connection: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    line, _, headers = head.decode().partition("\r\n")
    length = next(
        (
            int(value)
            for name, _, value in (entry.partition(":") for entry in headers.split("\r\n"))
            if name.lower() == "content-length"
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return Request(line.rpartition(" ")[0], headers, body.decode(), time.monotonic())
