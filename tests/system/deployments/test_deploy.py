"""The command `prefect-tracktor deploy`: the deployments on the server, and repeated use."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pytest
from prefect import flow
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from flows import expired_exceptions, reconcile, status_change, webhooks
from prefect_tracktor import TracktorCredentials
from prefect_tracktor.deploy import Shop, saved
from prefect_tracktor.deploy.apply import STOPPED
from prefect_tracktor.flows import sync_webhooks
from tests.system.deployments.conftest import (
    DEPLOYMENTS,
    Server,
    deploy_all,
    remove_deployments,
)

MAIL = "Email expired exceptions/email-expired-exceptions"
NIGHTLY = "Reconcile manual statuses/reconcile-manual-statuses"
HOURLY = "Sync webhooks/sync-webhooks"
ON_EVENT = "Notify status change/notify-status-change"
TRIGGER = "A parcel reached a status"
FILES = ("expired_exceptions", "reconcile", "webhooks", "status_change")
DRY = {"dry_run": True}

Output = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("environment")


def deploy(*options: str) -> int:
    return deploy_all("--only", "expired_exceptions", *options)


@pytest.fixture
def deployed(no_deployments: None, pool: str, capsys: Output) -> None:
    assert deploy() == 0
    capsys.readouterr()


def test_deploy_registers_enabled_flows_with_the_work_pool(
    no_deployments: None, pool: str, server: Server, capsys: Output
) -> None:
    assert deploy_all() == 0
    assert server.names() == [MAIL, NIGHTLY, HOURLY]
    assert server[MAIL].work_pool_name == pool
    output = capsys.readouterr().out
    assert f"created    {MAIL}" in output
    assert "left out status_change: set TRACKTOR_NOTIFY" in output


def test_deploy_names_a_misspelt_status_and_no_custom_one(
    pool: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("TRACKTOR_NOTIFY", "deliverd,In Transit,Sewing")
    assert deploy("--dry-run") == 0
    output = capsys.readouterr().out
    assert "'deliverd' is no built-in status, and may be a typo: did you mean delivered?" in output
    assert output.count("typo") == 1


def test_a_daily_deployment_runs_in_the_shops_time_zone_one_at_a_time(
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


@dataclass(frozen=True)
class Outcome:
    """The deployments and triggers on the server after a command, and the command's output."""

    made: Mapping[str, DeploymentResponse]
    triggers: Mapping[str, Automation]
    output: str

    def crons(self, name: str) -> set[str]:
        return {one.schedule.model_dump()["cron"] for one in self.made[name].schedules}


def outcome_of(server: Server, *options: str) -> Outcome:
    """Deploy, and read the results."""
    with redirect_stdout(StringIO()) as output:
        assert deploy_all("--only", *FILES, *options) == 0
    resource = f"prefect.deployment.{server[ON_EVENT].id}"
    triggers = server.client.read_resource_related_automations(resource)
    return Outcome(
        {name: server[name] for name in (MAIL, NIGHTLY, HOURLY, ON_EVENT)},
        {trigger.name: trigger for trigger in triggers},
        output.getvalue(),
    )


@pytest.fixture(scope="module")
def edited(blocks: None, pool: str, server: Server) -> None:
    """Deployments that were edited in Prefect's UI."""
    remove_deployments(server.client)
    client = server.client
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRACKTOR_NOTIFY", "delivered")
        made = outcome_of(server).made
    mail, nightly, hourly, on_event = (made[name] for name in (MAIL, NIGHTLY, HOURLY, ON_EVENT))
    few = mail.parameters | {"max_emails": 5}
    client.update_deployment(mail.id, DeploymentUpdate(parameters=few, description="mine"))
    own = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 12 * * 0"))
    client.create_deployment_schedules(mail.id, [own])
    client.update_deployment_schedule(mail.id, mail.schedules[0].id, parameters=DRY)
    dry = nightly.parameters | DRY
    client.update_deployment(nightly.id, DeploymentUpdate(parameters=dry, paused=True))
    for paused in (nightly, hourly):
        client.update_deployment_schedule(paused.id, paused.schedules[0].id, active=False)
    ended = DeploymentUpdate(paused=True, tags=[*on_event.tags, STOPPED], work_pool_name=None)
    client.update_deployment(on_event.id, ended)
    edit_trigger(server)


