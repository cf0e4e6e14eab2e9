"""`report_exceptions`: a digest for the team, new orders first."""

import csv
import io
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter

from prefect_tracktor import (
    IncompleteRun,
    InvalidInput,
    Mailer,
    NotificationLedger,
    TracktorCredentials,
    TracktorError,
)
from prefect_tracktor.errors import MailServerError
from prefect_tracktor.flows import TeamDigest, email_expired_exceptions, report_exceptions
from prefect_tracktor.runs.digest import DigestJob
from prefect_tracktor.sandbox import Faults, MailFaults, MailServer, Sandbox, Shop
from tests.support.chat import SLACK, ChatServer
from tests.support.mailers import mailer_of

pytestmark = pytest.mark.usefixtures("prefect_api")

TEAM = "team@sandbox-shop.example"


@pytest.fixture
def usual(
    credentials: TracktorCredentials, tracktor: Sandbox, ledger: NotificationLedger
) -> dict[str, Any]:
    return {
        "credentials": credentials,
        "orders": list(tracktor.shop.order_ids),
        "ledger": ledger,
    }


@pytest.fixture
def slack(chat: ChatServer) -> TeamDigest:
    """A digest for a saved notification block."""
    url: Any = f"https://{SLACK}/services/T0/B0/secret"
    SlackWebhook(url=url).save("digest-team", overwrite=True)
    return TeamDigest(notify="slack-webhook/digest-team")


def orders_with_exceptions(tracktor: Sandbox) -> set[int]:
    return {
        order["order_id"]
        for order in map(tracktor.shop.order, tracktor.shop.order_ids)
        for parcel in order["fulfillments"]
        if parcel["exception_status"] and parcel["shipment_status"] != "delivered"
    }


def attached(mail: MailServer) -> list[dict[str, str]]:
    [message] = [message_from_bytes(one.raw, policy=default) for one in mail.messages]
    [part] = list(message.iter_attachments())
    assert part.get_filename() == "digest.csv"
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    text = content.decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_a_report_lists_only_new_orders_since_the_last_of_its_name(
    usual: dict[str, Any], tracktor: Sandbox
) -> None:
    state: Any = report_exceptions(**usual, return_state=True)
    first = state.result()
    assert set(first.reported) >= orders_with_exceptions(tracktor)
    check_table(state, rows=len(first.affected))
    assert report_exceptions(**usual).new == ()
    weekly = report_exceptions(**usual, digest=TeamDigest(name="weekly", period_days=7))
    assert weekly.new == first.new
    healthy = next(
        parcel
        for order in map(tracktor.shop.order, tracktor.shop.order_ids)
        for parcel in order["fulfillments"]
        if order["order_id"] not in first.affected and parcel["shipment_status"] != "delivered"
    )
    tracktor.shop.set_parcel(healthy["fulfillment_id"], exception_status="undelivered")
    third = report_exceptions(**usual)
    assert third.new == (healthy["order_id"],)
    assert set(third.affected) == {*first.affected, healthy["order_id"]}


