"""One session with a mail server for many messages, and a plain word on what became of each."""

import logging
import re
import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from enum import StrEnum
from ipaddress import ip_address
from types import TracebackType
from typing import NamedTuple, Self

from prefect_email import EmailServerCredentials
from prefect_email.credentials import SMTPServer, SMTPType

from prefect_tracktor.errors import TracktorError
from prefect_tracktor.masking import redact

_logger = logging.getLogger(__name__)

_SAID_AT_MOST = 200
_RECONNECT_ATTEMPTS = 2
_LINE_END = re.compile(rb"\r\n|\r|\n")
_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)
_ENHANCED_STATUS = re.compile(r"^([245])\.(\d{1,3})\.(\d{1,3})\b")
_NO_SUCH_MAILBOX = {550, 551, 553, 501}


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

    Args:
        server: The mail server; the block is used as configuration only, as its own `get_server`
            waits for ever on a server that does not speak.
        timeout_seconds: How long to wait for each answer.

    Raises:
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
        self._server = server
        self._timeout = timeout_seconds
        self._smtp: smtplib.SMTP | None = None

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._smtp is not None:
            try:
                self._smtp.quit()
            except (OSError, smtplib.SMTPException):
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
            MailServerError: The server cannot be reached any more, or refuses the sender: nobody
                can be written to, and this message was surely not sent.
        """
        for attempt in (1, 2):
            smtp = self._smtp or self._connect()
            try:
                return self._transact(smtp, message, sender, recipient)
            except (OSError, smtplib.SMTPException) as error:
                # broken before the content was sent: once more over a new connection
                self._drop()
                if attempt == _RECONNECT_ATTEMPTS:
                    return Delivery(
                        DeliveryOutcome.DEFERRED, f"the connection broke ({_name(error)})"
                    )
        raise AssertionError("an attempt returns or raises")

    def _transact(
        self, smtp: smtplib.SMTP, message: EmailMessage, sender: str, recipient: str
    ) -> Delivery:
        international = not (sender + recipient).isascii()
        if international and not smtp.has_extn("smtputf8"):
            return Delivery(
                DeliveryOutcome.REFUSED, "the mail server does not take addresses beyond ASCII"
            )
        content = _wire_form(message, international=international)
        options = ["SMTPUTF8", "BODY=8BITMIME"] if international else []
        self._greet_sender(smtp, sender, options)
        code, said = smtp.rcpt(recipient)
        if code not in (250, 251):
            return self._not_taken(smtp, _verdict_on_recipient(code, said), code, said)
        code, said = smtp.docmd("DATA")
        if code != 354:
            return self._not_taken(smtp, DeliveryOutcome.DEFERRED, code, said)
        return self._hand_over(smtp, content)

    def _greet_sender(self, smtp: smtplib.SMTP, sender: str, options: list[str]) -> None:
        code, said = smtp.mail(sender, options)
        if code == 421 or 400 <= code < 500:
            # the server is busy: nothing about this message, and nothing was sent
            raise smtplib.SMTPResponseException(code, said)
        if code != 250:
            raise MailServerError(
                f"the mail server refuses the sender ({_words(code, said)}). Use a sender address"
                " that this account may write from."
            )

    def _hand_over(self, smtp: smtplib.SMTP, content: bytes) -> Delivery:
        """From here on the server may have taken the message, whatever happens."""
        try:
            smtp.send(content)
            code, said = smtp.getreply()
        except (OSError, smtplib.SMTPException) as error:
            self._drop()
            return Delivery(
                DeliveryOutcome.UNCERTAIN, f"the connection broke while sending ({_name(error)})"
            )
        if code == 250:
            return Delivery(DeliveryOutcome.SENT)
        return self._not_taken(smtp, DeliveryOutcome.DEFERRED, code, said)

    def _not_taken(
        self, smtp: smtplib.SMTP, outcome: DeliveryOutcome, code: int, said: bytes
    ) -> Delivery:
        if code == 421:
            self._drop()
        else:
            try:
                smtp.rset()
            except (OSError, smtplib.SMTPException):
                self._drop()
        return Delivery(outcome, _words(code, said))

    def _drop(self) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            smtp.close()

    def _connect(self) -> smtplib.SMTP:
        step = "connecting"
        try:
            smtp = self._open()
            step = "STARTTLS"
            if self._server.smtp_type is SMTPType.STARTTLS:
                smtp.starttls(context=self._tls())
            step = "the greeting"
            smtp.ehlo_or_helo_if_needed()
            step = "the login"
            self._log_in(smtp)
        except (OSError, smtplib.SMTPException) as error:
            raise MailServerError(
                f"the mail server cannot be used: {step} failed ({_reason(error)}). Check"
                " smtp_server, smtp_port, smtp_type, username and password of the"
                " EmailServerCredentials block.",
                may_have_arrived=False,
            ) from None
        self._smtp = smtp
        return smtp

    def _open(self) -> smtplib.SMTP:
        kind = self._server.smtp_type
        port = self._server.smtp_port or kind.value
        if kind is SMTPType.SSL:
            return smtplib.SMTP_SSL(self._host, port, timeout=self._timeout, context=self._tls())
        return smtplib.SMTP(self._host, port, timeout=self._timeout)

    def _log_in(self, smtp: smtplib.SMTP) -> None:
        if not self._server.username:
            return
        if self._server.smtp_type is SMTPType.INSECURE and not _is_loopback(self._host):
            _logger.warning(
                "The password for the mail server travels unencrypted: set smtp_type to STARTTLS or"
                " SSL in the EmailServerCredentials block."
            )
        smtp.login(self._server.username, self._server.password.get_secret_value())

    @property
    def _host(self) -> str:
        server = self._server.smtp_server
        return str(server.value) if isinstance(server, SMTPServer) else str(server)

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not self._server.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _wire_form(message: EmailMessage, *, international: bool) -> bytes:
    """The content as SMTP carries it: CRLF, dots at line starts doubled, a dot at the end."""
    policy = SMTPUTF8 if international else SMTP
    content = message.as_bytes(policy=policy.clone(cte_type="7bit"))
    lines = _LEADING_DOT.sub(b"..", _LINE_END.sub(b"\r\n", content))
    return (lines if lines.endswith(b"\r\n") else lines + b"\r\n") + b".\r\n"


def _verdict_on_recipient(code: int, said: bytes) -> DeliveryOutcome:
    """Refused for good only where the server speaks of the mailbox, not of us or of its day."""
    status = _ENHANCED_STATUS.match(said.decode("utf-8", "replace"))
    if status:
        permanent, subject, detail = status.groups()
        about_mailbox = permanent == "5" and (subject == "1" or (subject, detail) == ("2", "1"))
    else:
        about_mailbox = code in _NO_SUCH_MAILBOX
    return DeliveryOutcome.REFUSED if about_mailbox else DeliveryOutcome.DEFERRED


def _words(code: int, said: bytes) -> str:
    text = redact(" ".join(said.decode("utf-8", "replace").split()))
    return f"{code} {text[:_SAID_AT_MOST]}"


def _name(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException) and error.smtp_code > 0:
        said = error.smtp_error
        return _words(error.smtp_code, said if isinstance(said, bytes) else said.encode())
    return type(error).__name__


def _reason(error: Exception) -> str:
    return _name(error) if isinstance(error, smtplib.SMTPException) else redact(str(error))[:200]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
