"""Every way to start a deployment: by code, event, automation, command and HTTP."""

import asyncio
import runpy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import automations
import httpx
import pytest
from nightly_import import anightly_import, nightly_import
from prefect.automations import AutomationCore
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments import run_deployment
from prefect.deployments.runner import RunnerDeployment
from prefect.events import emit_event
from prefect.runner import Runner
from prefect.settings import PREFECT_API_URL
from prefect.testing.cli import invoke_and_assert
from prefect.types.entrypoint import EntrypointType
from pydantic import SecretStr, ValidationError

from prefect_tracktor import (
    CompletedOrders,
    InvalidInput,
    Mailer,
    NotificationLedger,
    ShopifyCredentials,
    StatusQuery,
    TracktorCredentials,
    WebhookSubscription,
)
from prefect_tracktor.flows import announce_exceptions
from prefect_tracktor.sandbox import Sandbox, Shop
from tests.support.chat import ChatServer
from tests.support.programs import waiting
from tests.support.serving import make_blocks_of, served
from tests.system.deployments.conftest import execute

EXAMPLES = Path(automations.__file__).parent
Automated = Callable[[AutomationCore], UUID]

DEPLOYMENT = "Email expired exceptions/after-import"

SECRET = "s3cret-that-nobody-may-see"
UNUSED_UUID = "0123abcd-0000-4000-8000-00000000000f"


