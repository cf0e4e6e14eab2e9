"""Deployments written with plain Prefect and saved blocks.

`.serve()`, `.deploy()`, `.to_deployment()` and `prefect.yaml`, with Prefect's own defaults.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prefect import deploy
from prefect.states import Pending
from prefect.testing.cli import invoke_and_assert
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from blocks.documents import DOCUMENTS
from prefect_tracktor import EmailTemplate, Mailer, Mode, flows
from prefect_tracktor.sandbox import API_KEY, MailServer, Sandbox, Shop
from prefect_tracktor.setup.blocks import save_blocks
from tests.support.plain import NAME, READY_MADE, deployments
from tests.support.programs import PROJECT
from tests.support.serving import served
from tests.system.deployments.conftest import (
    Server,
    ended,
    execute,
    make_pool,
    remove_deployments,
    variables_of,
)
from tests.system.handbook.pages import blocks_of

VARIABLES_WITH_SECRETS = (
    "TRACKTOR_API_KEY",
    "SMTP_PASSWORD",
    "SHOPIFY_CLIENT_SECRET",
    "TRACKTOR_LEDGER_URL",
)
SECRETS = {"TRACKTOR_API_KEY": API_KEY, "SMTP_PASSWORD": "pa55-word-of-plain"}


@pytest.fixture(scope="module")
def tracktor() -> Iterator[Sandbox]:
    with Sandbox(Shop(orders=20, expired=2)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def folder(
    prefect_api: None,
    tracktor: Sandbox,
    mail: MailServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A shop with all its blocks saved."""
    folder = tmp_path_factory.mktemp("plain")
    tracktor.shop.write_orders_csv(folder / "orders.csv")
    (folder / "plan.csv").write_text(f"order_id,status\n{tracktor.shop.order_ids[0]},Sewing\n")
    variables = variables_of(tracktor, mail, folder) | SECRETS
    assert save_blocks(variables, DOCUMENTS, name=NAME) == 0
    # another test may have saved one for all shops
    EmailTemplate().save(NAME, overwrite=True)
    return folder


@pytest.fixture(scope="module")
def parcel(tracktor: Sandbox) -> int:
    """The id of a parcel."""
    orders = map(tracktor.shop.order, tracktor.shop.order_ids)
    return int(next(o["fulfillments"][0]["fulfillment_id"] for o in orders if o["fulfillments"]))


YAML = """
name: your-shop
deployments:
  - name: from-yaml
    entrypoint: prefect_tracktor.flows.expired_exceptions.email_expired_exceptions
    pull: []
    work_pool:
      name: yaml
    schedules:
      - cron: "0 7 * * *"
        timezone: Europe/Berlin
    parameters:
      credentials: {$ref: {block_document_slug: tracktor-credentials/plain}}
      orders: {$ref: {block_document_slug: tracktor-order-file/plain}}
      mailer: {$ref: {block_document_slug: tracktor-mailer/plain}}
      max_emails: 500
"""


