"""One session with a mail server for many messages, and a plain word on what became of each."""

import logging
import re
import smtplib
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_address
from types import TracebackType
from typing import NamedTuple, Self

import stamina
from prefect_email import EmailServerCredentials, SMTPServer, SMTPType

from prefect_tracktor.errors import InvalidInput, TracktorError
from prefect_tracktor.mail.message import validated_address
from prefect_tracktor.masking import redact

_logger = logging.getLogger(__name__)

_SAID_AT_MOST = 200
_SHORTEST_HIDDEN_NAME = 3

_OK = range(200, 300)
_NOT_NOW = range(400, 500)
_NO = range(500, 600)
_CLOSING = 421
_SEND_CONTENT = 354

_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)

# 5.1.1, also as "(#5.1.1)" at the end, and not within a network address
_ENHANCED_STATUS = re.compile(r"(?<![\d.])5\.(\d{1,3}\.\d{1,3})(?!\.?\d)")
_NO_SUCH_MAILBOX = re.compile(r"1\.([1-6]|9|10)|2\.1")
_BAD_SENDER = re.compile(r"1\.[78]")
_PERHAPS_NO_SUCH_MAILBOX = {501, 550, 551, 553}
_ABOUT_US = re.compile(
    r"relay|sender|helo|polic|spam|auth|block|black|denied|prohibit|not allowed|rcpthosts|rate"
    r"|quota|limit|too many|reputation|\bip\b",
    re.IGNORECASE,
)


class MailServerError(TracktorError):
    """The mail server cannot be used for anybody: unreachable, wrong login, sender refused.

    Example:
        >>> issubclass(MailServerError, TracktorError)
        True
    """


class DeliveryOutcome(StrEnum):
    """What the mail server did with a message.

    Example:
        >>> DeliveryOutcome("sent") is DeliveryOutcome.SENT
        True
    """

    SENT = "sent"
    REFUSED = "refused"
    DEFERRED = "deferred"
    UNCERTAIN = "uncertain"


class Delivery(NamedTuple):
    """A message's outcome.

    Attributes:
        outcome: `SENT`: the server took it. `REFUSED`: the address does not exist, never try again.
            `DEFERRED`: surely not sent, a later try may succeed. `UNCERTAIN`: the connection broke
            when the server may already have taken it.
        reason: What the server said, without addresses; empty when it was sent.

    Example:
        >>> Delivery(DeliveryOutcome.SENT).reason
        ''
    """

    outcome: DeliveryOutcome
    reason: str = ""


