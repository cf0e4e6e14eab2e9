"""Names, tags, states and artifacts of runs in Prefect."""

import json
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.flow_engine import run_flow

from prefect_tracktor import (
    EmailTemplate,
    OrderFile,
    ReadingOptions,
    TracktorError,
)
from prefect_tracktor.flows import email_expired_exceptions
from prefect_tracktor.runs.showing import show_mode
from prefect_tracktor.sandbox import Sandbox
from tests.support.flow_runs import newest_run
from tests.system.flows.conftest import Run

KEY = "expired-exceptions"
MODES: dict[str, dict[str, Any]] = {
    "dry run": {"dry_run": True},
    "rehearsal": {"mode": "rehearsal", "rehearsal_address": "me@sandbox-shop.example"},
    "live": {},
}


def artifacts_of(run: FlowRun) -> dict[str, Artifact]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter.model_validate({"flow_run_id": {"any_": [run.id]}})
        )
    return {str(artifact.key): artifact for artifact in found}


@pytest.mark.parametrize("mode", MODES)
def test_a_run_shows_its_mode_in_name_tags_state_and_artifacts(
    run: Run, tracktor: Sandbox, mode: str
) -> None:
    report = run(**MODES[mode])
    found = newest_run()
    assert found.name == f"{mode.capitalize()}: Email expired exceptions"
    assert mode in found.tags
    assert found.state is not None
    assert str(found.state.message).startswith(f"{mode.capitalize()}: 6 orders due")
    artifacts = artifacts_of(found)
    for key in (KEY, f"{KEY}-summary", "parcels-with-exceptions"):
        assert str(artifacts[key].description).startswith(f"{mode.capitalize()}. "), key
    title = str(artifacts[f"{KEY}-summary"].data).partition("\n")[0]
    assert title == f"# Customers with expired tracking: {mode}"
    # only a dry run shows a message
    assert (f"{KEY}-message" in artifacts) is (mode == "dry run")
    if mode == "dry run":
        first = tracktor.shop.order(report.due[0])
        message = check_masked(artifacts, first)
        assert message.startswith(f"# Your order {first['order_name']}: the tracking has stopped")


@pytest.mark.parametrize("reason", ["max_emails is 2", "no column 'Id'"])
def test_artifacts_of_a_failed_run_show_the_failure_and_its_reason(
    run: Run, tmp_path: Path, reason: str
) -> None:
    orders = tmp_path / "orders.csv"
    orders.write_text("Name,Total\n#1001,3\n", encoding="utf-8")
    given = {"max_emails": 2} if "max" in reason else {"orders": OrderFile(path=str(orders))}
    with pytest.raises(TracktorError):
        run(**given)
    artifacts = artifacts_of(newest_run())
    assert str(artifacts[KEY].description).startswith("Live, failed. ")
    summary = artifacts[f"{KEY}-summary"]
    assert str(summary.description).startswith("Live, failed. ")
    title, _, rest = str(summary.data).partition("\n")
    assert title == "# Customers with expired tracking: live, failed"
    assert reason in rest.replace("\\", "").replace("\u2060", "")


@flow(name="Email expired exceptions")
def show_the_mode() -> None:
    """Show the mode, as each ready-made flow does first."""
    show_mode("Customers with expired tracking", "dry_run")


@pytest.mark.usefixtures("prefect_api")
def test_a_run_keeps_a_typed_name_and_replaces_a_generated_one() -> None:
    for typed in ("black-friday", "Before Christmas", "trial-2", "dry-goods"):
        show_the_mode.with_options(flow_run_name=typed)()
        assert newest_run().name == typed
        assert "dry run" in newest_run().tags, typed
    for made_up in ("Generic-Skua", "alpha3-gumarcaj-k", "eta5-nessik"):
        show_the_mode.with_options(flow_run_name=made_up)()
        assert newest_run().name == "Dry run: Email expired exceptions", made_up


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize(
    ("deployed_as", "shown"),
    [
        ("email-expired-exceptions", "Dry run: Email expired exceptions"),
        ("alpine-email-expired-exceptions", "Dry run: Email expired exceptions, alpine"),
        ("every-monday", "Dry run: Email expired exceptions, every-monday"),
    ],
)
def test_the_name_of_a_deployments_run_has_mode_flow_and_shop(deployed_as: str, shown: str) -> None:
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(show_the_mode)
        deployment = client.create_deployment(flow_id, deployed_as)
        run = client.create_flow_run_from_deployment(deployment)
        run_flow(show_the_mode, flow_run=run)
        assert client.read_flow_run(run.id).name == shown
        client.delete_deployment(deployment)


def test_task_runs_of_chunks_are_named_after_their_orders(
    run: Run, tracktor: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = list(tracktor.shop.order_ids)[:41]
    monkeypatch.setattr(email_expired_exceptions, "flow_run_name", "black-friday")
    run(dry_run=True, orders=ids, reading=ReadingOptions(chunk_size=20))
    assert newest_run().name == "black-friday"
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(
            flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [newest_run().id]}}),
            task_run_filter=TaskRunFilter(),
        )
    assert {task_run.name for task_run in runs} == {
        f"get-orders {ids[0]} to {ids[19]} (20)",
        f"get-orders {ids[20]} to {ids[39]} (20)",
        f"get-orders {ids[40]}",
    }


EVERYTHING = """{{ order }} {{ fulfillments }} {{ shop }} {{ tracking_page }}
{% for p in order.fulfillments %}{{ p }} {{ p.tracking_number }} {{ p.tracking_url }}{% endfor %}"""


def test_a_dry_run_shows_one_message_without_personal_data(run: Run, tracktor: Sandbox) -> None:
    everything = EmailTemplate(subject=EVERYTHING, text=EVERYTHING)
    report = run(dry_run=True, template=everything)
    check_masked(artifacts_of(newest_run()), tracktor.shop.order(report.due[0]))


def check_masked(artifacts: dict[str, Artifact], order: dict[str, Any]) -> str:
    """Check that no artifact has personal data, and return the message that is shown."""
    message = artifacts[f"{KEY}-message"]
    text = str(message.data).replace("\\", "").replace("\u2060", "")
    assert str(message.description) == "Dry run. One message, personal data masked."
    assert [secret for secret in personal_data_of(order) if secret in text] == []
    everything = json.dumps([str(artifact.data) for artifact in artifacts.values()])
    assert order["order_email"] not in everything
    return text


def personal_data_of(order: dict[str, Any]) -> list[str]:
    """The values of an order that identify its customer or the parcel's destination."""
    names = ("order_email", "order_phone", "customer_full_name", "customer_last_name")
    of_parcels = [
        str(parcel[field])
        for parcel in order["fulfillments"]
        for field in ("tracking_number", "tracking_url")
    ]
    return [str(order[name]) for name in names if order.get(name)] + of_parcels


def test_a_template_that_fails_for_masked_data_does_not_fail_the_run(run: Run) -> None:
    failing = EmailTemplate(text="{{ 1 // (order.order_email | length - 12) }}", html="x")
    report = run(dry_run=True, template=failing)
    assert report.due
    assert "cannot be shown without personal data" in " ".join(report.notes)
