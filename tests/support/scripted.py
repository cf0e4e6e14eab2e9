"""A server that gives exactly the answers it was told to, byte for byte, over real sockets."""

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
    """An HTTP answer; `length` claims another size than the body has, so that it is cut off."""
    size = len(body.encode()) if length is None else length
    return (
        f"HTTP/1.1 {status} X\r\nContent-Length: {size}\r\nConnection: close\r\n{headers}\r\n{body}"
    ).encode()


@dataclass(frozen=True)
class Request:
    """What arrived: the first line without the version, the headers, the body, and when."""

    line: str
    headers: str
    body: str
    at: float


class ScriptedServer:
    """Answers the n-th request with the n-th answer, and further ones with the last.

    The answer `DROP` closes the connection without a word; a float is a silence in seconds.
    """

    def __init__(self, answers: Sequence[bytes | float]) -> None:
        self._answers = list(answers)
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
        reply = self._answers[min(len(self.requests), len(self._answers)) - 1]
        if isinstance(reply, float):
            self._closing.wait(reply)
        else:
            with suppress(ConnectionError):  # who has read enough hangs up
                connection.sendall(reply)


class DrippingServer(ScriptedServer):
    """Sends a beginning, and then the same few bytes now and then for ever."""

    def __init__(self, beginning: bytes, drop: bytes) -> None:
        super().__init__([])
        self._beginning = beginning
        self._drop = drop
        self._enough = threading.Event()

    def __exit__(self, *error: object) -> None:
        self._enough.set()
        super().__exit__(*error)  # type: ignore[arg-type]

    def _converse(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(self._beginning)
        while not self._enough.wait(0.02):
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