class MailSession:
    """A connection to a mail server that is kept for many messages, and made anew when it drops.

    Not to be shared between threads.

    Args:
        server: The mail server; the block is used as configuration only, as its own `get_server`
            waits for ever on a server that does not speak.
        timeout_seconds: How long to wait for each answer.

    Raises:
        InvalidInput: The time-out is not positive.
        MailServerError: On entering: the server cannot be reached, or refuses the login.

    Example:
        >>> from prefect_tracktor.sandbox import MailServer
        >>> message = EmailMessage()
        >>> message["Subject"] = "Hello"
        >>> with MailServer() as server:
        ...     block = EmailServerCredentials(
        ...         smtp_server=server.host, smtp_port=server.port, smtp_type="INSECURE"
        ...     )
        ...     with MailSession(block) as session:
        ...         session.send(message, sender="a@example.com", recipient="b@example.com")
        Delivery(outcome=<DeliveryOutcome.SENT: 'sent'>, reason='')
    """

    def __init__(self, server: EmailServerCredentials, *, timeout_seconds: float = 30) -> None:
        if timeout_seconds <= 0:
            raise InvalidInput(f"timeout_seconds must be more than 0, not {timeout_seconds}")
        self._server = server
        self._timeout = timeout_seconds
        self._smtp: smtplib.SMTP | None = None

    def __enter__(self) -> Self:
        self._warn_of_readable_password()
        self._connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._smtp is not None:
            with suppress(OSError):
                self._smtp.quit()
        self._drop()

    def send(self, message: EmailMessage, *, sender: str, recipient: str) -> Delivery:
        """Send one message to one address.

        Args:
            message: The message.
            sender: The bare address for the envelope.
            recipient: The bare address for the envelope.

        Returns:
            What became of it.

        Raises:
            InvalidInput: Sender or recipient is not exactly one address.
            MailServerError: The server cannot be reached any more, or refuses the sender: nobody
                can be written to, and this message was surely not sent.
        """
        sender = validated_address(sender, field="sender")
        recipient = validated_address(recipient, field="recipient")
        reason = ""
        for _ in range(2):
            smtp = self._smtp or self._reconnect()
            try:
                return self._offer(smtp, message, sender, recipient)
            except OSError as error:  # all errors of smtplib are
                # before any of the content was sent: once more over a new connection
                self._drop()
                reason = self._words(error)
        return Delivery(
            DeliveryOutcome.DEFERRED, _private(f"the connection broke twice: {reason}", recipient)
        )

    def _offer(
        self, smtp: smtplib.SMTP, message: EmailMessage, sender: str, recipient: str
    ) -> Delivery:
        beyond_ascii = not (sender + recipient).isascii()
        if beyond_ascii and not smtp.has_extn("smtputf8"):
            return Delivery(
                DeliveryOutcome.REFUSED,
                "the mail server does not take addresses beyond ASCII (SMTPUTF8)",
            )
        content = _wire_form(message, beyond_ascii=beyond_ascii)
        options = ["SMTPUTF8", "BODY=8BITMIME"] if beyond_ascii else []
        code, said = _understood(smtp.mail(sender, options))
        if code in _NO:
            raise self._sender_refused(smtp, code, said, recipient)
        if code not in _OK:
            return self._not_taken(smtp, DeliveryOutcome.DEFERRED, f"{code} {said}", recipient)
        code, said = _understood(smtp.rcpt(recipient))
        if code in _NO and _blames_sender(said):
            raise self._sender_refused(smtp, code, said, recipient)
        if code not in _OK:
            outcome = _verdict_on_recipient(code, said)
            return self._not_taken(smtp, outcome, f"{code} {said}", recipient)
        code, said = _understood(smtp.docmd("DATA"))
        if code != _SEND_CONTENT:
            return self._not_taken(smtp, DeliveryOutcome.DEFERRED, f"{code} {said}", recipient)
        return self._hand_over(smtp, content, recipient)

    def _hand_over(self, smtp: smtplib.SMTP, content: bytes, recipient: str) -> Delivery:
        """From here on the server may have taken the message, unless it says that it has not."""
        try:
            smtp.send(content)
            code, said = _decoded(smtp.getreply())
        except OSError as error:
            self._drop()
            reason = f"the connection broke while sending: {self._words(error)}"
            return Delivery(DeliveryOutcome.UNCERTAIN, _private(reason, recipient))
        if code in _OK:
            return Delivery(DeliveryOutcome.SENT)
        if code in _NOT_NOW or code in _NO:
            return self._not_taken(smtp, DeliveryOutcome.DEFERRED, f"{code} {said}", recipient)
        self._drop()
        reason = f"the server's answer to the message is no SMTP: {code} {said}"
        return Delivery(DeliveryOutcome.UNCERTAIN, _private(reason, recipient))

    def _not_taken(
        self, smtp: smtplib.SMTP, outcome: DeliveryOutcome, reason: str, recipient: str
    ) -> Delivery:
        self._start_afresh(smtp, closing=reason.startswith(str(_CLOSING)))
        return Delivery(outcome, _private(reason, recipient))

    def _sender_refused(
        self, smtp: smtplib.SMTP, code: int, said: str, recipient: str
    ) -> MailServerError:
        self._start_afresh(smtp)
        return MailServerError(
            f"the mail server refuses the sender: {_private(f'{code} {said}', recipient)}. Use a"
            " sender address that this account may write from.",
            may_have_arrived=False,
        )

    def _start_afresh(self, smtp: smtplib.SMTP, *, closing: bool = False) -> None:
        """Make the server forget the message at hand; if it cannot, leave it."""
        try:
            if closing or smtp.rset()[0] not in _OK:
                self._drop()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            smtp.close()

    def _reconnect(self) -> smtplib.SMTP:
        for attempt in stamina.retry_context(on=MailServerError, attempts=2, wait_initial=1.0):
            with attempt:
                return self._connect()
        raise AssertionError("the last attempt returns or raises")

    def _connect(self) -> smtplib.SMTP:
        step, remedy = "connecting", "smtp_server, smtp_port and smtp_type, and the network"
        try:
            self._smtp = smtp = self._open()
            smtp.ehlo_or_helo_if_needed()
            if self._server.smtp_type is SMTPType.STARTTLS:
                step, remedy = "STARTTLS", "smtp_type, and the server's certificate"
                smtp.starttls(context=self._tls)
                smtp.ehlo_or_helo_if_needed()
            if self._server.username:
                step, remedy = "the login", "username and password; some providers want one per app"
                smtp.login(self._server.username, self._server.password.get_secret_value())
        except (OSError, ValueError) as error:  # ValueError: what smtplib cannot write or decode
            self._drop()
            raise MailServerError(
                f"the mail server cannot be used: {step} failed: {self._words(error)}. Check"
                f" {remedy} (EmailServerCredentials block).",
                may_have_arrived=False,
            ) from None
        return smtp

    def _open(self) -> smtplib.SMTP:
        kind = self._server.smtp_type
        port = self._server.smtp_port or kind.value
        if kind is SMTPType.SSL:
            return smtplib.SMTP_SSL(self._host, port, timeout=self._timeout, context=self._tls)
        return smtplib.SMTP(self._host, port, timeout=self._timeout)

    @property
    def _host(self) -> str:
        server = self._server.smtp_server
        return str(server.value) if isinstance(server, SMTPServer) else str(server)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not self._server.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _warn_of_readable_password(self) -> None:
        safe = self._server.smtp_type is not SMTPType.INSECURE and self._server.verify
        if self._server.username and not safe and not _is_loopback(self._host):
            _logger.warning(
                "The password for the mail server can be read on its way: in the"
                " EmailServerCredentials block, set smtp_type to STARTTLS or SSL, and verify."
            )

    def _words(self, error: Exception) -> str:
        """What went wrong, in words that show no password and no address."""
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout:g} s"
        if isinstance(error, UnicodeError):
            return "it holds characters beyond ASCII"  # the error itself quotes them
        words = str(error)
        if isinstance(error, smtplib.SMTPResponseException):
            said = error.smtp_error
            words = f"{error.smtp_code} {said if isinstance(said, str) else _text(said)}"
        password = self._server.password.get_secret_value()
        return redact(words, secrets=(password,))[:_SAID_AT_MOST]


