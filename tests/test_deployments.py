"""`python -m flows`: what Prefect's server keeps of the deployments, and a run that it starts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_URL

from blocks.__main__ import main as make_blocks
from flows import advance, expired_exceptions, shared
from flows.__main__ import DEPLOYMENTS, main
from prefect_tracktor import OrderFile, ShopifyCredentials, ShopifyOrders, StatusStage
from prefect_tracktor.sandbox import MailServer, Sandbox

pytestmark = pytest.mark.usefixtures("prefect_api")

PROJECT = Path(__file__).parent.parent


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def environment(tracktor: Sandbox, mail: MailServer, tmp_path: Path) -> dict[str, str]:
    """The blocks made, and the variables that `python -m flows` wants."""
    tracktor.shop.write_orders_csv(tmp_path / "orders.csv")
    blocks = {
        "TRACKTOR_UUID": tracktor.uuid,
        "TRACKTOR_API_KEY": tracktor.api_key,
        "TRACKTOR_BASE_URL": tracktor.base_url,
        "TRACKTOR_ORDERS": str(tmp_path / "orders.csv"),
        "TRACKTOR_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite3'}",
        "SMTP_SERVER": mail.host,
        "SMTP_PORT": str(mail.port),
        "SMTP_TYPE": "INSECURE",
        "SMTP_USERNAME": "shop",
        "SMTP_PASSWORD": "pa55-word",
        "TRACKTOR_STATUSES": str(tmp_path / "plan.csv"),
        "TRACKTOR_WEBHOOK_ADDRESS": "https://shop.example/hook/s3cret",
    }
    assert make_blocks(blocks) == 0
    return {"TRACKTOR_SENDER": "Sandbox Shop <orders@sandbox-shop.example>"}


@pytest.fixture
def deployed(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, client: SyncPrefectClient
) -> DeploymentResponse:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    deployment_id = expired_exceptions.deployment().apply()
    assert isinstance(deployment_id, UUID)
    return client.read_deployment(deployment_id)


def test_the_server_keeps_references_to_blocks_and_no_secret(
    deployed: DeploymentResponse, tracktor: Sandbox
) -> None:
    for name in ("credentials", "orders", "email_server", "template", "ledger"):
        assert deployed.parameters[name].keys() == {"$ref"}
    kept = deployed.model_dump_json()
    assert tracktor.api_key not in kept
    assert "pa55-word" not in kept


def test_it_runs_daily_and_one_at_a_time(deployed: DeploymentResponse) -> None:
    assert deployed.name == "daily"
    [schedule] = deployed.schedules
    assert schedule.schedule.model_dump()["cron"] == "0 7 * * *"
    assert deployed.global_concurrency_limit is not None
    assert deployed.global_concurrency_limit.limit == 1


def test_a_worker_needs_the_installed_package_only(deployed: DeploymentResponse) -> None:
    module = "prefect_tracktor.flows.expired_exceptions"
    assert deployed.entrypoint == f"{module}.email_expired_exceptions"


def test_orders_are_found_in_shopify_where_there_is_a_document_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "NAME", "order-sources")
    OrderFile(path="orders.csv").save("order-sources", overwrite=True)
    assert isinstance(shared.orders(), OrderFile)
    credentials = ShopifyCredentials.model_validate({"shop": "your-store", "access_token": "t0ken"})
    ShopifyOrders(credentials=credentials).save("order-sources", overwrite=True)
    assert isinstance(shared.orders(), ShopifyOrders)


def test_every_flow_can_be_deployed_and_the_server_keeps_no_secret_of_any(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    client: SyncPrefectClient,
    tracktor: Sandbox,
) -> None:
    wished = {"TRACKTOR_NOTIFY": "delivered, in_transit", "TRACKTOR_ANNOUNCE_EXCEPTIONS": "1"}
    for name, value in (environment | wished).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(advance, "STAGES", [StatusStage("Cutting", 1)])
    for make in DEPLOYMENTS.values():
        make().apply()
    kept = "".join(
        entry.model_dump_json() for entry in [*client.read_deployments(), *client.read_flow_runs()]
    )
    automations = client.request("POST", "/automations/filter", json={}).text
    assert '"status": "{{ event.payload.shipment_status }}"' in automations.replace('":"', '": "')
    for secret in (tracktor.api_key, "pa55-word", "s3cret"):
        assert secret not in kept + automations


def test_what_is_not_wished_for_is_left_out_and_says_how(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    served: list[str] = []
    monkeypatch.setattr(
        "flows.__main__.serve", lambda *deployments: served.extend(d.flow_name for d in deployments)
    )
    assert main(["serve"]) == 0
    assert served == ["E-mail expired exceptions", "Reconcile manual statuses", "Sync webhooks"]
    assert "left out status_change: set TRACKTOR_NOTIFY" in capsys.readouterr().out
    assert main(["serve", "--only", "exceptions"]) == 2
    assert "set TRACKTOR_ANNOUNCE_EXCEPTIONS=1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("TRACKTOR_DRY_RUN", "maybe", "TRACKTOR_DRY_RUN: 'maybe' is neither true nor false"),
        ("TRACKTOR_NOTIFY", "delivered,Ready for pickup", "no default words for ready_for_pickup"),
    ],
)
def test_a_setting_that_cannot_be_right_serves_nothing(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    problem: str,
) -> None:
    for key, text in (environment | {name: value}).items():
        monkeypatch.setenv(key, text)
    assert main(["serve"]) == 2
    assert problem in capsys.readouterr().out


@pytest.mark.parametrize("value", ["on", "Y", " True ", "1"])
def test_a_dry_run_may_be_wished_for_in_many_words(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TRACKTOR_DRY_RUN", value)
    assert shared.dry_run()


def test_a_missing_sender_is_named(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("TRACKTOR_SENDER", raising=False)
    assert main(["serve"]) == 2
    assert "TRACKTOR_SENDER" in capsys.readouterr().out


def test_missing_blocks_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shared, "NAME", "not-made")
    monkeypatch.setenv("TRACKTOR_SENDER", "shop@example.com")
    assert main(["serve"]) == 2
    assert "Run python -m blocks first" in capsys.readouterr().out


def test_a_served_deployment_runs_when_it_is_triggered(
    environment: dict[str, str],
    client: SyncPrefectClient,
    tracktor: Sandbox,
    mail: MailServer,
    tmp_path: Path,
) -> None:
    settings = {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_HOME": str(tmp_path / "home"),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "flows", "serve"],
        cwd=PROJECT,
        env=os.environ | environment | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            line = next(line for line in server.stdout if "being served" in line)
            assert line
            deployment = client.read_deployment_by_name("E-mail expired exceptions/daily")
            run = client.create_flow_run_from_deployment(deployment.id)
            state = run.state
            while state is None or not state.is_final():
                time.sleep(0.2)
                state = client.read_flow_run(run.id).state
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                raise
    assert state.is_completed()
    recipients = [received.recipients[0] for received in mail.messages]
    assert sorted(recipients) == sorted(tracktor.shop.customers_to_write_to().values())