@pytest.fixture(scope="module")
def shop() -> Iterator[Sandbox]:
    """A shop with more than twenty exceptions, and its own account.

    Events of the same account, parcels and times have the same ids, and Prefect's triggers ignore
    an id that they saw in the last half hour, such as in another test.
    """
    with Sandbox(Shop(orders=60, expired=20), uuid=str(uuid4())) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def client(prefect_api: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def folder(prefect_api: None, shop: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shop, whose blocks are saved."""
    folder = tmp_path_factory.mktemp("served")
    make_blocks_of(shop, folder)
    return folder


@pytest.fixture(scope="module")
def deployment(folder: Path, client: SyncPrefectClient) -> DeploymentResponse:
    """The handbook's deployment, registered by its script and not served."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Runner, "start", AsyncMock())
        runpy.run_path(str(EXAMPLES / "serve_after_import.py"), run_name="__main__")
    return client.read_deployment_by_name(DEPLOYMENT)


@pytest.fixture
def automated() -> Iterator[Automated]:
    """Create automations, which are removed after the test."""
    with ExitStack() as ending:

        def make(automation: AutomationCore) -> UUID:
            ending.callback(automations.remove, automation.name)
            return automations.replace(automation)

        yield make


def credentials_of(shop: Sandbox) -> TracktorCredentials:
    return TracktorCredentials.model_validate(
        {"uuid": shop.uuid, "api_key": shop.api_key, "base_url": shop.base_url}
    )


def runs_of(client: SyncPrefectClient, deployment: DeploymentResponse) -> list[FlowRun]:
    """Return all runs of the deployment so far."""
    only = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    return client.read_flow_runs(deployment_filter=only)


def channel_to(chat: ChatServer) -> UUID:
    """Save a block that notifies the chat, and return its id."""
    channel = CustomWebhookNotificationBlock(
        name="a chat", url=chat.url, json_data={"text": "{{subject}}\n{{body}}"}
    )
    channel_id = channel.save("channel", overwrite=True)
    assert isinstance(channel_id, UUID)
    return channel_id


def run_for(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    orders: list[int] | str,
    *,
    state: str = "",
) -> FlowRun:
    """Wait for the only run of the deployment for these orders, in the state."""
    for attempt in waiting():
        with attempt:
            runs = [
                run
                for run in runs_of(client, deployment)
                if run.parameters["orders"] == orders and (not state or state == run.state_name)
            ]
            assert runs
    [run] = runs
    return run


def execute_run_for(
    client: SyncPrefectClient, deployment: DeploymentResponse, orders: list[int] | str
) -> State:
    """Execute the run for these orders here, and return its final state."""
    return execute(run_for(client, deployment, orders).id)


class TestPipeline:
    def test_runs_the_deployment_for_its_orders_in_sync_and_async_code(
        self,
        client: SyncPrefectClient,
        deployment: DeploymentResponse,
        shop: Sandbox,
        folder: Path,
    ) -> None:
        first, second = list(shop.shop.order_ids[:2]), list(shop.shop.order_ids[2:4])
        shop.reset_calls()

        async def in_async_code() -> None:
            await asyncio.gather(
                anightly_import(second, DEPLOYMENT),
                asyncio.to_thread(execute_run_for, client, deployment, second),
            )

        asyncio.run(in_async_code())
        # executed by the process that serves the deployment
        with served(str(EXAMPLES / "serve_after_import.py"), folder=folder):
            nightly_import(first, DEPLOYMENT)
        assert sorted(shop.calls) == [("GET", f"orders/{i}.json") for i in first + second]
        for orders in (first, second):
            run = run_for(client, deployment, orders, state="Completed")
            assert run.parameters["credentials"].keys() == {"$ref"}
            assert shop.api_key not in run.model_dump_json()

    def test_fails_before_any_call_and_notifies_the_team_if_it_passes_a_block(
        self,
        client: SyncPrefectClient,
        deployment: DeploymentResponse,
        shop: Sandbox,
        chat: ChatServer,
        automated: Automated,
    ) -> None:
        automated(automations.notify_of_failed_runs(channel_to(chat)))
        orders = list(shop.shop.order_ids[4:5])
        shop.reset_calls()
        credentials = credentials_of(shop)
        run_deployment(
            deployment.id, parameters={"credentials": credentials, "orders": orders}, timeout=0
        )
        execute_run_for(client, deployment, orders)
        run = run_for(client, deployment, orders, state="Failed")
        assert run.state is not None
        assert "api_key is asterisks only" in str(run.state.message)
        assert '{"$ref": {"block_document_id": "..."}}' in str(run.state.message)
        assert not shop.calls
        for attempt in waiting():
            with attempt:
                assert chat.texts == [
                    f"Email expired exceptions: Failed\n{run.name}: {run.state.message}"
                ]


class TestTriggers:
    def test_an_event_starts_a_run_for_the_orders_in_its_payload(
        self, client: SyncPrefectClient, deployment: DeploymentResponse, shop: Sandbox
    ) -> None:
        of_event, by_reference = ([order_id] for order_id in shop.shop.order_ids[5:7])
        shop.reset_calls()
        for order_ids in (of_event, "#1001"):
            emit_event(
                "warehouse.orders.imported",
                resource={"prefect.resource.id": "warehouse.import"},
                payload={"order_ids": order_ids},
            )
        document = client.read_block_document_by_name("tracktor", "tracktor-credentials")
        reference = {"$ref": {"block_document_id": str(document.id)}}
        parameters = {"credentials": reference, "orders": by_reference}
        run_deployment(deployment.id, parameters=parameters, timeout=0)
        for orders in (of_event, by_reference):
            assert execute_run_for(client, deployment, orders).is_completed()
            assert ("GET", f"orders/{orders[0]}.json") in shop.calls
        # an invalid parameter is reported
        unfit = execute_run_for(client, deployment, "#1001")
        assert unfit.is_failed()
        assert "orders" in str(unfit.message)

    def test_many_new_exceptions_run_one_deployment_and_pause_another(
        self,
        client: SyncPrefectClient,
        deployment: DeploymentResponse,
        shop: Sandbox,
        automated: Automated,
        chat: ChatServer,
        tmp_path: Path,
    ) -> None:
        to_be_paused = announce_exceptions.to_deployment(
            "to-be-paused", entrypoint_type=EntrypointType.MODULE_PATH
        )
        assert isinstance(to_be_paused, RunnerDeployment)
        paused_id = to_be_paused.apply()
        assert isinstance(paused_id, UUID)
        account, channel = credentials_of(shop).account, channel_to(chat)
        automated(automations.run_on_many_exceptions(deployment.id, account))
        automated(automations.pause_on_many_exceptions(paused_id, account, channel))
        # created again, it replaces itself
        automated(automations.run_on_many_exceptions(deployment.id, account))
        report = announce_exceptions(
            credentials_of(shop),
            list(shop.shop.order_ids),
            ledger=NotificationLedger(url=SecretStr(f"sqlite:///{tmp_path / 'told.sqlite3'}")),
        )
        assert 20 <= len(report.announced) < 40
        assert run_for(client, deployment, []).parameters["dry_run"] is True
        for attempt in waiting():
            with attempt:
                assert client.read_deployment(paused_id).paused
                assert any(text.startswith("Many new exceptions\n") for text in chat.texts)

    def test_prefects_command_starts_a_run_with_given_parameters(
        self, client: SyncPrefectClient, deployment: DeploymentResponse
    ) -> None:
        invoke_and_assert(
            [
                *("deployment", "run", DEPLOYMENT, "--param", "orders=[71]"),
                *("--param", "max_emails=10", "--start-in", "1 hour"),
            ],
            expected_code=0,
        )
        run = run_for(client, deployment, [71])
        assert run.parameters["max_emails"] == 10
        assert run.parameters["credentials"].keys() == {"$ref"}

    def test_an_api_request_starts_a_run_with_given_parameters(
        self, client: SyncPrefectClient, deployment: DeploymentResponse
    ) -> None:
        flow_name, name = DEPLOYMENT.split("/")
        api = str(PREFECT_API_URL.value())
        found = httpx.get(f"{api}/deployments/name/{flow_name}/{name}").raise_for_status().json()
        in_an_hour = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        httpx.post(
            f"{api}/deployments/{found['id']}/create_flow_run",
            json={
                "parameters": {"orders": [72]},
                "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": in_an_hour}},
            },
        ).raise_for_status()
        run = run_for(client, deployment, [72])
        assert run.parameters["credentials"].keys() == {"$ref"}


