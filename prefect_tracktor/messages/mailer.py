"""The block `Mailer`: the mail server, the sender and the mode."""

from email.headerregistry import Address
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from prefect_tracktor.block import TracktorBlock, handbook, logo
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.forms import one_of
from prefect_tracktor.messages.email import parse_mailbox, validated_address
from prefect_tracktor.messages.oauth2 import OAuth2
from prefect_tracktor.storage.ledger import NotificationLedger

_PORT_OF_TLS = 465
_CHECK_SECONDS = 10


def _can_be_host(name: str) -> bool:
    try:
        name.encode("idna")
    except UnicodeError:  # a part is empty or too long
        return False
    is_address = any(character in "/@ " for character in name) or name.count(":") == 1
    return bool(name) and name.isprintable() and not is_address


class Mode(StrEnum):
    """The recipients of messages: customers, the rehearsal address, or nobody.

    Example:
        >>> Mode("dry run") is Mode.DRY_RUN
        True
    """

    LIVE = "live"
    REHEARSAL = "rehearsal"
    DRY_RUN = "dry_run"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        key = str(value).strip().casefold().replace(" ", "_").replace("-", "_")
        return next((mode for mode in cls if mode == key), None)

    @classmethod
    def sends(cls, mode: str) -> bool:
        """Whether a mode sends messages; an unknown mode does not."""
        return mode in {cls.LIVE, cls.REHEARSAL}

    @property
    def label(self) -> str:
        """The mode in words."""
        return self.value.replace("_", " ")


class Security(StrEnum):
    """The encryption of the connection to a mail server."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class Mailer(TracktorBlock):
    """A mail server, the sender, the ledger, and the mode: dry run, rehearsal or live.

    A new mailer is in dry run: set its mode to live to send. Each run reads the mode when it
    starts, however it was started.

    Attributes:
        host: The host name of the provider's server for sending, without a port.
        sender: The sender; the provider must let this address send.
        mode: `live`: to the customers. `rehearsal`: every message to the rehearsal address instead.
            `dry_run`: nothing is sent. Read when a run starts.
        rehearsal_address: The recipient of all messages in a rehearsal.
        port: 587 with STARTTLS, 465 with TLS.
        security: starttls: encrypted after the greeting. tls: encrypted from the start. none: only
            for a server on this machine or a trusted network.
        username: For the login; empty if the server needs none.
        password: For the login; many providers require an app password.
        oauth2: Log in with access tokens instead of a password; Microsoft 365 requires it.
        reply_to: The address for replies, if it is not the sender.
        messages_per_second: How many messages the provider allows in a second, such as 5; 0 for
            no limit. A run always slows down if the server asks for it.
        ledger: Records which customer got which message, so that none is sent twice. Without it:
            the block tracktor, or else a SQLite file in the Prefect home of the machine that runs
            the flow.
        verify_certificate: Whether the server's certificate must be valid. Switch off only for a
            server of your own with a self-signed certificate.

    Raises:
        pydantic.ValidationError: A value is invalid; the message never repeats it.

    Example:
        Check that the server accepts the login:
        ```python
        from prefect_tracktor import Mailer

        mailer = Mailer.load("BLOCK_NAME")
        mailer.verify()
        ```
    """

    _block_type_name = "Tracktor Mailer"
    _block_type_slug = "tracktor-mailer"
    _logo_url = logo("email-fast")
    _description = (
        "A mail server, the sender, the ledger, and the mode: dry run, rehearsal or live."
    )
    _documentation_url = handbook("how-to/configure.md#mailer")

    # a mode set in code is validated, too
    model_config = ConfigDict(validate_assignment=True)

    host: str = Field(title="SMTP server", examples=["smtp.your-provider.example"])
    sender: str = Field(examples=["Your Shop <orders@your-shop.example>"])
    mode: Annotated[Mode, one_of(Mode)] = Mode.DRY_RUN
    rehearsal_address: str = Field(default="", examples=["you@your-shop.example"])
    port: int = Field(default=587, ge=1, le=65535)
    security: Annotated[Security, one_of(Security)] = Field(
        default=Security.STARTTLS, title="Encryption"
    )
    username: str = Field(default="", title="User name")
    password: SecretStr = SecretStr("")
    oauth2: OAuth2 = Field(default=OAuth2(), title="OAuth 2.0")
    reply_to: str = ""
    messages_per_second: float = Field(default=0, ge=0, le=10_000, allow_inf_nan=False)
    ledger: NotificationLedger | None = None
    verify_certificate: bool = True

    @field_validator("host")
    @classmethod
    def _host_is_valid(cls, value: str) -> str:
        host = value.strip()
        if not _can_be_host(host):
            raise InvalidInput(
                "host must be the name of the provider's SMTP server, without https:// or a port,"
                " such as smtp.your-provider.example"
            )
        return host

    @field_validator("sender", "reply_to")
    @classmethod
    def _mailbox_is_valid(cls, value: str, info: ValidationInfo) -> str:
        if value or info.field_name == "sender":
            parse_mailbox(value, field=str(info.field_name))
        return value

    @field_validator("rehearsal_address")
    @classmethod
    def _address_is_valid(cls, value: str) -> str:
        return validated_address(value, field="rehearsal_address") if value else ""

    @field_validator("ledger", mode="before")
    @classmethod
    def _empty_ledger_is_none(cls, value: object) -> object:
        # an older form of Prefect stores `{}` if no ledger is chosen
        return None if value == {} else value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.mode == Mode.REHEARSAL and not self.rehearsal_address:
            raise InvalidInput(
                "rehearsal_address is empty, and mode is rehearsal: set who gets the messages"
            )
        if self.port == _PORT_OF_TLS and self.security is Security.STARTTLS:
            raise InvalidInput(
                "port 465 is encrypted from the start: set security to tls, or port to 587"
            )
        if self.oauth2.is_set and self.password.get_secret_value():
            raise InvalidInput("password and oauth2 are both set: leave one of them out")
        if self.oauth2.is_set and not self.username:
            raise InvalidInput("username is empty: with oauth2 it is the address of the mailbox")
        return self

    @property
    def sender_mailbox(self) -> Address:
        """The sender, parsed."""
        return parse_mailbox(self.sender, field="sender")

    @property
    def reply_to_mailbox(self) -> Address | None:
        """The address for replies, if it is not the sender."""
        return parse_mailbox(self.reply_to, field="reply_to") if self.reply_to else None

    def verify(self) -> None:
        """Connect and log in, without sending anything.

        Raises:
            MailServerError: The server cannot be reached, or refuses the login.
            InvalidInput: Prefect has masked the password.

        Example:
            >>> from prefect_tracktor.sandbox import MailServer
            >>> with MailServer() as server:
            ...     Mailer(
            ...         host=server.host,
            ...         port=server.port,
            ...         security="none",
            ...         sender="Your Shop <orders@your-shop.example>",
            ...     ).verify()
        """
        from prefect_tracktor.messages.smtp import MailSession

        with MailSession(self, timeout_seconds=_CHECK_SECONDS, backoff_seconds=0):
            pass
