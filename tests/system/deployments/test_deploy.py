"""The command `prefect-tracktor deploy`: the deployments on the server, and repeated use."""

import socket
from datetime import timedelta
from typing import Any

import pytest
from prefect import flow
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import expired_exceptions, reconcile, status_change, webhooks
from prefect_tracktor.cli import main
from prefect_tracktor.deploy import Shop, commands, every
from prefect_tracktor.deploy.apply import STOPPED
from tests.system.deployments.conftest import DEPLOYMENTS, Server, deploy_all

MAIL = "Email expired exceptions/email-expired-exceptions"
NIGHTLY = "Reconcile manual statuses/reconcile-manual-statuses"
HOURLY = "Sync webhooks/sync-webhooks"

Output = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("environment")


def deploy(*options: str) -> int:
    return deploy_all("--only", "expired_exceptions", *options)


@pytest.fixture
def deployed(no_deployments: None, pool: str, capsys: Output) -> None:
    assert deploy() == 0
    capsys.readouterr()


def test_what_is_set_up_is_registered_with_the_pool(
    no_deployments: None, pool: str, server: Server, capsys: Output
) -> None:
    assert deploy_all() == 0
    assert server.names() == [MAIL, NIGHTLY, HOURLY]
    assert server[MAIL].work_pool_name == pool
    said = capsys.readouterr().out
    assert f"created    {MAIL}" in said
    assert "left out status_change: set TRACKTOR_NOTIFY" in said


