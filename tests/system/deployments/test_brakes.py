"""A dry run or a rehearsal stays one, wherever it was made one, and reaches what waits already."""

from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import State
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore
from prefect.schedules import Cron
from prefect.states import Scheduled

from flows import expired_exceptions
from tests.system.deployments.conftest import Server, deploy_all

MAIL = "E-mail expired exceptions/daily"
ON_EVENT = "Notify status change/on-event"
BRAKES = {"dry_run": True, "redirect_to": "me@your-shop.example"}

Output = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("environment", "no_deployments")


def test_runs_that_wait_already_become_dry_too(
    pool: str, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    only = ["--only", "expired_exceptions"]
    assert deploy_all(*only) == 0
    late: State[None] = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=1))
    create = server.client.create_flow_run_from_deployment
    run = create(server[MAIL].id, parameters={"max_emails": 7}, state=late)
    rehearsal = create(server[MAIL].id, parameters=BRAKES, state=late)
    assert not run.parameters["dry_run"]
    monkeypatch.setenv("TRACKTOR_DRY_RUN", "1")
    assert deploy_all(*only, "--dry-run") == 0
    assert not server.client.read_flow_run(run.id).parameters["dry_run"]
    assert deploy_all(*only) == 0
    assert (
        f"{MAIL} (parameters dry_run, dry-run settings of 1 waiting runs)"
        in capsys.readouterr().out
    )
    braked = server.client.read_flow_run(run.id).parameters
    assert (braked["dry_run"], braked["max_emails"]) == (True, 7)
    assert server.client.read_flow_run(rehearsal.id).parameters == rehearsal.parameters
    # also those that came to wait later, say as they were broken off
    older = create(server[MAIL].id, parameters={"dry_run": False}, state=late)
    assert deploy_all(*only) == 0
    assert f"updated    {MAIL} (dry-run settings of 1 waiting runs)" in capsys.readouterr().out
    assert server.client.read_flow_run(older.id).parameters["dry_run"]


def test_what_people_gave_to_the_schedule_stays_when_its_hour_changes(
    pool: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deploy_all("--only", "expired_exceptions") == 0
    held = server[MAIL]
    server.client.update_deployment_schedule(held.id, held.schedules[0].id, parameters=BRAKES)
    monkeypatch.setattr(expired_exceptions, "daily", lambda _cron, _shop: Cron("0 9 * * *"))
    assert deploy_all("--only", "expired_exceptions") == 0
    [schedule] = server[MAIL].schedules
    assert schedule.schedule.model_dump()["cron"] == "0 9 * * *"
    assert schedule.parameters == BRAKES


@pytest.mark.parametrize(
    ("given", "left"), [({"dry_run": True}, {}), ({"dry_run": False}, {"dry_run": False})]
)
def test_a_schedule_of_dry_runs_goes_live_when_it_is_said(
    pool: str, server: Server, capsys: Output, given: dict[str, bool], left: dict[str, bool]
) -> None:
    assert deploy_all("--only", "expired_exceptions") == 0
    held = server[MAIL]
    server.client.update_deployment_schedule(held.id, held.schedules[0].id, parameters=given)
    capsys.readouterr()
    assert deploy_all("--only", "expired_exceptions") == 0
    assert ("still a dry run or rehearsal" in capsys.readouterr().out) == given["dry_run"]
    assert server[MAIL].schedules[0].parameters == given
    assert deploy_all("--only", "expired_exceptions", "--live") == 0
    assert server[MAIL].schedules[0].parameters == left


def test_no_schedule_goes_before_a_dry_run_that_is_wished_for(
    pool: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deploy_all("--only", "expired_exceptions") == 0
    held = server[MAIL]
    own = {"dry_run": False, "max_emails": 7}
    server.client.update_deployment_schedule(held.id, held.schedules[0].id, parameters=own)
    weekly = CronSchedule(cron="0 12 * * 0")
    peoples = DeploymentScheduleCreate(schedule=weekly, parameters=own, slug="weekly")
    server.client.create_deployment_schedules(held.id, [peoples])
    monkeypatch.setenv("TRACKTOR_DRY_RUN", "1")
    # its hour changes at the same time
    monkeypatch.setattr(expired_exceptions, "daily", lambda _cron, _shop: Cron("0 9 * * *"))
    assert deploy_all("--only", "expired_exceptions") == 0
    assert [made.parameters for made in server[MAIL].schedules] == [{"max_emails": 7}] * 2


def test_what_keeps_a_triggers_runs_from_acting_stays_until_it_is_said_to_go_live(
    pool: str, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("TRACKTOR_NOTIFY", "delivered")
    assert deploy_all("--only", "status_change") == 0
    edited = server.automation_of(ON_EVENT)
    [action] = edited.actions
    assert isinstance(action, RunDeployment)
    given = action.parameters or {}
    action.parameters = given | BRAKES
    kept = AutomationCore.model_fields.keys() - {"owner_resource"}
    fields = {name: getattr(edited, name) for name in kept}
    server.client.update_automation(edited.id, AutomationCore(**fields))
    monkeypatch.setenv("TRACKTOR_NOTIFY", "delivered,in_transit")
    assert deploy_all("--only", "status_change") == 0
    assert "still a dry run or rehearsal: --live lets it act" in capsys.readouterr().out
    assert parameters_of_trigger(server) == given | BRAKES
    assert deploy_all("--only", "status_change", "--live") == 0
    assert parameters_of_trigger(server) == given


def parameters_of_trigger(server: Server) -> object:
    [action] = server.automation_of(ON_EVENT).actions
    assert isinstance(action, RunDeployment)
    return action.parameters
