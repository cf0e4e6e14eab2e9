"""SMTP connection with a time limit for each operation."""

import io
import smtplib
import socket
import ssl
import time
from typing import Any

_LONGEST_REPLY = 64 * 1024
_CHUNK_BYTES = 64 * 1024


class Connection(smtplib.SMTP):
    """`smtplib.SMTP`, with its timeout for a whole operation instead of for each read."""

    def __init__(
        self, host: str, port: int, *, timeout_seconds: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self._deadline = 0.0
        self._received = 0
        self._is_blocking = True
        super().__init__(host, port, timeout=timeout_seconds)

    def connect(
        self, host: str = "localhost", port: int = 0, source_address: Any = None
    ) -> tuple[int, bytes]:
        del source_address
        self._start_timeout()
        self.sock = self._connect_to_first(host, port)
        if self._tls is not None:
            self.sock.settimeout(self._seconds_left())
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=host)
        return self.getreply()

    def send(self, s: Any) -> None:
        """Send all data; the time limit covers this and the reply."""
        self._start_timeout()
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("please run connect() first")
        rest = memoryview(s.encode(self.command_encoding) if isinstance(s, str) else s)
        try:
            while rest:
                self.sock.settimeout(self._seconds_left())
                rest = rest[self.sock.send(rest[:_CHUNK_BYTES]) :]
        except OSError as error:
            self.close()
            raise smtplib.SMTPServerDisconnected(f"Connection lost: {error}") from error

    def putcmd(self, cmd: str, args: str = "") -> None:
        self.refuse_unread_replies()
        super().putcmd(cmd, args)

    def refuse_unread_replies(self) -> None:
        """Refuse to go on while a reply is unread: the next command would get it."""
        if self.file is None:
            return
        self._is_blocking = False
        try:
            is_unread = bool(self.file.peek(1))
        finally:
            self._is_blocking = True
        if is_unread:
            raise smtplib.SMTPServerDisconnected("the server sent a reply without a command")

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = io.BufferedReader(_Replies(self))
        return super().getreply()

    def starttls(self, *args: Any, **options: Any) -> tuple[int, bytes]:
        """Begin TLS; the handshake has a time limit of its own."""
        self.ehlo_or_helo_if_needed()
        if self.sock is not None:
            self.sock.settimeout(self.timeout)
        return super().starttls(*args, **options)

    def receive_into(self, buffer: Any) -> int | None:
        """Read more of a reply; `None` if there is none yet and the connection does not block."""
        if self.sock is None or self._received > _LONGEST_REPLY:
            raise ConnectionError(f"the reply is longer than {_LONGEST_REPLY} bytes")
        self.sock.settimeout(self._seconds_left() if self._is_blocking else 0)
        try:
            count = self.sock.recv_into(buffer)
        except TimeoutError:
            raise self._timed_out() from None
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        self._received += count
        return count

    def _start_timeout(self) -> None:
        self._deadline = time.monotonic() + self.timeout
        self._received = 0

    def _seconds_left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._timed_out()
        return left

    def _timed_out(self) -> TimeoutError:
        return TimeoutError(f"timed out: no complete reply within {self.timeout:g} s")

    def _connect_to_first(self, host: str, port: int) -> socket.socket:
        """Try the host's addresses in turn, each with its share of the time."""
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failure: OSError = OSError(f"{host} has no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self._seconds_left() / (len(addresses) - tried))
                sock.connect(address)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure


class _Replies(io.RawIOBase):
    """The bytes from the server, for as long and as many as an operation may have."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return self._connection.receive_into(buffer)
