"""A shop with all its blocks, and the deployments on Prefect's server."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import Automation
from prefect.flow_engine import load_flow_and_flow_run, run_flow

from blocks.documents import DOCUMENTS
from flows import shops
from prefect_tracktor import (
    Mailer,
    NotificationLedger,
    OrderFile,
    StatusFile,
    TracktorCredentials,
    WebhookSubscription,
)
from prefect_tracktor.cli import main
from prefect_tracktor.deploy import Shop, commands
from prefect_tracktor.deploy.shops import build_functions
from prefect_tracktor.sandbox import MailServer, Sandbox
from prefect_tracktor.sandbox import Shop as SandboxShop
from prefect_tracktor.setup.blocks import save_blocks
from prefect_tracktor.setup.project import modules_of
from tests.support.programs import waiting
from tests.support.serving import served

DEPLOYMENTS = build_functions(modules_of("flows"))
# these must be stored only in blocks
SECRETS = {
    "TRACKTOR_API_KEY": "tr4ckt0r-k3y",
    "SMTP_PASSWORD": "pa55-word",
    "TRACKTOR_WEBHOOK_ADDRESS": "https://shop.example/hook-s3cret",
}
VARIABLES = SECRETS | {
    "TRACKTOR_UUID": "a" * 32,
    "TRACKTOR_ORDERS": "orders.csv",
    "TRACKTOR_STATUSES": "plan.csv",
    "TRACKTOR_SENDER": "Sandbox Shop <orders@sandbox-shop.example>",
    "SMTP_HOST": "127.0.0.1",
    "SMTP_SECURITY": "none",
    "SMTP_USERNAME": "shop",
}
ALPINE_SECRETS = {"api_key": "a1p1ne-k3y", "address": "https://alpine.example/hook-s3cret"}


@pytest.fixture(scope="module")
def client(prefect_api: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def no_deployments(client: SyncPrefectClient) -> None:
    """Remove the deployments of earlier tests."""
    remove_deployments(client)


def remove_deployments(client: SyncPrefectClient) -> None:
    for deployment in client.read_deployments():
        client.delete_deployment(deployment.id)


@pytest.fixture(scope="session")
def blocks(prefect_api: None) -> None:
    """Save the blocks, as `prefect-tracktor blocks` does."""
    assert save_blocks(VARIABLES, DOCUMENTS) == 0


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A small shop with some customers to email."""
    with Sandbox(SandboxShop(orders=60, expired=6)) as sandbox:
        yield sandbox


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


def variables_of(tracktor: Sandbox, mail: MailServer, folder: Path) -> dict[str, str]:
    """Return the variables of a sandbox shop with its files in a folder."""
    return {
        "TRACKTOR_UUID": tracktor.uuid,
        "TRACKTOR_API_KEY": tracktor.api_key,
        "TRACKTOR_BASE_URL": tracktor.base_url,
        "TRACKTOR_ORDERS": str(folder / "orders.csv"),
        "TRACKTOR_STATUSES": str(folder / "plan.csv"),
        "TRACKTOR_LEDGER_URL": f"sqlite:///{folder / 'ledger.sqlite3'}",
        "TRACKTOR_WEBHOOK_ADDRESS": "https://shop.example/hook",
        "TRACKTOR_SENDER": "Sandbox Shop <orders@sandbox-shop.example>",
        "SMTP_HOST": mail.host,
        "SMTP_PORT": str(mail.port),
        "SMTP_SECURITY": "none",
    }


@pytest.fixture
def customers_to_email(
    environment: None, tracktor: Sandbox, mail: MailServer, tmp_path: Path
) -> list[str]:
    """Save the blocks of a sandbox shop; return the addresses that its flow must email."""
    tracktor.shop.write_orders_csv(tmp_path / "orders.csv")
    working = {
        "TRACKTOR_UUID": tracktor.uuid,
        "TRACKTOR_API_KEY": tracktor.api_key,
        "TRACKTOR_BASE_URL": tracktor.base_url,
        "TRACKTOR_ORDERS": str(tmp_path / "orders.csv"),
        "TRACKTOR_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite3'}",
        "TRACKTOR_MODE": "live",
        "SMTP_HOST": mail.host,
        "SMTP_PORT": str(mail.port),
    }
    assert save_blocks(VARIABLES | working, DOCUMENTS) == 0
    return sorted(tracktor.shop.customers_to_write_to().values())


