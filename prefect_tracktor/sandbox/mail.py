"""SMTP server on loopback that keeps the messages it receives, with fault injection."""

import asyncio
import datetime as dt
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property
from itertools import count
from pathlib import Path
from weakref import WeakSet

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import BaseModel, ConfigDict, Field

from prefect_tracktor.sandbox.background import BackgroundServer

_NAME = "sandbox.example"


class MailFaults(BaseModel):
    """Injected faults of the mail server. Letter case of addresses does not matter.

    Attributes:
        refused: Recipients that are refused permanently (550).
        deferred: Recipients that are refused temporarily (451), the first `deferrals` times each.
        deferrals: How many times.
        sender_refused: Whether every sender is refused (550).
        drop_every: At each n-th message, the connection is closed before the message is received.
        drop_in_data: At each n-th message, the connection is closed after the message's text; the
            message is not kept.
        drop_after_data: At each n-th message, the connection is closed instead of a confirmation;
            the message is kept.
        delay_seconds: How long each message takes.

    Example:
        >>> MailFaults(refused=frozenset({"ada@example.com"}), drop_every=3).drop_every
        3
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    refused: frozenset[str] = frozenset()
    deferred: frozenset[str] = frozenset()
    deferrals: int = Field(default=1, ge=1)
    sender_refused: bool = False
    drop_every: int | None = Field(default=None, ge=1)
    drop_in_data: int | None = Field(default=None, ge=1)
    drop_after_data: int | None = Field(default=None, ge=1)
    delay_seconds: float = Field(default=0.0, ge=0)


@dataclass(frozen=True)
class ReceivedMessage:
    r"""A received message with its envelope.

    Attributes:
        sender: The envelope's sender.
        recipients: The envelope's recipients.
        raw: The message's bytes.
        at: When it was received.

    Example:
        >>> ReceivedMessage("a@example.com", (), b"Subject: Hello\n\n").message["Subject"]
        'Hello'
    """

    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC), compare=False)

    @cached_property
    def message(self) -> EmailMessage:
        """The message, parsed."""
        return message_from_bytes(self.raw, policy=policy.default)


class MailServer(BackgroundServer):
    """An SMTP server on loopback that keeps the messages it receives.

    Args:
        port: The port; 0 takes a free one.
        faults: The injected faults; can be replaced at any time.
        folder: A folder to which every message is also written as a file; files that are there
            already stay.
        login: The required user name and password; by default none are required, and any are
            accepted.
        starttls: The context for STARTTLS, which is offered with it.
        tls: The context for TLS, which is then used from the start.

    Example:
        >>> import smtplib
        >>> with MailServer() as server:
        ...     with smtplib.SMTP(server.host, server.port) as session:
        ...         _ = session.sendmail("a@example.com", ["b@example.com"], "Subject: Hello")
        ...     server.messages[0].message["Subject"]
        'Hello'
    """

    def __init__(
        self,
        *,
        port: int = 0,
        faults: MailFaults | None = None,
        folder: Path | None = None,
        login: tuple[str, str] | None = None,
        starttls: ssl.SSLContext | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self.port = port
        self.faults = faults or MailFaults()
        self.folder = folder
        self.login = login
        self._starttls = starttls
        self._tls = tls
        self._messages: list[ReceivedMessage] = []
        self._file_numbers = count(1)
        self._connections: WeakSet[SMTP] = WeakSet()

    @property
    def messages(self) -> list[ReceivedMessage]:
        """All messages that were kept, oldest first."""
        return list(self._messages)

    def clear(self) -> None:
        """Remove all messages from memory; files stay."""
        self._messages.clear()

    def keep(self, message: ReceivedMessage) -> None:
        """Keep a message, also as a file if there is a folder for files."""
        self._messages.append(message)
        if self.folder is not None:
            (self.folder / f"{next(self._file_numbers):06}.eml").write_bytes(message.raw)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            stems = [path.stem for path in self.folder.glob("*.eml")]
            self._file_numbers = count(max(map(int, filter(str.isdecimal, stems)), default=0) + 1)
        loop = asyncio.get_running_loop()
        handler = _Handler(self)

        def connection() -> SMTP:
            smtp = SMTP(
                handler,
                hostname=_NAME,
                ident="sandbox",
                enable_SMTPUTF8=True,
                tls_context=self._starttls,
                auth_require_tls=self._starttls is not None,
                authenticator=handler.authenticate,
                loop=loop,
            )
            self._connections.add(smtp)
            return smtp

        server = await loop.create_server(connection, self.host, self.port, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for smtp in list(self._connections):
                _abort(smtp)
            # lets the connections run their handlers for a lost connection
            await asyncio.sleep(0)
            await server.wait_closed()


class _Handler:
    """Handler of aiosmtpd: the server's responses at each step of a session."""

    def __init__(self, server: MailServer) -> None:
        self._server = server
        self._begun = 0
        self._received = 0
        self._deferrals: Counter[str] = Counter()

    def authenticate(
        self, smtp: SMTP, session: Session, envelope: Envelope, mechanism: str, given: object
    ) -> AuthResult:
        del smtp, session, envelope, mechanism
        login = self._server.login
        if login is None:
            return AuthResult(success=True)
        name, password = login
        expected = LoginPassword(name.encode(), password.encode())
        return AuthResult(success=given == expected, handled=False)

    async def handle_MAIL(  # noqa: N802  # aiosmtpd finds its hooks by these names
        self, smtp: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._server.login is not None and not session.authenticated:
            return "530 5.7.0 Authentication required"
        if self._server.faults.sender_refused:
            return "550 5.7.1 Sender refused"
        self._begun += 1
        if _is_nth(self._begun, self._server.faults.drop_every):
            await _hang_up(smtp)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802  # aiosmtpd finds its hooks by these names
        self, smtp: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del smtp, session
        faults, folded = self._server.faults, address.casefold()
        if folded in {refused.casefold() for refused in faults.refused}:
            return "550 5.1.1 No such mailbox"
        if folded in {deferred.casefold() for deferred in faults.deferred}:
            self._deferrals[folded] += 1
            if self._deferrals[folded] <= faults.deferrals:
                return "451 4.7.1 Try again later"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802  # see above
        self, smtp: SMTP, session: Session, envelope: Envelope
    ) -> str:
        del session
        faults = self._server.faults
        self._received += 1
        number = self._received
        if faults.delay_seconds:
            await asyncio.sleep(faults.delay_seconds)
        if _is_nth(number, faults.drop_in_data):
            await _hang_up(smtp)
        raw = envelope.original_content or b""
        self._server.keep(ReceivedMessage(envelope.mail_from or "", tuple(envelope.rcpt_tos), raw))
        if _is_nth(number, faults.drop_after_data):
            await _hang_up(smtp)
        return "250 2.0.0 OK"


def _is_nth(number: int, every: int | None) -> bool:
    return every is not None and number % every == 0


def _abort(smtp: SMTP) -> None:
    if isinstance(smtp.transport, asyncio.WriteTransport):
        # the first releases of Python 3.11 cannot abort a TLS connection that is closed
        with suppress(AttributeError):
            smtp.transport.abort()


async def _hang_up(smtp: SMTP) -> None:
    """Close the connection without a response; aiosmtpd then cancels the handler that waits."""
    _abort(smtp)
    await asyncio.Event().wait()
