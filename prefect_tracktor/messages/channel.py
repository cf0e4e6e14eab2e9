"""Channels: ways to send notices; email is one of them."""

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from prefect_tracktor.conditions import Condition
from prefect_tracktor.messages.delivery import Delivery
from prefect_tracktor.messages.email import compose, validated_address
from prefect_tracktor.messages.mailer import Mailer, Mode
from prefect_tracktor.messages.smtp import MailSession
from prefect_tracktor.messages.template import EmailTemplate, RenderedEmail, ShopInfo
from prefect_tracktor.messages.words import About
from prefect_tracktor.models import Fulfillment, Order, ShipmentStatus
from prefect_tracktor.text import mask_email


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a message: its template, and the conditions that it is about."""

    template: EmailTemplate
    conditions: tuple[Condition, ...]
    per_order: bool = False

    @property
    def about(self) -> About:
        """The kind of message, which selects the shipped words."""
        first = self.conditions[0]
        if first.kind == "exception":
            expired = all(condition.key == "expired" for condition in self.conditions)
            return "expired" if expired else "exception"
        if first.kind != "status":
            return "not_shipped" if first.kind in {"not_shipped", "label_only"} else "stalled"
        if self.per_order and first.key == ShipmentStatus.DELIVERED:
            return "all_delivered"
        return "status"


@dataclass(frozen=True, slots=True)
class Message:
    """A message ready to send: the channel's own content, and a keyed hash of the recipient."""

    content: Any
    recipient: str = ""


# sends messages, and returns the outcome of each
Send = Callable[[Sequence[Message]], Sequence[Delivery]]


class Channel(ABC):
    """A way to send notices."""

    # the name of the server in messages for people
    server: str
    # false in a rehearsal
    reaches_customers: bool = True
    # whether a repeated message does no harm, so that none is claimed
    is_idempotent: bool = False
    # messages per `Send`, and the most that each takes beside the sending itself
    batch_size: int = 1
    seconds_per_message: float = 0

    @abstractmethod
    def check(self) -> None:
        """Check that the channel can be used, before orders are read."""

    @abstractmethod
    def masked_recipient(self, order: Order) -> str:
        """Return the recipient for tables: masked, or empty."""

    @abstractmethod
    def message(
        self, order: Order, parcels: Sequence[Fulfillment], content: Content, *, key: str
    ) -> Message:
        """Render the message about an order; a repetition has the same key."""

    @abstractmethod
    def session(self) -> AbstractContextManager[Send]:
        """Connect, and give the function that sends."""


def keyed_hash(secret: bytes, text: str) -> str:
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


class MailChannel(Channel):
    """Email through a mailer; recipients are hashed with the ledger's secret."""

    server = "the mail server"

    def __init__(self, mailer: Mailer, secret: bytes) -> None:
        rate = mailer.messages_per_second
        self.reaches_customers = mailer.mode != Mode.REHEARSAL
        self.seconds_per_message = 1 / rate if rate else 0
        self._mailer = mailer
        self._sender, self._reply_to = mailer.sender_mailbox, mailer.reply_to_mailbox
        self._secret = secret

    def check(self) -> None:
        with MailSession(self._mailer):
            pass

    def masked_recipient(self, order: Order) -> str:
        return mask_email(order.order_email)

    def message(
        self, order: Order, parcels: Sequence[Fulfillment], content: Content, *, key: str
    ) -> Message:
        recipient = validated_address(order.order_email or "", field="order_email")
        hashed = keyed_hash(self._secret, recipient.casefold())
        rendered = content.template.render(
            order, parcels, shop=self._shop(parcels), about=content.about
        )
        if not self.reaches_customers:
            recipient, hashed = self._mailer.rehearsal_address, ""
            rendered = replace(rendered, subject=f"[Rehearsal] {rendered.subject}")
        email = compose(
            rendered,
            sender=self._sender,
            recipient=recipient,
            reply_to=self._reply_to,
            message_key=key,
        )
        return Message((email, recipient), hashed)

    def preview(
        self, order: Order, parcels: Sequence[Fulfillment], content: Content
    ) -> RenderedEmail:
        """Render the email without personal data."""
        shop = self._shop(parcels)
        return content.template.preview(order, parcels, shop=shop, about=content.about)

    def _shop(self, parcels: Sequence[Fulfillment]) -> ShopInfo:
        shop_url = next((parcel.shop_url for parcel in parcels if parcel.shop_url), "")
        replies = (self._reply_to or self._sender).addr_spec
        return ShopInfo(self._sender.display_name or self._sender.domain, shop_url, replies)

    @contextmanager
    def session(self) -> Iterator[Send]:
        with MailSession(self._mailer) as session:
            yield lambda messages: [
                session.send(email, recipient=recipient)
                for email, recipient in (message.content for message in messages)
            ]