@pytest.fixture(scope="session")
def alpine(blocks: None) -> None:
    """Save the blocks of a second shop, which shares the other blocks."""
    ledger = NotificationLedger.load("tracktor")
    assert isinstance(ledger, NotificationLedger)
    key, hook = ALPINE_SECRETS["api_key"], ALPINE_SECRETS["address"]
    documents = [
        TracktorCredentials.model_validate({"uuid": "b" * 32, "api_key": key}),
        WebhookSubscription.model_validate({"address": hook}),
        OrderFile(path="alpine.csv"),
        StatusFile(path="plan.csv"),
        Mailer(host="smtp.alpine.example", sender="Alpine <hi@alpine.example>", ledger=ledger),
    ]
    for document in documents:
        document.save("alpine", overwrite=True)


@pytest.fixture
def environment(blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the blocks, and unset the variables that `prefect-tracktor serve` reads."""
    for name in ("NOTIFY", "TIMEZONE", "ANNOUNCE_EXCEPTIONS"):
        monkeypatch.delenv(f"TRACKTOR_{name}", raising=False)


class Server:
    """The server's deployments by name."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client

    def __getitem__(self, name: str) -> DeploymentResponse:
        return self.client.read_deployment_by_name(name)

    def automation_of(self, name: str) -> Automation:
        """Return the only automation of a deployment."""
        resource = f"prefect.deployment.{self[name].id}"
        [automation] = self.client.read_resource_related_automations(resource)
        return automation

    def names(self) -> list[str]:
        flows = {flow.id: flow.name for flow in self.client.read_flows()}
        found = self.client.read_deployments()
        return sorted(f"{flows[made.flow_id]}/{made.name}" for made in found)

    def records(self, *kinds: str) -> str:
        """Return all records of some kinds, as the API returns them to any client."""
        return "".join(
            httpx.post(f"{self.client.api_url}{kind}/filter", json={}).raise_for_status().text
            for kind in kinds
        )


@pytest.fixture(scope="module")
def server(client: SyncPrefectClient) -> Server:
    return Server(client)


@pytest.fixture(scope="module")
def pool(client: SyncPrefectClient) -> str:
    """A process work pool."""
    make_pool(client, "here", "process")
    return "here"


def make_pool(client: SyncPrefectClient, name: str, kind: str) -> None:
    """Create a work pool with Prefect's template for its type."""
    template = _job_templates(str(client.api_url))[kind]
    pool = WorkPoolCreate(name=name, type=kind, base_job_template=template)
    client.create_work_pool(pool, overwrite=True)


@cache
def _job_templates(api: str) -> dict[str, dict[str, Any]]:
    known = httpx.get(f"{api}collections/views/aggregate-worker-metadata").json()
    workers = {kind: worker for package in known.values() for kind, worker in package.items()}
    return {kind: worker["default_base_job_configuration"] for kind, worker in workers.items()}


def deploy_all(*options: str) -> int:
    """Run `prefect-tracktor deploy` with that pool."""
    return main(["deploy", "--work-pool", "here", *options])


@pytest.fixture
def set_shops(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the shops of `flows/shops.py`."""

    def put(*rows: Shop) -> None:
        monkeypatch.setattr(shops, "shops", lambda: rows)

    return put


@pytest.fixture
def set_files(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the files of `flows/` that build a deployment."""

    def put(**files: Callable[[Shop], Any]) -> None:
        monkeypatch.setattr(commands, "build_functions", lambda _modules: files)

    return put


def terminate(process: Popen[bytes]) -> None:
    """End a process alone, as Docker does."""
    process.terminate()


def terminate_all(process: Popen[bytes]) -> None:
    """End a process and its children at once, as systemd does."""
    os.killpg(process.pid, signal.SIGTERM)


def press_ctrl_c(process: Popen[bytes]) -> None:
    """Interrupt a process and its children at once, as a terminal does."""
    os.killpg(process.pid, signal.SIGINT)


@contextmanager
def serving(
    *options: str, folder: Path, end: Callable[[Popen[bytes]], None] = terminate
) -> Iterator[None]:
    """Run `prefect-tracktor serve` while the block runs, and end it."""
    with served("-m", "prefect_tracktor", "serve", *options, folder=folder) as process:
        yield
        end(process)
        assert process.wait(60) == 0


def execute(run_id: UUID) -> State:
    """Execute a run here, as its own process does, and return its final state."""
    found, flow = load_flow_and_flow_run(run_id)
    state: Any = run_flow(flow, flow_run=found, return_type="state")
    assert isinstance(state, State)
    return state


def ended(client: SyncPrefectClient, run_id: UUID) -> State:
    """Wait for the final state of a run."""
    for attempt in waiting():
        with attempt:
            state = client.read_flow_run(run_id).state
            assert state is not None
            assert state.is_final()
            return state
    raise AssertionError  # unreachable: the last attempt raises
