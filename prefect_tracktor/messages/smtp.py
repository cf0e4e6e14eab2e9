"""SMTP session: one login for many messages, and the outcome of each."""

import logging
import re
import smtplib
import ssl
import time
from contextlib import suppress
from email.message import EmailMessage
from functools import cached_property
from typing import Self

from prefect_tracktor.block import saved_name
from prefect_tracktor.errors import MailServerError
from prefect_tracktor.messages.delivery import Backoff, Delivery, DeliveryOutcome
from prefect_tracktor.messages.email import validated_address, wire_form
from prefect_tracktor.messages.mailer import Mailer, Security
from prefect_tracktor.messages.oauth2 import access_token, forget_token
from prefect_tracktor.messages.replies import Cause, Reply
from prefect_tracktor.messages.smtp_connection import Connection
from prefect_tracktor.text import redact, refuse_masked
from prefect_tracktor.validation import is_loopback

_logger = logging.getLogger(__name__)

_POSITIVE = range(200, 300)
_TRANSIENT = range(400, 500)
_PERMANENT = range(500, 600)
_SERVICE_CLOSING = 421
_START_CONTENT = range(354, 355)

_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)

_RECONNECT_PAUSE_SECONDS = 1.0
_QUIT_SECONDS = 5.0

_NO_PASSWORDS = (
    "The provider takes no login with a password from this account: set oauth2 of the Mailer block,"
    " which logs in with access tokens, and leave the password out."
)
_NO_TOKENS = (
    "The provider takes the access token, but not for this mailbox: username must be the mailbox's"
    " address. Microsoft 365: the application needs SMTP.SendAsApp with admin consent, its service"
    " principal access to the mailbox in Exchange Online, and the mailbox authenticated SMTP."
    " Google: oauth2.scope must be https://mail.google.com/, granted by this very account."
)
_XOAUTH2 = "XOAUTH2"
_LOGIN_REFUSED = 535
_SIGNS_OF_NO_PASSWORDS = ("5.7.139", "5.7.30", "No suitable authentication method")
_CHECK_LOGIN = "Check username and password of the Mailer block; some providers want one per app."
_CHECK_ADDRESS = "Check host, port and security of the Mailer block, and the network."
_CHECK_SECURITY = "Check security of the Mailer block, and the server's certificate."
_CHECK_TOKENS = "Check host and security of the Mailer block, or log in with a password."


