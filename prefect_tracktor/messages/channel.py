"""Channels: the ways by which somebody is told something; e-mail is one of them."""

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from email.message import EmailMessage
from typing import Any, Protocol

from prefect_tracktor.conditions import Condition
from prefect_tracktor.messages.email import compose, validated_address
from prefect_tracktor.messages.mailer import Mailer, Mode
from prefect_tracktor.messages.smtp import Delivery, MailSession
from prefect_tracktor.messages.template import EmailTemplate, RenderedEmail, ShopInfo
from prefect_tracktor.messages.words import About
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.text import mask_email


@dataclass(frozen=True, slots=True)
class Message:
    """A message ready to go: what its channel sends, and a keyed hash of who gets it."""

    content: Any
    recipient: str = ""


class Session(Protocol):
    """An open connection of a channel."""

    def send(self, messages: Sequence[Message]) -> Sequence[Delivery]:
        """Send messages, and say what became of each."""
        ...


class Channel(Protocol):
    """A way to tell somebody something."""

    @property
    def server(self) -> str:
        """What it speaks to, for people."""
        ...

    @property
    def reaches_customers(self) -> bool:
        """Whether those are told who are meant; in a rehearsal they are not."""
        ...

    @property
    def may_repeat(self) -> bool:
        """Whether the same message does no harm if it is sent again, so that none is claimed."""
        ...

    @property
    def lot_size(self) -> int:
        """How many messages are sent at a time."""
        ...

    @property
    def seconds_a_message(self) -> float:
        """What one may take at most, beside the sending itself."""
        ...

    def check(self) -> None:
        """See that it can be used, before anything is spent on reading."""
        ...

    def to(self, order: Order) -> str:
        """Who is told, as people may see it in tables: masked, or empty."""
        ...

    def message(
        self, order: Order, parcels: Sequence[Fulfillment], content: Any, *, key: str
    ) -> Message:
        """Render what an order's customer is told; a repetition has the same key."""
        ...

    def session(self) -> AbstractContextManager[Session]:
        """Connect."""
        ...


class NoticeContent(Protocol):
    """What somebody is told."""

    @property
    def conditions(self) -> Sequence[Condition]:
        """What it is about."""
        ...

    @property
    def template(self) -> EmailTemplate:
        """The words."""
        ...

    @property
    def about(self) -> About:
        """Which of the shipped words fit."""
        ...


@dataclass(frozen=True, slots=True)
class _Envelope:
    sender: str
    recipient: str
    message: EmailMessage


@dataclass(frozen=True, slots=True)
class MailChannel:
    """E-mail, as a mailer sends it."""

    mailer: Mailer
    # what addresses are hashed with, so that the ledger does not give them away
    address_key: bytes
    server: str = "the mail server"
    lot_size: int = 1
    may_repeat: bool = False

    @property
    def reaches_customers(self) -> bool:
        """Whether the customers get the messages."""
        return self.mailer.mode != Mode.REHEARSAL

    @property
    def seconds_a_message(self) -> float:
        """What the provider's rate makes of it."""
        rate = self.mailer.messages_per_second
        return 1 / rate if rate else 0

    def check(self) -> None:
        """See that the mail server takes the login."""
        with MailSession(self.mailer.server):
            pass

    def to(self, order: Order) -> str:
        """The customer's address, masked."""
        return mask_email(order.order_email)

    def message(
        self,
        order: Order,
        parcels: Sequence[Fulfillment],
        content: NoticeContent,
        *,
        key: str,
    ) -> Message:
        """Render the e-mail to an order's customer."""
        customer = validated_address(order.order_email or "", field="order_email")
        sender = self.mailer.sender_mailbox
        shop = self._shop(parcels)
        rendered = content.template.render(order, parcels, shop=shop, about=content.about)
        recipient = customer
        if not self.reaches_customers:
            recipient = self.mailer.rehearsal_address
            rendered = replace(rendered, subject=f"[Rehearsal] {rendered.subject}")
        message = compose(
            rendered,
            sender=sender,
            recipient=recipient,
            reply_to=self.mailer.reply_to_mailbox,
            message_key=key,
        )
        return Message(
            _Envelope(sender.addr_spec, recipient, message),
            self._hashed(customer) if self.reaches_customers else "",
        )

    def preview(
        self, order: Order, parcels: Sequence[Fulfillment], content: NoticeContent
    ) -> RenderedEmail:
        """Render the e-mail without personal data."""
        shop = self._shop(parcels)
        return content.template.preview(order, parcels, shop=shop, about=content.about)

    def _shop(self, parcels: Sequence[Fulfillment]) -> ShopInfo:
        sender = self.mailer.sender_mailbox
        shop_url = next((parcel.shop_url for parcel in parcels if parcel.shop_url), "")
        replies = (self.mailer.reply_to_mailbox or sender).addr_spec
        return ShopInfo(sender.display_name or sender.domain, shop_url, replies)

    def _hashed(self, address: str) -> str:
        return hmac.new(self.address_key, address.casefold().encode(), hashlib.sha256).hexdigest()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Log in, once for all messages."""
        rate = self.mailer.messages_per_second
        with MailSession(self.mailer.server, messages_per_second=rate) as session:
            yield _MailSession(session)


@dataclass(frozen=True, slots=True)
class _MailSession:
    _session: MailSession

    def send(self, messages: Sequence[Message]) -> Sequence[Delivery]:
        return [
            self._session.send(
                message.content.message,
                sender=message.content.sender,
                recipient=message.content.recipient,
            )
            for message in messages
        ]