def check_table(state: Any, *, rows: int) -> None:
    """Check that the run's table has a row for each affected order."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter.model_validate(
                {"flow_run_id": {"any_": [state.state_details.flow_run_id]}}
            )
        )
    [table] = [one for one in found if str(one.description).partition(". ")[2] == DigestJob.table]
    first, _, *lines = str(table.data).strip().splitlines()
    for column in ("New", "Order", "Condition", "Carrier", "Days", "Value"):
        assert column in first
    assert len(lines) == rows


def test_the_team_gets_a_chat_message_and_an_email_with_a_csv_file(
    usual: dict[str, Any],
    slack: TeamDigest,
    chat: ChatServer,
    mailer: Mailer,
    mail: MailServer,
    tracktor: Sandbox,
) -> None:
    both = slack.model_copy(update={"mail_to": (TEAM,)})
    report = report_exceptions(**usual, digest=both, mailer=mailer)
    [text] = chat.texts
    assert text.startswith(f"{len(report.new)} new orders need attention")
    assert "https://admin.shopify.com/store/" in text or "/admin/orders/" in text
    assert len(text) <= 2000
    customer = tracktor.shop.order(report.new[0])
    assert customer["order_email"] not in text
    assert customer["customer_full_name"] not in text
    rows = attached(mail)
    assert [address for message in mail.messages for address in message.recipients] == [TEAM]
    assert {int(row["order_id"]) for row in rows} == set(report.affected)
    assert all(row["new"] == "New" for row in rows)
    values = [float(row["value"].replace(",", "")) for row in rows if row["value"]]
    assert values == sorted(values, reverse=True)
    assert "could not be read" not in mail.messages[-1].raw.decode()
    # without news, no message
    report_exceptions(**usual, digest=both, mailer=mailer)
    assert len(chat.posted) == len(mail.messages) == 1


def test_carrier_figures_are_sent_although_nothing_is_new(
    usual: dict[str, Any], slack: TeamDigest, chat: ChatServer, credentials: TracktorCredentials
) -> None:
    with Sandbox(Shop(orders=60, expired=6, now=datetime.now(UTC))) as today:
        here = {"credentials": credentials.model_copy(update={"base_url": today.base_url})}
        report_exceptions(**(usual | here))
        weekly = slack.model_copy(update={"period_days": 7})
        assert not report_exceptions(**(usual | here), digest=weekly).new
    [text] = chat.texts
    assert text.startswith("0 new orders need attention")
    assert "Carriers in 7 days (and in those before):\n- Carrier " in text
    assert "Median days" in text


def test_a_rejected_digest_is_sent_by_the_next_run(
    usual: dict[str, Any], slack: TeamDigest, chat: ChatServer
) -> None:
    chat.statuses = [500]
    with pytest.raises(
        TracktorError, match="next run repeats it: slack-webhook/digest-team"
    ) as caught:
        report_exceptions(**usual, digest=slack)
    assert "secret" not in str(caught.value)
    assert report_exceptions(**usual, digest=slack).reported
    assert len(chat.posted) == 1


def test_a_refused_address_fails_the_run_and_the_others_get_the_digest_once(
    usual: dict[str, Any], mailer: Mailer, mail: MailServer
) -> None:
    dead = "gone@sandbox-shop.example"
    mail.faults = MailFaults(refused=frozenset({dead}))
    only_dead = usual | {"mailer": mailer, "digest": TeamDigest(mail_to=(dead,))}
    for _ in range(2):
        with pytest.raises(TracktorError, match=r"next run repeats it: mail_to\[0\]"):
            report_exceptions(**only_dead)
    both = usual | {"mailer": mailer, "digest": TeamDigest(mail_to=(TEAM, dead))}
    with pytest.raises(TracktorError, match=r"correct it or remove it: mail_to\[1\]") as failed:
        report_exceptions(**both)
    assert dead not in str(failed.value)
    assert report_exceptions(**both).reported_before
    assert [message.recipients for message in mail.messages] == [(TEAM,)]


def test_the_digest_counts_orders_that_could_not_be_read(
    usual: dict[str, Any],
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    mailer: Mailer,
    mail: MailServer,
) -> None:
    digest = TeamDigest(mail_to=(TEAM,))
    with Sandbox(tracktor.shop, faults=Faults(seed=1, not_json=0.3)) as faulty:
        once = credentials.limits.model_copy(update={"max_attempts": 1})
        away = credentials.model_copy(update={"base_url": faulty.base_url, "limits": once})
        options = usual | {"credentials": away, "digest": digest, "mailer": mailer}
        with pytest.raises(IncompleteRun) as left:
            report_exceptions(**options)
    expected = f"{len(left.value.report.failed)} orders could not be read, and are not counted."
    assert expected in mail.messages[-1].raw.decode()


def test_a_dry_run_and_a_rehearsal_of_a_digest_record_nothing(
    usual: dict[str, Any],
    slack: TeamDigest,
    chat: ChatServer,
    mail: MailServer,
    ledger: NotificationLedger,
) -> None:
    both = slack.model_copy(update={"mail_to": (TEAM,)})
    mailer = mailer_of(mail, ledger=ledger)
    # a copy is not validated
    stopped = mailer.model_copy(update={"mode": "dry_run"})
    for off in ({"dry_run": True, "mailer": mailer}, {"mailer": stopped}):
        report = report_exceptions(**usual, **off, digest=both)
        assert report.dry_run
        assert report.mode == "dry_run"
        assert report.new
        assert not report.reported
        assert not mail.messages
    me = "me@sandbox-shop.example"
    rehearsal = mailer.model_copy(update={"mode": "rehearsal", "rehearsal_address": me})
    report_exceptions(**usual, digest=both, mailer=rehearsal)
    assert [one for message in mail.messages for one in message.recipients] == [me]
    assert not chat.posted
    assert list(ledger.history()) == []


def test_reports_are_not_counted_as_emails_to_customers(
    usual: dict[str, Any], mailer: Mailer, ledger: NotificationLedger, tracktor: Sandbox
) -> None:
    account = usual["credentials"].account
    report_exceptions(**usual)
    assert ledger.standing(account).sent == 0
    orders = {"credentials": usual["credentials"], "orders": usual["orders"], "mailer": mailer}
    emailed = email_expired_exceptions(**orders)
    assert len(emailed.sent) == 6
    # a notice for each parcel
    sent = ledger.standing(account).sent
    assert 6 <= sent < 10
    assert ledger.forget(list(tracktor.shop.order_ids)) > sent
    assert ledger.standing(account).sent == sent


def test_an_unusable_digest_recipient_stops_the_run_before_reading(
    usual: dict[str, Any], tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    credentials.save("no-notification", overwrite=True)
    tracktor.reset_calls()
    for digest, words in [
        (TeamDigest(mail_to=(TEAM,)), "needs a mailer"),
        (TeamDigest(notify="slack-webhook/none"), "cannot be loaded"),
        (TeamDigest(notify="tracktor-credentials/no-notification"), "not a notification block"),
    ]:
        with pytest.raises(InvalidInput, match=words):
            report_exceptions(**usual, digest=digest)
    away = Mailer.model_validate(
        {"host": "127.0.0.1", "port": 9, "security": "none", "sender": TEAM, "mode": "live"}
    )
    with pytest.raises(MailServerError):
        report_exceptions(**usual, digest=TeamDigest(mail_to=(TEAM,)), mailer=away)
    assert not tracktor.calls


@pytest.mark.parametrize("wrong", [{"conditions": ["status:delivered"]}, {"mail_to": ["a@b, c@d"]}])
def test_a_digest_about_statuses_or_with_an_address_list_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TeamDigest.model_validate(wrong)
