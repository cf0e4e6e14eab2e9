"""The command `prefect-tracktor serve`: served deployments, output, pauses."""

import os
import socket
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.runner import Runner
from prefect.states import Completed, Crashed, Pending, Running

from prefect_tracktor import (
    CompletedOrders,
    Mailer,
    OrderFile,
    ShopifyCredentials,
    ShopifyOrders,
    TracktorCredentials,
)
from prefect_tracktor.cli import main
from prefect_tracktor.deploy import Shop, commands, saved, shop_of_the_environment
from prefect_tracktor.deploy.apply import STOPPED
from prefect_tracktor.deploy.builders import for_scanning
from prefect_tracktor.deploy.serve import SERVED_BY, claim, new_claim, stop
from prefect_tracktor.errors import InvalidInput, NotSetUp
from tests.system.deployments.conftest import Server, remove_deployments

MAIL = "Email expired exceptions/email-expired-exceptions"
HOURLY = "Sync webhooks/sync-webhooks"

Output = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("environment", "no_deployments")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Serve until the deployments are registered, and stop."""
    served: list[str] = []
    monkeypatch.setattr(
        commands,
        "serve_until_stopped",
        lambda deployments: served.extend(d.full_name for d in deployments.values()),
    )

    def serve(*options: str) -> list[str]:
        assert main(["serve", *options]) == 0
        return served

    return serve


def test_serve_leaves_out_disabled_flows_and_prints_how_to_enable_them(
    serve: Callable[..., list[str]], capsys: Output
) -> None:
    assert serve() == [
        MAIL,
        "Reconcile manual statuses/reconcile-manual-statuses",
        "Sync webhooks/sync-webhooks",
    ]
    output = capsys.readouterr().out
    assert "left out status_change: set TRACKTOR_NOTIFY" in output
    assert "Orders come from the block tracktor-order-file/tracktor." in output
    mailer: Any = Mailer.load("tracktor")
    assert f"Emails: {mailer.mode.label}, as the block tracktor-mailer/tracktor says now." in output
    assert main(["serve", "--only", "exceptions"]) == 2
    assert "exceptions cannot be served yet: set TRACKTOR_ANNOUNCE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (
            "TRACKTOR_ANNOUNCE_EXCEPTIONS",
            "maybe",
            "TRACKTOR_ANNOUNCE_EXCEPTIONS: 'maybe' is neither true nor false",
        ),
        ("TRACKTOR_TIMEZONE", "Mars", "no time zone 'Mars'; set TRACKTOR_TIMEZONE, such as Europe"),
    ],
)
def test_serve_refuses_an_invalid_setting(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
    name: str,
    value: str,
    problem: str,
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["serve"]) == 2
    assert problem in "".join(capsys.readouterr())
    assert server.names() == []


def test_the_environment_overrides_the_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("TRACKTOR_TIMEZONE=Europe/Berlin\nTRACKTOR_NOTIFY=in_transit\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKTOR_NOTIFY", "delivered")
    shop = shop_of_the_environment()
    assert (shop.timezone, shop.notify) == ("Europe/Berlin", ["delivered"])


def test_the_error_for_a_missing_block_names_the_command_to_create_it() -> None:
    with pytest.raises(
        InvalidInput, match=r"tials/not-made. Run prefect-tracktor blocks --name not-made"
    ):
        saved(TracktorCredentials, Shop("not-made"))


def test_orders_come_from_shopify_if_its_block_is_saved() -> None:
    shop = Shop("order-sources")
    TracktorCredentials.model_validate({"uuid": "c" * 32, "api_key": "k"}).save(shop.name)
    CompletedOrders().save(shop.name, overwrite=True)
    OrderFile(path="orders.csv").save(shop.name, overwrite=True)
    assert isinstance(for_scanning(shop)["orders"], OrderFile)
    credentials = ShopifyCredentials.model_validate({"shop": "your-store", "access_token": "t0ken"})
    ShopifyOrders(credentials=credentials).save(shop.name, overwrite=True)
    assert isinstance(for_scanning(shop)["orders"], ShopifyOrders)
    with pytest.raises(
        NotSetUp, match="set SHOPIFY_FULFILLMENT=any and run prefect-tracktor blocks"
    ):
        for_scanning(shop, unfulfilled=True)
    with pytest.raises(NotSetUp, match="set SHOPIFY_INCLUDE_DELIVERED=1 and run"):
        for_scanning(shop, delivered=True)


@dataclass(frozen=True)
class Served:
    """The output of `serve`, and the deployment after it ended."""

    output: str
    left: DeploymentResponse


@pytest.fixture(scope="module")
def served_again(
    blocks: None, pool: str, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Served]:
    """Serve a deployment after workers, again, beside another process, and after that."""
    folder = tmp_path_factory.mktemp("misspelt")
    (folder / ".env").write_text("TRACKTOR_MOD=live\n")
    remove_deployments(server.client)
    only = ["--only", "expired_exceptions"]

    def serve() -> Served:
        with redirect_stdout(StringIO()) as output:
            assert main(["serve", *only]) == 0
        return Served(output.getvalue(), server[MAIL])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(commands, "serve_until_stopped", lambda _deployments: None)
        assert main(["deploy", "--work-pool", pool, *only]) == 0
        found = {"after workers": serve(), "again": serve()}
        claim(server.client, [server[MAIL].id], new_claim())
        found["beside another process"] = serve()
        patched.chdir(folder)
        return found | {"after it": serve()}


def test_a_deployment_is_paused_until_it_is_served_again(
    served_again: dict[str, Served],
) -> None:
    for served in served_again.values():
        assert served.left.paused
        assert STOPPED in served.left.tags
    assert f"updated    {MAIL} (tags, resumed)" in served_again["again"].output


def test_serve_prints_which_work_pool_no_longer_runs_its_deployments(
    served_again: dict[str, Served], pool: str
) -> None:
    output = served_again["after workers"].output
    assert f"Workers of the work pool '{pool}' no longer run these deployments." in output
    assert f"prefect-tracktor deploy --work-pool {pool}" in output
    assert "no longer run" not in served_again["again"].output


def test_serve_names_another_process_that_serves_the_same_deployment(
    served_again: dict[str, Served],
) -> None:
    output = served_again["beside another process"].output
    assert f"Also served by {socket.gethostname()}, process {os.getpid()}, since 20" in output
    for alone in ("after workers", "again", "after it"):
        assert "Also served by" not in served_again[alone].output


def test_serve_names_a_misspelt_variable_in_the_env_file(served_again: dict[str, Served]) -> None:
    named = "unknown variable TRACKTOR_MOD; did you mean TRACKTOR_MODE?"
    assert [when for when, served in served_again.items() if named in served.output] == ["after it"]


def test_a_deleted_deployment_does_not_keep_others_from_being_paused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        commands,
        "serve_until_stopped",
        lambda _deployments: server.client.delete_deployment(server[MAIL].id),
    )
    assert main(["serve", "--only", "expired_exceptions", "webhooks"]) == 0
    assert server.names() == [HOURLY]
    assert server[HOURLY].paused


def test_a_deployment_taken_over_stays_active_when_the_first_process_stops(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until_another_takes_over(_deployments: object) -> None:
        claim(server.client, [server[MAIL].id], new_claim())

    monkeypatch.setattr(commands, "serve_until_stopped", until_another_takes_over)
    assert main(["serve", "--only", "expired_exceptions"]) == 0
    assert not server[MAIL].paused


def test_deployments_are_paused_when_the_api_fails_before_they_are_served(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def fail(*_arguments: object) -> None:
        raise httpx.ConnectError("no route to Prefect")

    monkeypatch.setattr(commands, "claim", fail)
    assert main(["serve", "--only", "expired_exceptions"]) == 2
    assert server[MAIL].paused
    assert STOPPED in server[MAIL].tags
    assert "Prefect's API does not answer" in capsys.readouterr().err


def test_each_process_reschedules_only_its_own_interrupted_runs(
    serve: Callable[..., list[str]], server: Server, capsys: Output
) -> None:
    serve("--only", "expired_exceptions")
    mail, client = server[MAIL], server.client

    def run_in(state: State[None]) -> UUID:
        return client.create_flow_run_from_deployment(mail.id, state=state).id

    claim(client, [mail.id], first := new_claim())
    # the third run received the signal that ended the process, too
    of_first = [run_in(Running()), run_in(Pending()), run_in(Crashed())]
    over = run_in(Completed())
    claim(client, [mail.id], second := new_claim())
    of_second = run_in(Running())
    stop(client, [mail.id], first)
    assert [name_of_state(client, run) for run in of_first] == ["AwaitingRetry"] * 3
    assert [name_of_state(client, run) for run in (over, of_second)] == ["Completed", "Running"]
    assert capsys.readouterr().out.count("interrupted ") == 3
    stop(client, [mail.id], second)
    assert name_of_state(client, of_second) == "AwaitingRetry"
    assert server[MAIL].paused
    assert SERVED_BY not in server[MAIL].job_variables


def name_of_state(client: SyncPrefectClient, run_id: UUID) -> str | None:
    return client.read_flow_run(run_id).state_name


def test_a_waiting_run_does_not_delay_other_deployments(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    async def start(runner: Runner) -> None:
        limits.append(runner.limit)

    monkeypatch.setattr(Runner, "start", start)
    monkeypatch.setenv("TRACKTOR_NOTIFY", "delivered")
    assert main(["serve", "--only", "expired_exceptions", "status_change"]) == 0
    assert limits == [1 + 4]


def test_a_deployment_paused_by_a_user_stays_paused_when_served_again(
    serve: Callable[..., list[str]], server: Server, capsys: Output
) -> None:
    serve("--only", "expired_exceptions")
    by_hand = DeploymentUpdate(paused=True, tags=["tracktor"])
    server.client.update_deployment(server[MAIL].id, by_hand)
    [schedule] = server[MAIL].schedules
    server.client.update_deployment_schedule(server[MAIL].id, schedule.id, active=False)
    capsys.readouterr()
    serve("--only", "expired_exceptions")
    assert f"unchanged  {MAIL} (paused)" in capsys.readouterr().out
    made = server[MAIL]
    assert made.paused
    assert made.tags == ["tracktor"]
    assert not made.schedules[0].active
