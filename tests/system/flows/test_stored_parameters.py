"""Parameters of flow runs as Prefect stores them."""

from typing import Any
from uuid import UUID

import pytest
from prefect import Flow

from prefect_tracktor import (
    HttpChannel,
    NotificationLedger,
    NotificationRule,
    TracktorCredentials,
    WantedWebhook,
    flows,
)
from prefect_tracktor.flows import (
    SweptShop,
    WatchOptions,
    email_expired_exceptions,
    sweep_shops,
    sync_webhooks,
    watch_shop,
)
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


def test_prefect_stores_references_to_blocks_within_other_parameters(
    credentials: TracktorCredentials, ledger: NotificationLedger
) -> None:
    fields = {"address": "https://hooks.example/t0ken", "body": '{"text": "a body"}'}
    channel = HttpChannel.model_validate(fields)
    unsaved = NotificationRule(name="late", when=["stalled"], channel=channel)
    channel.model_copy().save("of-this-test", overwrite=True)
    saved = unsaved.model_copy(update={"channel": HttpChannel.load("of-this-test")})
    ledger.save("of-this-test", overwrite=True)
    options = WatchOptions(ledger=NotificationLedger.load("of-this-test"))
    stored: Any = watch_shop.serialize_parameters({"rules": [unsaved, saved], "options": options})
    assert stored["rules"][0]["channel"] == "<HttpChannel>"
    assert stored["rules"][0]["when"] == ["stalled"]
    for block in (stored["rules"][1]["channel"], stored["options"]["ledger"]):
        assert UUID(block["$ref"]["block_document_id"]).version
    assert "a body" not in str(stored)
    shops = [SweptShop("berlin", {"credentials": credentials, "max_events": 5})]
    stored = sweep_shops.serialize_parameters({"flow_name": "watch_shop", "shops": shops})
    of_shop = {"credentials": "<TracktorCredentials>", "max_events": 5}
    assert stored["shops"] == [{"name": "berlin", "parameters": of_shop}]