class MailSession:
    """A connection to a mail server for many messages; it reconnects when it is lost."""

    def __init__(
        self,
        mailer: Mailer,
        *,
        timeout_seconds: float = 30,
        backoff_seconds: float = 90,
    ) -> None:
        self._mailer = mailer
        self._password = mailer.password.get_secret_value()
        refuse_masked(self._password, field="password")
        self._sender = mailer.sender_mailbox.addr_spec
        self._timeout = timeout_seconds
        server = f"The mail server {mailer.host}"
        self._backoff = Backoff(server, backoff_seconds, mailer.messages_per_second)
        self._smtp: Connection | None = None

    def __enter__(self) -> Self:
        self._warn_of_readable_password()
        while self._smtp is None:
            try:
                self._connect()
            except MailServerError as unusable:
                if not self._backoff.pause_for(unusable.cause):
                    raise
        return self

    def __exit__(self, *_error: object) -> None:
        if self._smtp is not None:
            self._smtp.timeout = min(self._timeout, _QUIT_SECONDS)
            with suppress(OSError):
                self._smtp.quit()
        self._drop()

    def send(self, message: EmailMessage, *, recipient: str) -> Delivery:
        recipient = validated_address(recipient, field="recipient")
        return self._backoff.deliver(lambda: self._try(message, recipient))

    def _try(self, message: EmailMessage, recipient: str) -> Delivery:
        """Send over the present connection, or over a new one if it is broken."""
        while True:
            is_new = self._smtp is None
            smtp = self._smtp or self._reconnect()
            try:
                return self._offer(smtp, message, recipient)
            except OSError as error:  # all errors of smtplib are
                # nothing of the content was sent yet: a retry is safe
                self._drop()
                if is_new:
                    return self._connection_lost(error)

    def _connection_lost(self, error: OSError) -> Delivery:
        reason = f"the connection broke: {self._describe(error)}"
        reply = _reply_in(error)
        cause, kind = (reply.cause, reply.kind) if reply else (Cause.OTHER, "broken")
        return Delivery(DeliveryOutcome.DEFERRED, reason, cause=cause, kind=kind)

    def _offer(self, smtp: Connection, message: EmailMessage, recipient: str) -> Delivery:
        beyond_ascii = not recipient.isascii()
        if beyond_ascii and not smtp.has_extn("smtputf8"):
            return Delivery(
                DeliveryOutcome.DEFERRED,
                "the mail server does not accept addresses beyond ASCII (SMTPUTF8): use one that"
                " does, or another address of the customer",
                cause=Cause.RECIPIENT,
            )
        content = _dot_stuffed(wire_form(message, utf8=beyond_ascii))
        options = ["SMTPUTF8", "BODY=8BITMIME"] if beyond_ascii else []
        if refusal := _refusal(smtp.mail(self._sender, options)):
            if refusal.code in _PERMANENT and refusal.cause != Cause.RATE and not beyond_ascii:
                raise self._sender_refused(smtp, refusal)
            return self._not_accepted(smtp, refusal)
        if refusal := _refusal(smtp.rcpt(recipient), to_recipient=True):
            if refusal.blames_sender:
                raise self._sender_refused(smtp, refusal)
            return self._not_accepted(smtp, refusal)
        if refusal := _refusal(smtp.docmd("DATA"), wanted=_START_CONTENT):
            return self._not_accepted(smtp, refusal)
        smtp.refuse_unread_replies()
        return self._hand_over(smtp, content)

    def _hand_over(self, smtp: Connection, content: bytes) -> Delivery:
        """Send the content; from here on the server may have accepted the message."""
        try:
            smtp.send(content)
            code, text = smtp.getreply()
        except OSError as error:
            self._drop()
            reason = f"the connection broke while sending: {self._describe(error)}"
            return Delivery(DeliveryOutcome.UNCERTAIN, reason)
        if code in _POSITIVE:
            return Delivery(DeliveryOutcome.SENT)
        reply = _reply(code, text)
        if code in _TRANSIENT or code in _PERMANENT:
            return self._not_accepted(smtp, reply)
        self._drop()
        reason = f"the server's reply to the message is not valid SMTP: {reply}"
        return Delivery(DeliveryOutcome.UNCERTAIN, reason)

    def _not_accepted(self, smtp: Connection, reply: Reply) -> Delivery:
        self._reset(smtp, closing=reply.code == _SERVICE_CLOSING)
        return Delivery(
            DeliveryOutcome.REFUSED if reply.is_final else DeliveryOutcome.DEFERRED,
            str(reply),
            cause=reply.cause,
            kind=reply.kind,
        )

    def _sender_refused(self, smtp: Connection, reply: Reply) -> MailServerError:
        self._reset(smtp)
        cause = Cause.SENDER if reply.cause is Cause.OTHER else reply.cause
        refused = "the sender" if cause is Cause.SENDER else "this account"
        reason = str(reply).rstrip(".")
        return MailServerError(
            f"the mail server refuses {refused}: {reason}. {cause.remedy}", cause=cause
        )

    def _reset(self, smtp: Connection, *, closing: bool = False) -> None:
        """Reset the transaction, or drop the connection if the server cannot."""
        try:
            if closing or smtp.rset()[0] not in _POSITIVE:
                self._drop()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            smtp.close()

    def _reconnect(self) -> Connection:
        """Connect, with a second try after a moment."""
        try:
            return self._connect()
        except MailServerError as unusable:
            if unusable.cause == Cause.RATE:
                raise
        time.sleep(_RECONNECT_PAUSE_SECONDS)
        return self._connect()

    def _connect(self) -> Connection:
        """Connect; if the server refuses the access token, try a new one."""
        oauth2, saved_as = self._mailer.oauth2, saved_name(self._mailer)
        if not oauth2.is_set:
            return self._connect_once()
        try:
            return self._connect_once(access_token(oauth2, saved_as=saved_as))
        except _TokenRefused:
            forget_token(oauth2)
        return self._connect_once(access_token(oauth2, saved_as=saved_as))

    def _connect_once(self, token: str = "") -> Connection:
        step, remedy = "connecting", _CHECK_ADDRESS
        mailer = self._mailer
        tls = self._tls if mailer.security is Security.TLS else None
        try:
            smtp = Connection(mailer.host, mailer.port, timeout_seconds=self._timeout, tls=tls)
            self._smtp = smtp
            smtp.ehlo_or_helo_if_needed()
            if mailer.security is Security.STARTTLS:
                step, remedy = "STARTTLS", _CHECK_SECURITY
                smtp.starttls(context=self._tls)
                smtp.ehlo_or_helo_if_needed()
            if token:
                step, remedy = "the login with an access token", _NO_TOKENS
                _log_in(smtp, mailer.username, token)
            elif mailer.username:
                step, remedy = "the login", _CHECK_LOGIN
                smtp.login(mailer.username, self._password)
        except (OSError, ValueError) as error:  # ValueError: smtplib cannot encode or decode it
            self._drop()
            raise self._unusable(step, remedy, error) from None
        return smtp

    def _unusable(self, step: str, remedy: str, error: Exception) -> MailServerError:
        has_token = self._mailer.oauth2.is_set
        reply = _reply_in(error)
        cause = reply.cause if reply else Cause.OTHER
        if cause in (Cause.RATE, Cause.LIMIT):
            remedy = cause.remedy
        elif not has_token and _accepts_no_passwords(error):
            remedy = _NO_PASSWORDS
        elif has_token and isinstance(error, smtplib.SMTPNotSupportedError):
            remedy = _CHECK_TOKENS
        reason = self._describe(error).rstrip(".")
        is_refused = has_token and reply and reply.code == _LOGIN_REFUSED
        kind = _TokenRefused if is_refused else MailServerError
        problem = f"the mail server cannot be used: {step} failed: {reason}. {remedy}"
        return kind(problem, cause=cause)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not self._mailer.verify_certificate:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _warn_of_readable_password(self) -> None:
        mailer = self._mailer
        safe = mailer.security is not Security.NONE and mailer.verify_certificate
        if mailer.username and not safe and not is_loopback(mailer.host):
            _logger.warning(
                "The password for the mail server can be read on its way: in the Mailer block, set"
                " security to starttls or tls, and verify_certificate."
            )

    def _describe(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout:g} s"
        if isinstance(error, UnicodeError):
            # the error itself quotes them
            return "username or password has characters beyond ASCII"
        return str(_reply_in(error) or redact(str(error)))


