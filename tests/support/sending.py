"""Messages to made-up customers, sent as in a flow run, but without one."""

from dataclasses import dataclass

from prefect_tracktor import EmailTemplate, Mailer, NotificationLedger
from prefect_tracktor.conditions import Condition
from prefect_tracktor.messages.channel import Content, MailChannel
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.runs.sending import NoticeCase, Sending
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState

ACCOUNT = "shop"


@dataclass(frozen=True, slots=True)
class Sent:
    """The notices in the order in which they ended, and the advice for the run's error."""

    notices: list[NoticeCase]
    advice: str

    @property
    def outcomes(self) -> list[str]:
        return [notice.outcome.value for notice in self.notices]

    def states(self, ledger: NotificationLedger) -> list[NoticeState | None]:
        known = ledger.states(key for notice in self.notices for key in notice.keys)
        return [known.get(notice.keys[0]) for notice in self.notices]


def send(
    mailer: Mailer,
    ledger: NotificationLedger,
    count: int,
    *,
    first: int = 1,
    run: str = "run",
    name: str = "c",
) -> Sent:
    """Send messages to `count` customers, each about one parcel."""
    channel = MailChannel(mailer, b"key")
    notices = [_notice(channel, number, name) for number in range(first, first + count)]
    sending = Sending(channel, ledger, run, ACCOUNT, renew=lambda _notice: None)
    with ledger.at_work(run):
        return Sent(list(sending.send(notices)), sending.advice)


def key_of(number: int) -> NoticeKey:
    """Return the ledger's key of a customer's parcel."""
    return NoticeKey(ACCOUNT, number, number, "exception:expired")


def _notice(channel: MailChannel, number: int, name: str) -> NoticeCase:
    email = f"{name}{number}@example.com"
    order = Order(order_id=number, order_name=f"#{number}", order_email=email)
    parcel = Fulfillment(fulfillment_id=number, exception_status="expired")
    content = Content(EmailTemplate(), (Condition("exception:expired", parcel),))
    message = channel.message(order, [parcel], content, key=str(key_of(number)))
    columns: dict[str, str | int] = {"Order": f"#{number}"}
    return NoticeCase(
        id=number, columns=columns, keys=(key_of(number),), message=message, planned=True
    )