def edit_trigger(server: Server) -> None:
    """Disable the trigger, make its runs dry runs, and add another trigger."""
    ours = server.automation_of(ON_EVENT)
    own = {"name": "My own", "description": "", "owner_resource": None}
    server.client.create_automation(AutomationCore(**ours.model_dump() | own))
    [action] = ours.actions
    assert isinstance(action, RunDeployment)
    action.parameters = (action.parameters or {}) | DRY
    kept = AutomationCore.model_fields.keys() - {"owner_resource"}
    fields = {name: getattr(ours, name) for name in kept} | {"enabled": False}
    server.client.update_automation(ours.id, AutomationCore(**fields))


@contextmanager
def files_changed() -> Iterator[pytest.MonkeyPatch]:
    """Change schedules in `flows/`, and an event in the settings."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRACKTOR_NOTIFY", "delivered,in_transit")
        for file in (expired_exceptions, reconcile):
            patched.setattr(file, "daily", lambda _cron, _shop: Cron("0 9 * * *"))
        patched.setattr(webhooks, "every", lambda _interval: Cron("0 9 * * *"))
        yield patched


@pytest.fixture(scope="module")
def redeployed(edited: None, server: Server) -> tuple[Outcome, Outcome]:
    """Deployed again with changed files, and once more in a dry run, which changes nothing."""
    with files_changed():
        return outcome_of(server), outcome_of(server, "--dry-run")


@pytest.fixture(scope="module")
def changed(redeployed: tuple[Outcome, Outcome]) -> Outcome:
    return redeployed[0]


@pytest.fixture(scope="module")
def unchanged(redeployed: tuple[Outcome, Outcome]) -> Outcome:
    return redeployed[1]


@pytest.fixture(scope="module")
def revoked(redeployed: tuple[Outcome, Outcome], server: Server) -> Outcome:
    """Deployed again by files without a schedule, a trigger and a dry run."""
    make = reconcile.deployment

    def not_dry(shop: Shop) -> RunnerDeployment:
        made = make(shop)
        made.parameters |= {"dry_run": False}
        return made

    with files_changed() as patched:
        patched.setattr(expired_exceptions, "daily", lambda _cron, _shop: None)
        patched.setattr(reconcile, "deployment", not_dry)
        patched.setattr(status_change, "DeploymentEventTrigger", renamed_trigger)
        return outcome_of(server)


def renamed_trigger(**given: Any) -> DeploymentEventTrigger:
    return DeploymentEventTrigger.model_validate(given | {"name": "Renamed"})


def test_deploying_again_changes_and_names_only_differences(
    changed: Outcome, unchanged: Outcome
) -> None:
    assert f"updated    {MAIL} (description, parameters max_emails, schedule)" in changed.output
    assert changed.made[MAIL].parameters["max_emails"] == 500
    for name in (MAIL, NIGHTLY, HOURLY, ON_EVENT):
        assert f"unchanged  {name}" in unchanged.output


def test_schedules_added_in_the_ui_are_kept(changed: Outcome) -> None:
    assert changed.crons(MAIL) == {"0 9 * * *", "0 12 * * 0"}


@pytest.mark.parametrize(("name", "paused"), [(NIGHTLY, True), (HOURLY, False)])
def test_paused_deployments_and_schedules_stay_paused(
    changed: Outcome, name: str, paused: bool
) -> None:
    assert changed.made[name].paused is paused
    [schedule] = changed.made[name].schedules
    assert not schedule.active
    assert changed.crons(name) == {"0 9 * * *"}
    [line] = [line for line in changed.output.splitlines() if name in line]
    assert line.endswith(f", {'paused' if paused else 'schedule paused'})")


def test_a_dry_run_set_in_the_ui_stays_until_the_file_changes_it(
    changed: Outcome, unchanged: Outcome, revoked: Outcome
) -> None:
    assert changed.made[NIGHTLY].parameters["dry_run"] is True
    assert f"unchanged  {NIGHTLY} (dry_run is on, paused)" in unchanged.output
    assert revoked.made[NIGHTLY].parameters["dry_run"] is False
    assert f"updated    {NIGHTLY} (parameters dry_run, paused)" in revoked.output


def test_a_dry_run_set_on_a_trigger_or_schedule_is_kept(changed: Outcome) -> None:
    [action] = changed.triggers[TRIGGER].actions
    assert isinstance(action, RunDeployment)
    assert (action.parameters or {}).keys() == {"fulfillment_id", "order_id", "status", "dry_run"}
    assert (action.parameters or {}).items() >= DRY.items()
    [ours] = [schedule for schedule in changed.made[MAIL].schedules if schedule.parameters]
    assert ours.parameters == DRY
    assert ours.schedule.model_dump()["cron"] == "0 9 * * *"


def test_a_disabled_trigger_stays_disabled(changed: Outcome) -> None:
    assert not changed.triggers[TRIGGER].enabled
    assert "tracktor.fulfillment.in_transit" in changed.triggers[TRIGGER].model_dump_json()
    [line] = [line for line in changed.output.splitlines() if ON_EVENT in line]
    assert line.endswith(f"trigger {TRIGGER!r})")


def test_a_deployment_paused_by_serve_is_resumed_by_deploy(changed: Outcome, pool: str) -> None:
    made = changed.made[ON_EVENT]
    assert (made.paused, made.tags, made.work_pool_name) == (False, ["tracktor"], pool)
    assert f"{ON_EVENT} (tags, resumed, work pool, " in changed.output


def test_a_removed_trigger_is_deleted_and_one_from_the_ui_is_kept(revoked: Outcome) -> None:
    assert revoked.triggers.keys() == {"My own", "Renamed"}
    assert f"no trigger {TRIGGER!r}" in revoked.output


def test_a_removed_schedule_is_deleted(revoked: Outcome) -> None:
    assert revoked.crons(MAIL) == {"0 12 * * 0"}
    assert f"{MAIL} (description, no schedule)" in revoked.output


def test_deploy_dry_run_prints_the_changes_and_makes_none(
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


def test_a_deployment_without_a_file_is_named_and_kept(
    deployed: None, server: Server, set_files: Callable[..., None], capsys: Output
) -> None:
    set_files(webhooks=webhooks.deployment)
    assert deploy_all("--dry-run") == 0
    assert f"prefect deployment delete '{MAIL}'" in capsys.readouterr().out
    assert server.names() == [MAIL]
    assert deploy_all("--dry-run", "--only", "webhooks") == 0
    assert "left over" not in capsys.readouterr().out


def test_a_users_own_tagged_deployment_is_not_listed_as_left_over(
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


def test_a_plain_prefect_deployment_keeps_one_schedule_when_deployed_twice(
    no_deployments: None,
    pool: str,
    server: Server,
    set_files: Callable[..., None],
    capsys: Output,
) -> None:
    def plain(_shop: Shop) -> Any:
        trigger = DeploymentEventTrigger(name="Mine", expect={"tracktor.order.delivered"})
        return sync_webhooks.to_deployment(
            "mine",
            cron="0 9 * * *",
            triggers=[trigger],
            parameters={"credentials": saved(TracktorCredentials, Shop()), "wanted": []},
            entrypoint_type=EntrypointType.MODULE_PATH,
        )

    set_files(mine=plain)
    assert deploy_all() == 0
    assert deploy_all() == 0
    assert "unchanged  Sync webhooks/mine" in capsys.readouterr().out
    assert len(server["Sync webhooks/mine"].schedules) == 1
    assert server.automation_of("Sync webhooks/mine").name == "Mine"


def test_a_deployment_with_two_schedules_is_refused(
    no_deployments: None,
    pool: str,
    server: Server,
    set_files: Callable[..., None],
    capsys: Output,
) -> None:
    def twice(_shop: Shop) -> Any:
        return sync_webhooks.to_deployment("mine", schedules=[Cron("0 9 * * *"), Cron("0 8 * * *")])

    set_files(mine=twice)
    assert deploy_all() == 2
    assert "flows/mine.py has 2 schedules: keep one" in capsys.readouterr().out
    assert not server.names()


def test_one_refused_deployment_does_not_keep_the_others_from_being_deployed(
    no_deployments: None,
    pool: str,
    server: Server,
    set_files: Callable[..., None],
    capsys: Output,
) -> None:
    set_files(**DEPLOYMENTS | {"reconcile": refused})
    assert deploy_all() == 2
    assert server.names() == [MAIL, HOURLY]
    assert f"REFUSED    {NIGHTLY}" in capsys.readouterr().out


def refused(shop: Shop) -> RunnerDeployment:
    return reconcile.deployment(shop).model_copy(update={"concurrency_limit": -1})