class _TokenRefused(MailServerError):
    """The server refuses an access token."""


def _log_in(smtp: Connection, username: str, token: str) -> None:
    """Log in by XOAUTH2; a refusal is a challenge, to which the response is an empty line."""
    if _XOAUTH2 not in smtp.esmtp_features.get("auth", "").upper().split():
        raise smtplib.SMTPNotSupportedError("the server offers no login with XOAUTH2")
    login = f"user={username}\1auth=Bearer {token}\1\1"
    smtp.auth(_XOAUTH2, lambda challenge=None: login if challenge is None else "")


def _dot_stuffed(content: bytes) -> bytes:
    """Encode content for SMTP: dots at line starts doubled, a dot at the end."""
    lines = _LEADING_DOT.sub(b"..", content)
    return (lines if lines.endswith(b"\r\n") else lines + b"\r\n") + b".\r\n"


def _text(reply: bytes | str) -> str:
    text = reply if isinstance(reply, str) else reply.decode("utf-8", "replace")
    return " ".join(text.split())


def _refusal(
    reply: tuple[int, bytes], *, wanted: range = _POSITIVE, to_recipient: bool = False
) -> Reply | None:
    """Return a negative reply; raise it if the server is closing, or the reply is not SMTP."""
    code, text = reply
    if code in wanted:
        return None
    if code == _SERVICE_CLOSING or code < _TRANSIENT.start:
        raise smtplib.SMTPResponseException(code, text)
    return _reply(code, text, to_recipient=to_recipient)


def _reply(code: int, text: bytes, *, to_recipient: bool = False) -> Reply:
    reply = Reply(code, _text(text), to_recipient=to_recipient)
    _logger.debug("the mail server replied %s %r", code, reply.text)
    return reply


def _reply_in(error: Exception) -> Reply | None:
    # not logged: a server may echo the login
    if isinstance(error, smtplib.SMTPResponseException):
        return Reply(error.smtp_code, _text(error.smtp_error))
    return None


def _accepts_no_passwords(error: Exception) -> bool:
    # no method that smtplib has, or Microsoft's code for disabled passwords
    text = str(error)
    return any(sign in text for sign in _SIGNS_OF_NO_PASSWORDS)