def test_prefect_yaml_runs_with_blocks_by_slug_and_stores_no_secret(
    folder: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pool(server.client, "yaml", "process")
    (tmp_path / "prefect.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        invoke_and_assert(["--no-prompt", "deploy", "--all"], expected_code=0)
    made = server["Email expired exceptions/from-yaml"]
    assert made.parameters["mailer"] == {"$ref": {"block_document_slug": "tracktor-mailer/plain"}}
    run = server.client.create_flow_run_from_deployment(made.id)
    state = execute(run.id)
    assert state.is_completed(), state.message
    stored = server.records("deployments", "flow_runs", "automations")
    assert not [secret for secret in SECRETS.values() if secret in stored]


def of_the_handbook(title: str) -> str:
    """Return a file from the page on deployments."""
    [block] = [
        block for block in blocks_of(PROJECT / "docs/how-to/deploy.md") if block.title == title
    ]
    return block.code


def test_a_worker_runs_the_handbooks_terraform_deployment_without_stored_secrets(
    folder: Path, server: Server
) -> None:
    make_pool(server.client, "terraform", "process")
    [encoded] = re.findall(r"jsonencode\((.*?)\)\n", of_the_handbook("main.tf"), re.DOTALL)
    parameters = json.loads(encoded.replace("/tracktor", f"/{NAME}"))
    assert {"credentials", "orders", "mailer"} <= parameters.keys()
    [entrypoint] = re.findall(r'entrypoint += "(.+)"', of_the_handbook("main.tf"))
    # as Terraform's provider does: a flow by name, a deployment without parameter schema
    flow_id = server.client.create_flow_from_name("Email expired exceptions")
    deployment_id = server.client.create_deployment(
        flow_id,
        "from-terraform",
        entrypoint=entrypoint,
        work_pool_name="terraform",
        parameters=parameters,
        enforce_parameter_schema=False,
    )
    run = server.client.create_flow_run_from_deployment(deployment_id)
    asyncio.run(ProcessWorker(work_pool_name="terraform").start(run_once=True))
    state = ended(server.client, run.id)
    assert state.is_completed(), state.message
    stored = server.records("deployments", "flow_runs")
    assert not [secret for secret in SECRETS.values() if secret in stored]


def test_the_handbooks_ci_workflow_needs_no_secret_of_the_shop() -> None:
    workflow = of_the_handbook(".github/workflows/deploy.yml")
    assert set(re.findall(r"secrets\.(\w+)", workflow)) == {"PREFECT_API_URL", "PREFECT_API_KEY"}
    [job] = yaml.safe_load(workflow)["jobs"].values()
    assert job["env"].keys() == {"PREFECT_API_URL", "PREFECT_API_KEY", "TRACKTOR_TIMEZONE"}
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert len(commands) == 3
    assert not set(VARIABLES_WITH_SECRETS) & set(re.findall(r"[A-Z_]{6,}", workflow))


def test_the_handbooks_prefect_yaml_equals_the_tested_one() -> None:
    printed = yaml.safe_load(of_the_handbook("prefect.yaml"))
    tested = yaml.safe_load(YAML.replace("/plain", "/tracktor").replace("name: yaml", "name: shop"))
    del tested["deployments"][0]["parameters"]["max_emails"]
    assert printed == tested


def choose_mode(mode: Mode) -> None:
    """Edit the shop's mailer, as a person does in Prefect's UI."""
    mailer = Mailer.load(NAME)
    assert isinstance(mailer, Mailer)
    mailer.model_copy(update={"mode": mode}).save(NAME, overwrite=True)


@pytest.fixture(scope="module")
def served_flows(folder: Path, server: Server, parcel: int) -> Iterator[None]:
    remove_deployments(server.client)
    choose_mode(Mode.LIVE)
    with served("-m", "tests.support.plain", str(parcel), folder=folder):
        assert len(server.names()) == len(READY_MADE)
        yield


@pytest.mark.parametrize("name", READY_MADE)
def test_every_flow_runs_when_served_with_prefects_own_serve(
    served_flows: None, server: Server, name: str
) -> None:
    deployment = server[f"{getattr(flows, name).name}/{NAME}"]
    assert deployment.enforce_parameter_schema
    # as the run form sends them; no other process starts a run that is already pending
    run = server.client.create_flow_run_from_deployment(
        deployment.id, parameters=deployment.parameters, state=Pending()
    )
    state = execute(run.id)
    assert state.is_completed(), state.message


def test_a_serving_process_obeys_a_mailer_switched_to_dry_run(
    served_flows: None, server: Server, mail: MailServer, tracktor: Sandbox
) -> None:
    choose_mode(Mode.DRY_RUN)
    deployment = server[f"{flows.email_expired_exceptions.name}/{NAME}"]
    run = server.client.create_flow_run_from_deployment(
        deployment.id, parameters=deployment.parameters | {"dry_run": False}
    )
    state = ended(server.client, run.id)
    assert state.is_completed(), state.message
    due = len(tracktor.shop.customers_to_write_to())
    assert f"Dry run: {due} orders due" in str(state.message)
    assert not mail.messages


def test_plain_prefect_deployments_store_no_secret(served_flows: None, server: Server) -> None:
    stored = server.records("deployments", "flow_runs")
    assert not [secret for secret in SECRETS.values() if secret in stored]


def test_plain_prefect_deployments_can_be_deployed_twice(
    served_flows: None, server: Server, parcel: int
) -> None:
    make_pool(server.client, "plain", "process")
    served_before = {made.id: made for made in server.client.read_deployments()}
    made = deployments(parcel, entrypoint_type=EntrypointType.MODULE_PATH)
    # existing deployments are updated
    ids: Any = deploy(*made.values(), work_pool_name="plain")
    assert {*ids} == served_before.keys()
    for deployed in server.client.read_deployments():
        assert deployed.work_pool_name == "plain"
        assert deployed.parameters == served_before[deployed.id].parameters
    again: Any = deploy(made["email_expired_exceptions"], work_pool_name="plain")
    assert {*again} < {*ids}
    server.client.create_flow_run_from_deployment(again[0])
