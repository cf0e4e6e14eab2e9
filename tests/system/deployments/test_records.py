"""Stored records of the deployments of several shops."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from pydantic import SecretStr

from flows import shops
from prefect_tracktor import Mailer, NotificationLedger, StatusStage
from prefect_tracktor.cli import main
from prefect_tracktor.deploy import Shop
from tests.system.deployments.conftest import (
    ALPINE_SECRETS,
    DEPLOYMENTS,
    SECRETS,
    Server,
    make_pool,
    remove_deployments,
)

DEPLOY = ["deploy", "--work-pool", "containers", "--image", "registry.example/shop:1"]
PACKAGE = "prefect-tracktor[postgresql]@https://files.example/prefect_tracktor-0.1-py3-none-any.whl"
DEPLOY += ["--pip-package", PACKAGE]


ByName = dict[str, DeploymentResponse]


@pytest.fixture(scope="module")
def deployed(
    client: SyncPrefectClient, blocks: None, alpine: None, postgresql_url: str
) -> Iterator[None]:
    """Two shops with everything enabled, deployed to containers; each has been run once."""
    ours = Shop(
        notify=["delivered", "in_transit"],
        announce_exceptions=True,
        stages=[StatusStage("Cutting", 1)],
    )
    rows = [ours, replace(ours, name="alpine", timezone="Europe/Zurich")]
    remove_deployments(client)
    make_pool(client, "containers", "docker")
    # a SQLite ledger is refused for pools that discard files
    ledger, file = NotificationLedger.load("tracktor"), SecretStr("")
    assert isinstance(ledger, NotificationLedger)
    ledger.url, file = SecretStr(postgresql_url), ledger.url
    ledger.save("tracktor", overwrite=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shops, "shops", lambda: rows)
        assert main(DEPLOY) == 0
        for deployment in client.read_deployments():
            client.create_flow_run_from_deployment(deployment.id)
        yield
    ledger.url = file
    ledger.save("tracktor", overwrite=True)


@pytest.fixture(scope="module")
def by_name(deployed: None, client: SyncPrefectClient) -> ByName:
    """All deployments by name."""
    flows = {flow.id: flow.name for flow in client.read_flows()}
    return {f"{flows[made.flow_id]}/{made.name}": made for made in client.read_deployments()}


# the other flows need settings in their files
MADE = DEPLOYMENTS.keys() - {"notify", "report", "export", "watch"}


def test_each_shop_has_its_own_named_deployments(by_name: ByName) -> None:
    names = sorted(by_name)
    assert len(names) == 2 * len(MADE)
    assert "Email expired exceptions/email-expired-exceptions" in names
    assert "Email expired exceptions/alpine-email-expired-exceptions" in names
    assert by_name["Email expired exceptions/email-expired-exceptions"].tags == ["tracktor"]
    assert by_name["Email expired exceptions/alpine-email-expired-exceptions"].tags == [
        "alpine",
        "tracktor",
    ]


def test_shops_have_their_own_account_and_share_the_ledger(by_name: ByName) -> None:
    ours = by_name["Email expired exceptions/email-expired-exceptions"].parameters
    alpine = by_name["Email expired exceptions/alpine-email-expired-exceptions"].parameters
    assert ours["credentials"] != alpine["credentials"]
    assert ours["orders"] != alpine["orders"]
    assert ours["mailer"] != alpine["mailer"]
    assert ours["mailer"].keys() == {"$ref"}
    for shared in ("template", "reading"):
        assert ours[shared] == alpine[shared]
    assert ours["template"].keys() == {"$ref"}
    assert ours["reading"]["completed_orders"].keys() == {"$ref"}
    ledgers = [
        by_name[f"Announce exceptions/{name}announce-exceptions"] for name in ("", "alpine-")
    ]
    assert ledgers[0].parameters["ledger"] == ledgers[1].parameters["ledger"]
    mailers: list[Any] = [Mailer.load(shop) for shop in ("tracktor", "alpine")]
    assert mailers[0].ledger.url == mailers[1].ledger.url


def test_a_trigger_matches_only_events_of_its_shops_account(
    by_name: ByName, client: SyncPrefectClient
) -> None:
    related = {}
    for name in ("notify-status-change", "alpine-notify-status-change"):
        found = by_name[f"Notify status change/{name}"]
        resource = f"prefect.deployment.{found.id}"
        [automation] = client.read_resource_related_automations(resource)
        related[automation.name] = str(automation.trigger.model_dump()["match_related"])
    assert related.keys() == {"A parcel reached a status", "alpine-A parcel reached a status"}
    assert len({*related.values()}) == 2


def test_deployments_store_image_and_packages_as_job_variables(by_name: ByName) -> None:
    assert by_name["Sync webhooks/alpine-sync-webhooks"].job_variables == {
        "image": "registry.example/shop:1",
        "env": {"EXTRA_PIP_PACKAGES": PACKAGE},
    }


def test_deployments_runs_and_automations_contain_no_secret(deployed: None, server: Server) -> None:
    kept = server.records("deployments", "automations", "flow_runs", "flows", "work_pools")
    assert "{{ event.payload.shipment_status }}" in kept
    assert kept.count('"state_type":"SCHEDULED"') >= 2 * len(MADE)
    for secret in (*ALPINE_SECRETS.values(), *SECRETS.values()):
        assert secret not in kept


def test_each_deployment_description_begins_with_a_sentence(by_name: ByName) -> None:
    for name in sorted(by_name):
        first, *_ = str(by_name[name].description).splitlines()
        assert first.startswith(("Every ", "When ", "On an event: "))
        assert first.endswith(".")


def test_each_deployment_description_names_the_block_with_its_switch(by_name: ByName) -> None:
    for name in sorted(by_name):
        shop = "alpine" if "/alpine-" in name else "tracktor"
        mails = "mailer" in by_name[name].parameters
        block = f"tracktor-mailer/{shop}" if mails else f"tracktor-credentials/{shop}"
        assert f"`{block}`, read when a run starts" in str(by_name[name].description)


def test_a_worker_needs_only_the_installed_package(by_name: ByName) -> None:
    for name in sorted(by_name):
        made = by_name[name]
        assert str(made.entrypoint).startswith("prefect_tracktor.flows.")
        assert (made.path, made.pull_steps) == (None, [])


def test_deploying_again_changes_nothing(
    deployed: None, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    before = server.records("deployments", "automations")
    assert main(DEPLOY) == 0
    assert capsys.readouterr().out.count("unchanged ") == 2 * len(MADE)
    assert server.records("deployments", "automations") == before
