"""Read-only credentials: no flow or task changes the account."""

from datetime import timedelta
from typing import Any

import pytest

from prefect_tracktor import (
    DesiredStatus,
    NotificationLedger,
    ReadOnlyAccount,
    StatusStage,
    TracktorCredentials,
    WantedWebhook,
)
from prefect_tracktor.errors import BatchFailed
from prefect_tracktor.flows import (
    advance_custom_statuses,
    announce_exceptions,
    reconcile_manual_statuses,
    sync_webhooks,
)
from prefect_tracktor.sandbox import Sandbox
from prefect_tracktor.tasks import create_webhook, update_order, update_orders

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def read_only(credentials: TracktorCredentials) -> TracktorCredentials:
    return credentials.model_copy(update={"read_only": True})


def changes(tracktor: Sandbox) -> list[str]:
    return [method for method, _ in tracktor.calls if method != "GET"]


def test_read_only_credentials_make_every_writing_flow_a_dry_run(
    tracktor: Sandbox, read_only: TracktorCredentials, ledger: NotificationLedger
) -> None:
    ids = list(tracktor.shop.order_ids)
    unfulfilled = next(i for i in ids if not tracktor.shop.order(i)["fulfillments"])
    reports: list[Any] = [
        reconcile_manual_statuses(
            read_only, [DesiredStatus(unfulfilled, "Sewing")], takeover=True, dry_run=False
        ),
        advance_custom_statuses(read_only, ids, [StatusStage("Cutting", 0)], dry_run=False),
        announce_exceptions(read_only, ids, ledger=ledger, dry_run=False),
        sync_webhooks(
            read_only,
            [WantedWebhook(topic="order/all", address="https://shop.example/hook")],
            dry_run=False,
        ),
    ]
    assert all(report.dry_run for report in reports)
    assert reports[0].planned == (unfulfilled,)
    assert reports[2].due
    assert not reports[2].announced
    assert len(reports[3].due) == 1
    assert changes(tracktor) == []
    assert ledger.uncertain(older_than=timedelta(0)) == []


def test_writing_tasks_refuse_read_only_credentials_before_any_request(
    tracktor: Sandbox, read_only: TracktorCredentials
) -> None:
    first = tracktor.shop.order_ids[0]
    with pytest.raises(ReadOnlyAccount):
        update_order(read_only, first, status="Sewing")
    with pytest.raises(ReadOnlyAccount):
        create_webhook(read_only, topic="order/all", address="https://shop.example/hook")
    with pytest.raises((ReadOnlyAccount, BatchFailed), match="read-only"):
        update_orders(read_only, {first: "Sewing"})
    assert changes(tracktor) == []


def test_a_run_obeys_read_only_as_saved_when_it_starts(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    credentials.model_copy(update={"read_only": True}).save("of-this-shop", overwrite=True)
    saved = TracktorCredentials.load("of-this-shop")
    assert isinstance(saved, TracktorCredentials)
    wanted = [WantedWebhook(topic="order/all", address="https://shop.example/hook")]
    assert sync_webhooks(saved, wanted).created == ()
    credentials.save("of-this-shop", overwrite=True)
    writable = TracktorCredentials.load("of-this-shop")
    assert isinstance(writable, TracktorCredentials)
    assert len(sync_webhooks(writable, wanted).created) == 1
