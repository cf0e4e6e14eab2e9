"""Parameters of flow runs as Prefect stores them."""

from uuid import UUID

import pytest
from prefect import Flow

from prefect_tracktor import NotificationLedger, TracktorCredentials, WantedWebhook, flows
from prefect_tracktor.flows import email_expired_exceptions, sync_webhooks
from prefect_tracktor.sandbox import MailServer, Sandbox
from tests.support.flow_runs import newest_run
from tests.support.mailers import mailer_of

pytestmark = pytest.mark.usefixtures("prefect_api")


def test_prefect_stores_no_field_of_unsaved_blocks(
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
            stored = newest_run().parameters
            assert stored["credentials"] == "<TracktorCredentials>"
            assert stored["mailer"] == "<Mailer>"
            assert stored["dry_run"] is True
            assert len(stored["orders"]) == 20
            assert credentials.uuid not in str(stored)
            assert "shop@mail.example" not in str(stored)


def test_no_flow_stores_its_report() -> None:
    made = [value for name in flows.__all__ if isinstance(value := getattr(flows, name), Flow)]
    assert len(made) > 5
    assert [one.name for one in made if one.persist_result is not False] == []


def test_prefect_stores_references_to_saved_blocks(credentials: TracktorCredentials) -> None:
    credentials.save("of-this-test", overwrite=True)
    saved = TracktorCredentials.load("of-this-test")
    assert isinstance(saved, TracktorCredentials)
    wanted = [WantedWebhook(topic="fulfillment/all", address="https://hooks.shop.example/t0ken")]
    sync_webhooks(saved, wanted, dry_run=True)
    stored = newest_run().parameters
    assert UUID(stored["credentials"]["$ref"]["block_document_id"]).version
    assert credentials.uuid not in str(stored)
