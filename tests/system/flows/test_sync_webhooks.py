"""`sync_webhooks`: an account gets the desired webhooks, also with simultaneous runs."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stamina
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from prefect_tracktor import (
    AuthenticationError,
    IncompleteRun,
    InvalidInput,
    NotFound,
    ServerError,
    TracktorClient,
    TracktorCredentials,
    TransportLimits,
    WantedWebhook,
    Webhook,
    WebhookSubscription,
)
from prefect_tracktor.flows import sync_webhooks
from prefect_tracktor.sandbox import Faults, Sandbox
from tests.support.flow_runs import newest_run

pytestmark = pytest.mark.usefixtures("prefect_api")

SECRET = "https://shop.example/hook/s3cret"
WANTED = [
    WantedWebhook(topic="fulfillment/all", address=SECRET),
    WantedWebhook(topic="order/delivered", address=SECRET),
]


def pairs(tracktor: Sandbox) -> Counter[tuple[str, str]]:
    return Counter((webhook["topic"], webhook["address"]) for webhook in tracktor.shop.webhooks)


def writes(tracktor: Sandbox) -> list[tuple[str, str]]:
    return [call for call in tracktor.calls if call[0] != "GET"]


def test_missing_webhooks_are_created_and_a_second_run_changes_nothing(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    first = sync_webhooks(credentials, WANTED)
    assert len(first.created) == 2
    assert pairs(tracktor) == {("fulfillment/all", SECRET): 1, ("order/delivered", SECRET): 1}
    check_plan()
    tracktor.reset_calls()
    # a subscription is a list at one address
    topics = [webhook.topic for webhook in WANTED]
    second = sync_webhooks(
        credentials, WebhookSubscription.model_validate({"address": SECRET, "topics": topics})
    )
    assert second.kept == first.created
    assert tracktor.calls == [("GET", "webhooks.json")]
    assert second.calls == 1


def check_plan() -> None:
    """The plan shows hosts and no secret path."""
    with get_client(sync_client=True) as client:
        [plan] = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["webhooks"])),
            sort=ArtifactSort.UPDATED_DESC,
            limit=1,
        )
    rows: list[dict[str, Any]] = json.loads(str(plan.data))
    assert {row["Host"] for row in rows} == {"https://shop.example"}
    assert {(row["Plan"], row["Outcome"]) for row in rows} == {("To be created", "Created")}
    assert "s3cret" not in str(plan.data)
    assert "s3cret" not in newest_run().model_dump_json()


def test_prune_removes_surplus_webhooks_at_desired_hosts_only(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    theirs, old = "https://other.example/hook", "https://shop.example/old"
    for address in (theirs, old):
        tracktor.shop.create_webhook(topic="order/all", address=address)
    assert len(sync_webhooks(credentials, WANTED).surplus) == 1
    assert pairs(tracktor)["order/all", old] == 1
    report = sync_webhooks(credentials, WANTED, prune=True)
    assert len(report.removed) == len(report.foreign) == 1
    assert pairs(tracktor)["order/all", old] == 0
    assert pairs(tracktor)["order/all", theirs] == 1


def test_duplicate_webhooks_are_removed(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    for _ in range(3):
        tracktor.shop.create_webhook(topic="fulfillment/all", address=SECRET)
    report = sync_webhooks(credentials, WANTED)
    assert report.removed == (2, 3)
    assert set(pairs(tracktor).values()) == {1}


def test_a_dry_run_changes_no_webhook(credentials: TracktorCredentials, tracktor: Sandbox) -> None:
    report = sync_webhooks(credentials, WANTED, dry_run=True)
    assert len(report.due) == 2
    assert report.complete
    assert writes(tracktor) == []


def test_simultaneous_syncs_leave_no_duplicate_webhooks(
    credentials: TracktorCredentials, tracktor: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_have_read = threading.Barrier(4, timeout=60)
    thread = threading.local()
    list_webhooks = TracktorClient.list_webhooks

    def read_together(client: TracktorClient) -> list[Webhook]:
        webhooks = list_webhooks(client)
        if not getattr(thread, "has_read", False):
            thread.has_read = True
            all_have_read.wait()
        return webhooks

    monkeypatch.setattr(TracktorClient, "list_webhooks", read_together)
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(sync_webhooks, credentials, WANTED) for _ in range(4)]
    assert all(run.result().complete for run in runs)
    assert len({created for run in runs for created in run.result().created}) == 8
    assert pairs(tracktor) == {("fulfillment/all", SECRET): 1, ("order/delivered", SECRET): 1}


def test_a_sync_with_many_faults_ends_with_the_desired_webhooks(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    wanted = [
        WantedWebhook(topic="order/all", address=f"https://shop.example/{n}") for n in range(30)
    ]
    tracktor.faults = Faults.everything(rate=0.3, seed=9, retry_after_seconds=0)
    with stamina.set_testing(True, attempts=20):
        assert sync_webhooks(credentials, wanted).complete
    assert set(pairs(tracktor).values()) == {1}
    assert len(pairs(tracktor)) == 30
    assert sum(tracktor.faults_met.values()) > 5


def test_the_error_about_a_refused_webhook_hides_its_address(
    credentials: TracktorCredentials, tracktor: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = TransportLimits(max_attempts=1)
    hasty = credentials.model_copy(update={"limits": limits})
    monkeypatch.setattr("prefect_tracktor.sandbox.shop.WebhookTopic", ["fulfillment/all"])
    with pytest.raises(IncompleteRun, match=r"POST webhooks\.json") as caught:
        sync_webhooks(hasty, WANTED)
    report = caught.value.report
    assert len(report.created) == len(report.not_changed) == 1
    assert "s3cret" not in str(caught.value)


def test_a_webhook_that_cannot_be_read_back_is_reported(
    credentials: TracktorCredentials, tracktor: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_webhooks, responds = TracktorClient.list_webhooks, iter([True, False])

    def once(client: TracktorClient) -> list[Webhook]:
        if next(responds):
            return list_webhooks(client)
        raise ServerError("GET webhooks.json: Tracktor had trouble (502)")

    monkeypatch.setattr(TracktorClient, "list_webhooks", once)
    with pytest.raises(IncompleteRun, match=r"2 webhooks .*not show.*could not be read back: GET"):
        sync_webhooks(credentials, WANTED)
    assert len(pairs(tracktor)) == 2


def test_a_webhook_removed_by_another_run_counts_as_superseded(
    credentials: TracktorCredentials, tracktor: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        tracktor.shop.create_webhook(topic="fulfillment/all", address=SECRET)
    delete_webhook = TracktorClient.delete_webhook

    def second(client: TracktorClient, webhook_id: int) -> None:
        delete_webhook(client, webhook_id)  # the other run was faster
        delete_webhook(client, webhook_id)

    monkeypatch.setattr(TracktorClient, "delete_webhook", second)
    report = sync_webhooks(credentials, WANTED)
    assert (report.superseded, report.removed) == ((2,), ())
    assert report.complete


def test_a_404_for_a_creation_is_an_error(
    credentials: TracktorCredentials, tracktor: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(client: TracktorClient, *, topic: str, address: str) -> Webhook:
        raise NotFound("POST webhooks.json: Tracktor does not know it (404)")

    monkeypatch.setattr(TracktorClient, "create_webhook", missing)
    with pytest.raises(IncompleteRun, match=r"2 webhooks .*because: POST webhooks\.json"):
        sync_webhooks(credentials, WANTED)
    assert tracktor.shop.webhooks == []


def test_a_404_for_a_removal_is_an_error_while_the_webhook_is_listed(
    credentials: TracktorCredentials, tracktor: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        tracktor.shop.create_webhook(topic="fulfillment/all", address=SECRET)

    def missing(client: TracktorClient, webhook_id: int) -> None:
        raise NotFound("DELETE webhooks: Tracktor does not know it (404)")

    monkeypatch.setattr(TracktorClient, "delete_webhook", missing)
    with pytest.raises(IncompleteRun, match="does not show what was created or removed"):
        sync_webhooks(credentials, WANTED[:1])


def test_a_sync_is_incomplete_while_others_keep_adding_webhooks(
    credentials: TracktorCredentials, tracktor: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_webhooks = TracktorClient.list_webhooks

    def busy(client: TracktorClient) -> list[Webhook]:
        tracktor.shop.create_webhook(topic="fulfillment/all", address=SECRET)
        return list_webhooks(client)

    tracktor.shop.create_webhook(topic="fulfillment/all", address=SECRET)
    monkeypatch.setattr(TracktorClient, "list_webhooks", busy)
    with pytest.raises(IncompleteRun, match=r"1 webhooks .*other runs kept changing webhooks"):
        sync_webhooks(credentials, WANTED[:1])


def test_a_sync_without_desired_webhooks_is_refused(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    with pytest.raises(InvalidInput, match="wanted is empty"):
        sync_webhooks(credentials, [], prune=True)
    assert tracktor.calls == []


def test_wrong_credentials_stop_a_sync(credentials: TracktorCredentials) -> None:
    wrong = TracktorCredentials(
        uuid=credentials.uuid, api_key="wrong", base_url=credentials.base_url
    )
    with pytest.raises(AuthenticationError):
        sync_webhooks(wrong, WANTED)


def test_a_new_webhook_listed_with_another_address_is_removed_and_reported(
    credentials: TracktorCredentials, tracktor: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_webhooks = TracktorClient.list_webhooks

    def masked(client: TracktorClient) -> list[Webhook]:
        masked_address = {"address": "https://shop.example/hook/***"}
        return [webhook.model_copy(update=masked_address) for webhook in list_webhooks(client)]

    monkeypatch.setattr(TracktorClient, "list_webhooks", masked)
    for _ in range(2):
        with pytest.raises(IncompleteRun, match="lists the fulfillment/all webhook at https://sho"):
            sync_webhooks(credentials, WANTED)
        assert tracktor.shop.webhooks == []
