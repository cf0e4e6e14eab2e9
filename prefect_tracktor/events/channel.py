"""Channel of Prefect events, which notify automations and deployments, not customers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from prefect_tracktor.events.prefect_api import send_events
from prefect_tracktor.events.schema import condition_event
from prefect_tracktor.messages.channel import Channel, Content, Message, Send
from prefect_tracktor.messages.delivery import Delivery, DeliveryOutcome
from prefect_tracktor.models import Fulfillment, Order


@dataclass(frozen=True, slots=True)
class EventChannel(Channel):
    """A channel that sends an event for each condition, again until Prefect has stored it."""

    account: str
    server = "Prefect"
    batch_size = 50
    seconds_per_message = 2
    is_idempotent = True

    def check(self) -> None:
        """Do nothing, because the run has just used Prefect's API."""

    def masked_recipient(self, order: Order) -> str:  # noqa: ARG002
        """Return an empty text, because an event has no recipient."""
        return ""

    def message(
        self,
        order: Order,
        parcels: Sequence[Fulfillment],  # noqa: ARG002
        content: Content,
        *,
        key: str,  # noqa: ARG002
    ) -> Message:
        [condition] = content.conditions
        now = datetime.now(UTC)
        return Message(condition_event(order, condition, account=self.account, received=now))

    @contextmanager
    def session(self) -> Iterator[Send]:
        yield _send


def _send(messages: Sequence[Message]) -> Sequence[Delivery]:
    """Send events, and wait until they are stored."""
    stored = send_events([message.content for message in messages])
    missing = Delivery(DeliveryOutcome.DEFERRED, "Prefect has no such event", kind="missing")
    sent = Delivery(DeliveryOutcome.SENT)
    return [sent if message.content.id in stored else missing for message in messages]
