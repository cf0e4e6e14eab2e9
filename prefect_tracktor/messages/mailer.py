"""The block `Mailer`: the mail server, the sender and the mode."""

from email.headerregistry import Address
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from prefect_tracktor.block import TracktorBlock, handbook, logo, saved_name
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.messages.email import parse_mailbox, validated_address
from prefect_tracktor.messages.oauth2 import OAuth2
from prefect_tracktor.messages.smtp import MailSession, Security, SmtpServer
from prefect_tracktor.storage.ledger import NotificationLedger
from prefect_tracktor.text import refuse_masked

_PORT_OF_TLS = 465
_CHECK_SECONDS = 10


def one_of(kind: type[StrEnum]) -> WithJsonSchema:
    """A choice that a form shows with the field's own title and description."""
    return WithJsonSchema({"type": "string", "enum": [str(one) for one in kind]})


class Mode(StrEnum):
    """Whether anything leaves: to customers, to the rehearsal address, or not at all.

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
        """Whether anything leaves; text that no block checked and no mode is sends nothing."""
        return mode in {cls.LIVE, cls.REHEARSAL}

    @property
    def label(self) -> str:
        """The mode for people."""
        return self.value.replace("_", " ")


class Mailer(TracktorBlock):
    """A mail server, the sender, the ledger, and the mode: dry run, rehearsal or live.

    A new mailer is in dry run: set its mode to live to send. Each run reads the mode when it
    starts, however it was started.

    Attributes:
        host: The host name of the provider's server for sending, without a port.
        sender: Who writes; the provider must let this address send.
        mode: `live`: to the customers. `rehearsal`: every message to the rehearsal address instead.
            `dry_run`: nothing is sent. Read when a run starts.
        rehearsal_address: Who gets all messages in a rehearsal.
        port: 587 with STARTTLS, 465 with TLS.
        security: starttls: encrypted after a first greeting. tls: from the start. none: only for a
            server on this machine or a trusted network.
        username: For the login; empty if the server wants none.
        password: For the login; many providers want one made for this application.
        oauth2: Log in with access tokens instead of a password, as Microsoft 365 wants it.
        reply_to: Where replies go, if not to the sender.
        messages_per_second: How many messages the provider allows in a second, such as 5; 0 for as
            many as the server takes. A run always slows down if the server asks for it.
        ledger: Records which customer got which message, so that none is sent twice. Without it:
            the block tracktor, or else a SQLite file in the Prefect home of the machine that runs
            the flow.
        verify_certificate: Whether the server's certificate must be valid. Switch off only for a
            server of your own with a self-made certificate.

    Raises:
        pydantic.ValidationError: A value is invalid; the message never repeats it.

    Example:
        See that the server takes the login:
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

    # a mode that is set in code must not be one that nothing recognizes
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
    def _host_is_one(cls, value: str) -> str:
        host = value.strip()
        if not host or any(character in "/@ " for character in host) or host.count(":") == 1:
            raise InvalidInput(
                "host must be the name of the provider's SMTP server, without https:// or a port,"
                " such as smtp.your-provider.example"
            )
        return host

    @field_validator("sender", "reply_to")
    @classmethod
    def _mailbox_is_one(cls, value: str, info: object) -> str:
        field = str(getattr(info, "field_name", ""))
        if value or field == "sender":
            parse_mailbox(value, field=field)
        return value

    @field_validator("rehearsal_address")
    @classmethod
    def _address_is_one(cls, value: str) -> str:
        return validated_address(value, field="rehearsal_address") if value else ""

    @field_validator("ledger", mode="before")
    @classmethod
    def _none_is_none(cls, value: object) -> object:
        # Prefect's older form stores this where no ledger is chosen: it is no ledger of its own
        return None if value == {} else value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.mode == Mode.REHEARSAL and not self.rehearsal_address:
            raise InvalidInput(
                "rehearsal_address is empty, and mode is rehearsal: say who gets the messages"
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
        """Who writes."""
        return parse_mailbox(self.sender, field="sender")

    @property
    def reply_to_mailbox(self) -> Address | None:
        """Where replies go, if not to the sender."""
        return parse_mailbox(self.reply_to, field="reply_to") if self.reply_to else None

    @property
    def server(self) -> SmtpServer:
        """What a session with the mail server needs to know."""
        password = self.password.get_secret_value()
        refuse_masked(password, field="password")
        return SmtpServer(
            self.host,
            self.port,
            security=self.security,
            username=self.username,
            password=password,
            oauth2=self.oauth2,
            saved_as=saved_name(self),
            verify_certificate=self.verify_certificate,
        )

    def verify(self) -> None:
        """Connect and log in, to see that the server can be used; nothing is sent.

        Raises:
            MailServerError: The server cannot be reached, or refuses the login.
            InvalidInput: The password is one that Prefect has masked.

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
        with MailSession(self.server, timeout_seconds=_CHECK_SECONDS, patience_seconds=0):
            pass