MASKED: dict[str, tuple[type[Block], dict[str, Any]]] = {
    "api_key": (TracktorCredentials, {"uuid": UNUSED_UUID, "api_key": SECRET}),
    "access_token": (ShopifyCredentials, {"shop": "your-store", "access_token": SECRET}),
    "client_secret": (
        ShopifyCredentials,
        {"shop": "your-store", "client_id": "abc", "client_secret": SECRET},
    ),
    "ledger": (NotificationLedger, {"url": "postgresql://host/ledger"}),
    "completed": (CompletedOrders, {"url": "postgresql://host/ledger"}),
    "query": (StatusQuery, {"url": "sqlite:///erp", "query": "SELECT 1"}),
    "address": (WebhookSubscription, {"address": "https://shop.example/hook"}),
}


@pytest.mark.parametrize("case", MASKED)
def test_a_block_with_a_masked_secret_is_refused(case: str) -> None:
    block_class, values = MASKED[case]
    sent = block_class.model_validate(values).model_dump(mode="json")
    with pytest.raises(ValidationError, match=r"is asterisks only: .* pass the saved block by"):
        block_class.model_validate(sent)


def test_a_mailer_with_a_masked_password_is_refused_before_use() -> None:
    mailer = Mailer(host="smtp.shop.example", sender="a@b.example", password=SecretStr(SECRET))
    masked = Mailer.model_validate(mailer.model_dump(mode="json"))
    with pytest.raises(InvalidInput, match="password is asterisks only"):
        masked.verify()


@pytest.mark.parametrize("name", ["automations.py", "nightly_import.py", "serve_after_import.py"])
def test_the_handbook_shows_the_tested_code(name: str) -> None:
    page = (EXAMPLES.parent / "how-to" / "trigger-runs.md").read_text(encoding="utf-8")
    code = (EXAMPLES / name).read_text(encoding="utf-8")
    assert f'```python title="{name}"\n{code}```' in page
