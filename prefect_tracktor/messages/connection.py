"""SMTP connection whose every operation ends in time, however slowly the server speaks."""

import io
import smtplib
import socket
import ssl
import time
from typing import Any

_LONGEST_REPLY = 64 * 1024
_AT_ONCE = 64 * 1024


class Connection(smtplib.SMTP):
    """`smtplib.SMTP`, with a time limit for a whole operation instead of for each single byte."""

    def __init__(
        self, host: str, port: int, *, timeout_seconds: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self._ends = 0.0
        self._received = 0
        self._waits = True
        super().__init__(host, port, timeout=timeout_seconds)

    def connect(
        self, host: str = "localhost", port: int = 0, source_address: Any = None
    ) -> tuple[int, bytes]:
        """Connect, and read the greeting."""
        del source_address
        self._begin()
        self.sock = self._reach(host, port)
        if self._tls is not None:
            self.sock.settimeout(self._left())
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=host)
        return self.getreply()

    def send(self, s: Any) -> None:
        """Send all of it; the time for this and for the reply begins now."""
        self._begin()
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("please run connect() first")
        rest = memoryview(s.encode(self.command_encoding) if isinstance(s, str) else s)
        try:
            while rest:
                self.sock.settimeout(self._left())
                rest = rest[self.sock.send(rest[:_AT_ONCE]) :]
        except OSError as error:
            self.close()
            raise smtplib.SMTPServerDisconnected(f"Connection lost: {error}") from error

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Send a command, unless the server has said more than it was asked."""
        self.check_in_step()
        super().putcmd(cmd, args)

    def check_in_step(self) -> None:
        """See that every reply has been read: the next one would be taken for another's."""
        if self.file is None:
            return
        self._waits = False
        try:
            unasked = bool(self.file.peek(1))
        finally:
            self._waits = True
        if unasked:
            raise smtplib.SMTPServerDisconnected("the server sent a reply that was not asked for")

    def getreply(self) -> tuple[int, bytes]:
        """Read a reply."""
        if self.file is None and self.sock is not None:
            self.file = io.BufferedReader(_Replies(self))
        return super().getreply()

    def starttls(self, *args: Any, **options: Any) -> tuple[int, bytes]:
        """Begin TLS; the handshake may take as long as an operation."""
        self.ehlo_or_helo_if_needed()
        if self.sock is not None:
            self.sock.settimeout(self.timeout)
        return super().starttls(*args, **options)

    def receive_into(self, buffer: Any) -> int | None:
        """Wait for more of a reply, and read it; `None` where none is waited for."""
        if self.sock is None or self._received > _LONGEST_REPLY:
            raise ConnectionError(f"the answer is longer than {_LONGEST_REPLY} bytes")
        self.sock.settimeout(self._left() if self._waits else 0)
        try:
            count = self.sock.recv_into(buffer)
        except TimeoutError:
            raise self._too_slow() from None
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        self._received += count
        return count

    def _begin(self) -> None:
        self._ends = time.monotonic() + self.timeout
        self._received = 0

    def _left(self) -> float:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise self._too_slow()
        return left

    def _too_slow(self) -> TimeoutError:
        return TimeoutError(f"timed out: no complete answer within {self.timeout:g} s")

    def _reach(self, host: str, port: int) -> socket.socket:
        """Try each of the host's addresses; one that is silent leaves the others their share."""
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failure: OSError = OSError(f"{host} has no address")
        for behind, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self._left() / (len(addresses) - behind))
                sock.connect(address)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure


class _Replies(io.RawIOBase):
    """The server's bytes, while the operation has time, and no more of them than a reply needs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return self._connection.receive_into(buffer)
