"""Delivery of the team's digest: notification blocks of any kind, and rehearsals."""

from typing import Any, ClassVar

import pytest
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.notifications import SlackWebhook

from prefect_tracktor import (
    CompletedOrders,
    InvalidInput,
    Mailer,
    NotificationLedger,
    ReadingOptions,
    TracktorCredentials,
    TracktorError,
)
from prefect_tracktor.flows import TeamDigest, announce_exceptions, report_exceptions
from prefect_tracktor.sandbox import MailServer, Sandbox
from tests.support.chat import SLACK, ChatServer
from tests.support.mailers import mailer_of
from tests.system.flows.conftest import written_to

pytestmark = pytest.mark.usefixtures("prefect_api")

STAFF = "me@sandbox-shop.example"


class AsyncChat(NotificationBlock):
    """A block with a coroutine, as Prefect's base class declares `notify`."""

    _block_type_slug = "async-chat"
    received: ClassVar[list[str]] = []
    is_down: bool = False

    async def notify(self, body: str, subject: str | None = None) -> None:  # noqa: ARG002
        if self.is_down:
            raise ConnectionError(body)
        self.received.append(body)


@pytest.fixture
def usual(
    credentials: TracktorCredentials, tracktor: Sandbox, ledger: NotificationLedger
) -> dict[str, Any]:
    orders = list(tracktor.shop.order_ids)
    return {"credentials": credentials, "orders": orders, "ledger": ledger}


def test_a_digest_reaches_a_notification_block_with_a_coroutine(
    usual: dict[str, Any], ledger: NotificationLedger
) -> None:
    digest = TeamDigest(notify="async-chat/team")
    AsyncChat(is_down=True).save("team", overwrite=True)
    with pytest.raises(TracktorError, match="async-chat/team did not accept it"):
        report_exceptions(**usual, digest=digest)
    assert not list(ledger.history())
    AsyncChat().save("team", overwrite=True)
    report = report_exceptions(**usual, digest=digest)
    [text] = AsyncChat.received
    assert text.startswith(f"{len(report.reported)} new orders need attention")


@pytest.mark.parametrize("notify", ["", "slack-webhook/rehearsed"])
def test_a_rehearsal_emails_each_digest_to_the_rehearsal_address(
    usual: dict[str, Any], mail: MailServer, chat: ChatServer, notify: str
) -> None:
    url: Any = f"https://{SLACK}/services/T0/B0/secret"
    SlackWebhook(url=url).save("rehearsed", overwrite=True)
    rehearsal: Mailer = mailer_of(mail, mode="rehearsal", rehearsal_address=STAFF)
    report = report_exceptions(**usual, digest=TeamDigest(notify=notify), mailer=rehearsal)
    assert report.rehearsed == report.new
    assert written_to(mail) == [STAFF]
    assert not chat.posted


def test_a_digest_with_figures_of_deliveries_that_are_not_read_is_refused(
    usual: dict[str, Any], tracktor: Sandbox
) -> None:
    reading = ReadingOptions(completed_orders=CompletedOrders(after_days=30))
    tracktor.reset_calls()
    with pytest.raises(InvalidInput, match=r"up to 60 days after a delivery.* lower period_days"):
        report_exceptions(**usual, digest=TeamDigest(period_days=30), reading=reading)
    assert not tracktor.calls


def test_a_status_that_the_account_does_not_have_is_not_announced(usual: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"delivred.*did you mean"):
        announce_exceptions(**usual, conditions=frozenset({"status:delivred"}), dry_run=True)