def test_it_runs_daily_in_the_shops_time_zone_and_one_at_a_time(
    pool: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKTOR_TIMEZONE", "Europe/Berlin")
    assert deploy() == 0
    made = server[MAIL]
    [schedule] = made.schedules
    assert isinstance(schedule.schedule, CronSchedule)
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 7 * * *", "Europe/Berlin")
    assert made.global_concurrency_limit is not None
    assert made.global_concurrency_limit.limit == 1


def test_a_worker_needs_the_installed_package_only(deployed: None, server: Server) -> None:
    made = server[MAIL]
    module = "prefect_tracktor.flows.expired_exceptions"
    assert made.entrypoint == f"{module}.email_expired_exceptions"
    assert (made.path, made.pull_steps) == (None, [])


def test_only_what_differs_is_changed_and_named(
    deployed: None, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    few = DeploymentUpdate(parameters=server[MAIL].parameters | {"max_emails": 5})
    server.client.update_deployment(server[MAIL].id, few)
    monkeypatch.setattr(expired_exceptions, "daily", lambda _cron, _shop: Cron("0 9 * * *"))
    assert deploy() == 0
    assert f"updated    {MAIL} (parameters max_emails, schedule)" in capsys.readouterr().out
    assert server[MAIL].parameters["max_emails"] == 500
    assert server[MAIL].schedules[0].schedule.model_dump()["cron"] == "0 9 * * *"


@pytest.mark.parametrize("paused", [True, False])
def test_what_was_paused_stays_paused(
    deployed: None,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
    paused: bool,
) -> None:
    mail = server[MAIL]
    server.client.update_deployment(mail.id, DeploymentUpdate(paused=paused))
    server.client.update_deployment_schedule(mail.id, mail.schedules[0].id, active=False)
    monkeypatch.setattr(expired_exceptions, "daily", lambda _cron, _shop: Cron("0 9 * * *"))
    assert deploy() == 0
    assert server[MAIL].paused is paused
    [schedule] = server[MAIL].schedules
    assert not schedule.active
    assert schedule.schedule.model_dump()["cron"] == "0 9 * * *"
    assert f", {'paused' if paused else 'schedule paused'})" in capsys.readouterr().out


def test_a_dry_run_that_was_set_in_the_ui_stays_until_the_file_says_otherwise(
    deployed: None, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    held = server[MAIL]
    update = DeploymentUpdate(parameters=held.parameters | {"dry_run": True})
    server.client.update_deployment(held.id, update)
    assert deploy() == 0
    assert server[MAIL].parameters["dry_run"] is True
    assert f"unchanged  {MAIL} (dry_run is on)" in capsys.readouterr().out
    make = expired_exceptions.deployment

    def not_dry(shop: Shop) -> RunnerDeployment:
        made = make(shop)
        made.parameters |= {"dry_run": False}
        return made

    monkeypatch.setattr(expired_exceptions, "deployment", not_dry)
    assert deploy() == 0
    assert server[MAIL].parameters["dry_run"] is False
    assert f"updated    {MAIL} (parameters dry_run)" in capsys.readouterr().out


def test_a_dry_run_that_was_set_on_a_trigger_or_a_schedule_stays(
    no_deployments: None, pool: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "Notify status change/notify-status-change"
    monkeypatch.setenv("TRACKTOR_NOTIFY", "delivered")
    assert deploy_all("--only", "status_change", "expired_exceptions") == 0
    edited = server.automation_of(name)
    [action] = edited.actions
    assert isinstance(action, RunDeployment)
    given = action.parameters = (action.parameters or {}) | {"dry_run": True}
    kept = AutomationCore.model_fields.keys() - {"owner_resource"}
    fields = {name: getattr(edited, name) for name in kept}
    server.client.update_automation(edited.id, AutomationCore(**fields))
    mail = server[MAIL]
    server.client.update_deployment_schedule(
        mail.id, mail.schedules[0].id, parameters={"dry_run": True}
    )
    # both change for another reason
    monkeypatch.setenv("TRACKTOR_NOTIFY", "delivered,in_transit")
    monkeypatch.setattr(expired_exceptions, "daily", lambda _cron, _shop: Cron("0 9 * * *"))
    assert deploy_all("--only", "status_change", "expired_exceptions") == 0
    [action] = server.automation_of(name).actions
    assert isinstance(action, RunDeployment)
    assert action.parameters == given
    [schedule] = server[MAIL].schedules
    assert schedule.parameters == {"dry_run": True}
    assert schedule.schedule.model_dump()["cron"] == "0 9 * * *"


def test_a_trigger_that_was_switched_off_stays_off(
    no_deployments: None,
    pool: str,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:
    name = "Notify status change/notify-status-change"
    monkeypatch.setenv("TRACKTOR_NOTIFY", "delivered")
    assert deploy_all("--only", "status_change") == 0
    server.client.pause_automation(server.automation_of(name).id)
    monkeypatch.setenv("TRACKTOR_NOTIFY", "delivered,in_transit")
    capsys.readouterr()
    assert deploy_all("--only", "status_change") == 0
    automation = server.automation_of(name)
    assert not automation.enabled
    assert "tracktor.fulfillment.in_transit" in automation.model_dump_json()
    assert f"{name} (trigger 'A parcel reached a status')" in capsys.readouterr().out
    assert deploy_all("--only", "status_change") == 0
    assert f"unchanged  {name}" in capsys.readouterr().out


def test_a_trigger_that_no_file_makes_goes_and_one_from_the_ui_stays(
    no_deployments: None,
    pool: str,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:
    name = "Notify status change/notify-status-change"
    monkeypatch.setenv("TRACKTOR_NOTIFY", "delivered")
    assert deploy_all("--only", "status_change") == 0
    ours = server.automation_of(name)
    own = {"name": "My own", "description": "", "owner_resource": None}
    server.client.create_automation(AutomationCore(**ours.model_dump() | own))
    monkeypatch.setattr(status_change, "DeploymentEventTrigger", renamed_trigger)
    assert deploy_all("--only", "status_change") == 0
    resource = f"prefect.deployment.{server[name].id}"
    left = server.client.read_resource_related_automations(resource)
    assert {automation.name for automation in left} == {"My own", "Renamed"}
    assert "no trigger 'A parcel reached a status'" in capsys.readouterr().out


def renamed_trigger(**given: Any) -> DeploymentEventTrigger:
    return DeploymentEventTrigger.model_validate(given | {"name": "Renamed"})


def test_schedules_of_other_peoples_making_stay(deployed: None, server: Server) -> None:
    own = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 12 * * 0"))
    server.client.create_deployment_schedules(server[MAIL].id, [own])
    server.client.update_deployment(server[MAIL].id, DeploymentUpdate(description="mine"))
    assert deploy() == 0
    crons = {schedule.schedule.model_dump()["cron"] for schedule in server[MAIL].schedules}
    assert crons == {"0 7 * * *", "0 12 * * 0"}


def test_a_schedule_that_no_file_makes_goes(
    deployed: None, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(expired_exceptions, "daily", lambda _cron, _shop: None)
    assert deploy() == 0
    assert server[MAIL].schedules == []
    assert f"{MAIL} (description, no schedule)" in capsys.readouterr().out


def test_intervals_are_counted_from_the_same_hour_whenever_it_is_deployed() -> None:
    assert every(timedelta(hours=6)) == every(timedelta(hours=6))


def test_a_dry_run_says_what_it_would_do_and_does_nothing(
    no_deployments: None, pool: str, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    assert deploy("--dry-run") == 0
    assert f"would be created    {MAIL}" in capsys.readouterr().out
    assert server.names() == []
    assert deploy() == 0
    before = server[MAIL]
    monkeypatch.setattr(expired_exceptions, "daily", lambda _cron, _shop: Cron("0 9 * * *"))
    assert deploy("--dry-run") == 0
    assert f"would be updated    {MAIL} (schedule)" in capsys.readouterr().out
    assert server[MAIL] == before


def test_a_deployment_that_no_file_makes_is_named_and_left(
    deployed: None, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(
        commands, "build_functions", lambda _modules: {"webhooks": webhooks.deployment}
    )
    assert deploy_all("--dry-run") == 0
    assert f"prefect deployment delete '{MAIL}'" in capsys.readouterr().out
    assert server.names() == [MAIL]
    assert deploy_all("--dry-run", "--only", "webhooks") == 0
    assert "left over" not in capsys.readouterr().out


def test_a_pipeline_of_the_users_own_that_bears_the_tag_is_not_called_left_over(
    server: Server, capsys: Output
) -> None:
    @flow
    def digest() -> None: ...

    flow_id = server.client.create_flow(digest)
    server.client.create_deployment(
        flow_id, "daily", tags=["tracktor"], entrypoint="exceptions_digest.py:digest"
    )
    assert deploy_all("--dry-run") == 0
    assert "left over" not in capsys.readouterr().out


def test_what_was_paused_as_its_process_ended_runs_again_in_the_pool(
    deployed: None, server: Server, capsys: Output
) -> None:
    mail = server[MAIL]
    served = DeploymentUpdate(paused=True, tags=[*mail.tags, STOPPED], work_pool_name=None)
    server.client.update_deployment(mail.id, served)
    assert deploy() == 0
    assert not server[MAIL].paused
    assert server[MAIL].tags == ["tracktor"]
    assert f"{MAIL} (tags, resumed, work pool)" in capsys.readouterr().out


def test_a_deployment_that_the_server_refuses_does_not_keep_the_others(
    no_deployments: None,
    pool: str,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:
    makers = DEPLOYMENTS | {"reconcile": refused}
    monkeypatch.setattr(commands, "build_functions", lambda _modules: makers)
    assert deploy_all() == 2
    assert server.names() == [MAIL, HOURLY]
    assert f"REFUSED    {NIGHTLY}" in capsys.readouterr().out


def refused(shop: Shop) -> RunnerDeployment:
    return reconcile.deployment(shop).model_copy(update={"concurrency_limit": -1})


@pytest.mark.parametrize("command", [["serve"], ["deploy", "--work-pool", "here"]])
def test_without_an_api_nothing_is_served_as_nothing_would_run_by_the_clock(
    command: list[str], capsys: Output
) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith("PREFECT_API_URL is not set, so no schedule would run")


def test_an_api_that_is_down_is_said_before_anything_is_tried(capsys: Output) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/api"
    with temporary_settings(updates={PREFECT_API_URL: url}):
        assert deploy() == 2
    assert "Prefect's API does not answer at http://127.0.0.1" in capsys.readouterr().err