def verify_login(server: EmailServerCredentials, *, timeout_seconds: float = 10) -> None:
    """Connect to a mail server and log in, to see that it can be used; nothing is sent.

    Args:
        server: The mail server.
        timeout_seconds: How long to wait for each answer.

    Raises:
        MailServerError: It cannot be reached, or refuses the login; the message says what to do.

    Example:
        >>> from prefect_tracktor.sandbox import MailServer
        >>> with MailServer() as server:
        ...     verify_login(
        ...         EmailServerCredentials(
        ...             smtp_server=server.host, smtp_port=server.port, smtp_type="INSECURE"
        ...         )
        ...     )
    """
    with MailSession(server, timeout_seconds=timeout_seconds):
        pass


def _wire_form(message: EmailMessage, *, beyond_ascii: bool) -> bytes:
    """The content as SMTP carries it: CRLF, dots at line starts doubled, a dot at the end."""
    content = message.as_bytes(policy=SMTP.clone(cte_type="7bit", utf8=beyond_ascii))
    lines = _LEADING_DOT.sub(b"..", content)
    return (lines if lines.endswith(b"\r\n") else lines + b"\r\n") + b".\r\n"


def _text(said: bytes) -> str:
    return " ".join(said.decode("utf-8", "replace").split())


def _decoded(reply: tuple[int, bytes]) -> tuple[int, str]:
    code, said = reply
    return code, _text(said)


def _understood(reply: tuple[int, bytes]) -> tuple[int, str]:
    """The reply, unless the server is about to close, or does not speak SMTP."""
    code, said = reply
    if code == _CLOSING or code < _OK.start:
        raise smtplib.SMTPResponseException(code, said)
    return code, _text(said)


def _statuses(said: str) -> list[str]:
    return _ENHANCED_STATUS.findall(said)


def _blames_sender(said: str) -> bool:
    return any(map(_BAD_SENDER.fullmatch, _statuses(said)))


def _verdict_on_recipient(code: int, said: str) -> DeliveryOutcome:
    """Refused for good only where the server surely speaks of the mailbox, not of us or its day."""
    if code not in _NO:
        return DeliveryOutcome.DEFERRED
    if statuses := _statuses(said):
        gone = all(map(_NO_SUCH_MAILBOX.fullmatch, statuses))
    else:
        gone = code in _PERHAPS_NO_SUCH_MAILBOX and not _ABOUT_US.search(said)
    return DeliveryOutcome.REFUSED if gone else DeliveryOutcome.DEFERRED


def _private(reason: str, recipient: str) -> str:
    """What a server said, without the recipient's address or the name in it."""
    name = recipient.rpartition("@")[0]
    hidden = [recipient]
    if len(name) >= _SHORTEST_HIDDEN_NAME:
        hidden += [name, name.lower()]
    return redact(reason, secrets=tuple(hidden))[:_SAID_AT_MOST]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
