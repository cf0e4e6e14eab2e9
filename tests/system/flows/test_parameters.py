"""Prefect stores no field of the blocks that a flow is called with."""

from uuid import UUID

import pytest
from prefect import Flow

from prefect_tracktor import NotificationLedger, TracktorCredentials, WantedWebhook, flows
from prefect_tracktor.flows import email_expired_exceptions, sync_webhooks
from prefect_tracktor.sandbox import MailServer, Sandbox
from tests.support.flow_runs import newest_run
from tests.support.mailers import mailer_of

pytestmark = pytest.mark.usefixtures("prefect_api")


def test_unsaved_blocks_leave_neither_the_uuid_nor_the_mail_servers_user(
    credentials: TracktorCredentials, tracktor: Sandbox, ledger: NotificationLedger
) -> None:
    with MailServer() as mail:
        mailer = mailer_of(mail, username="shop@mail.example", password="pa55-word", ledger=ledger)
        for flow in (email_expired_exceptions, email_expired_exceptions.with_options(retries=0)):
            report = flow(
                credentials,
                list(tracktor.shop.order_ids)[:20],
                mailer,
                dry_run=True,
            )
            assert report.read
            kept = newest_run().parameters
            assert kept["credentials"] == "<TracktorCredentials>"
            assert kept["mailer"] == "<Mailer>"
            assert kept["dry_run"] is True
            assert len(kept["orders"]) == 20
            assert credentials.uuid not in str(kept)
            assert "shop@mail.example" not in str(kept)


def test_no_flow_stores_its_report() -> None:
    made = [value for name in flows.__all__ if isinstance(value := getattr(flows, name), Flow)]
    assert len(made) > 5
    assert [one.name for one in made if one.persist_result is not False] == []


def test_saved_blocks_are_stored_as_references(credentials: TracktorCredentials) -> None:
    credentials.save("of-this-test", overwrite=True)
    saved = TracktorCredentials.load("of-this-test")
    assert isinstance(saved, TracktorCredentials)
    wanted = [WantedWebhook(topic="fulfillment/all", address="https://hooks.shop.example/t0ken")]
    sync_webhooks(saved, wanted, dry_run=True)
    kept = newest_run().parameters
    assert UUID(kept["credentials"]["$ref"]["block_document_id"]).version
    assert credentials.uuid not in str(kept)
