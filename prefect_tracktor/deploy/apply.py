"""What Prefect's server holds of a deployment, compared with what is wished; only that is changed.

Prefect's own `RunnerDeployment.apply` writes everything each time: a deployment or a schedule that
somebody paused would run again, an automation that was switched off would be on. Here what does not
differ is not sent, and what people pause stays paused.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import DeploymentSchedule, VersionInfo
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from prefect_tracktor.deploy.builders import AS_IN_FLOWS, SCHEDULE
from prefect_tracktor.deploy.dry_run import (
    brake_waiting_runs,
    keep_brakes,
    schedules_at_odds,
    waiting_to_act,
)
from prefect_tracktor.deploy.prefect_api import all_of
from prefect_tracktor.deploy.work_pools import Place
from prefect_tracktor.saved_blocks import SHARED

# on a deployment that was paused because the process that served it has ended, not by a person
STOPPED = "not-served"

# how the entrypoints begin of what was made here; with the tag only, it is a pipeline of the user's
_READY_MADE = "prefect_tracktor.flows."

_WORDS = {
    "parameter_openapi_schema": "form",
    "enforce_parameter_schema": "form",
    "work_pool_name": "work pool",
    "paused": "resumed",
}

Change = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Registration:
    """What has to be done for the server to hold a deployment as it is wished."""

    deployment: RunnerDeployment
    place: Place
    existing: DeploymentResponse | None
    changes: Mapping[str, Change] = field(repr=False)
    brake: Change | None = field(default=None, repr=False)
    braked: bool = False

    @property
    def outcome(self) -> str:
        """Whether it is created, updated or unchanged."""
        if self.existing is None:
            return "created"
        return "updated" if self.changes else "unchanged"

    @property
    def paused(self) -> str:
        """What people have paused, in words; empty if nothing."""
        if self.existing is None:
            return ""
        schedule = _schedule_of(self.existing, adopt=False)
        if _paused_by_somebody(self.existing):
            return "paused"
        return "schedule paused" if schedule and not schedule.active else ""

    def carry_out(self) -> UUID:
        """Create or update the deployment, and return its id."""
        if self.existing is None:
            self.deployment.job_variables = dict(self.place.job_variables)
            # said, as Prefect would look for it in git, with the address that a checkout came from
            version = VersionInfo(type="prefect:simple", version=self.deployment.version or "")
            return self.deployment.apply(  # type: ignore[return-value]  # not in a loop
                work_pool_name=self.place.work_pool or None, version_info=version
            )
        for change in (*self.changes.values(), self.brake):
            if change is not None:
                change()
        return self.existing.id


def registration_of(
    client: SyncPrefectClient, deployment: RunnerDeployment, place: Place, *, live: bool = False
) -> Registration:
    """Compare a deployment with what the server holds; nothing is changed."""
    try:
        existing = client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return Registration(deployment, place, None, {})
    triggers = {core.name: core for core in _automations(deployment, existing.id)}
    held = _triggers_held(client, existing, triggers)
    braked = not live and keep_brakes(deployment, existing, triggers, held)
    changes = dict(_field_changes(client, deployment, place, existing))
    if staying := schedules_at_odds(deployment, existing, live=live):
        words = f"dry-run settings of {len(staying)} schedules"
        changes[words] = _bound(_leave_to_schedules, client, existing.id, staying)
    changes |= _schedule_changes(client, deployment, existing, staying)
    changes |= _trigger_changes(client, triggers, held)
    # last, and once more when it comes to it: no run is made without them any more then
    brake = _bound(brake_waiting_runs, client, existing.id, deployment.parameters)
    if waiting := waiting_to_act(client, existing.id, deployment.parameters):
        changes[f"dry-run settings of {len(waiting)} waiting runs"] = brake
    return Registration(deployment, place, existing, changes, brake, braked=braked)


def left_over(
    client: SyncPrefectClient, wished: Collection[str], *, but_of: Collection[str] = ()
) -> Iterator[str]:
    """The names of ready-made deployments on the server that nobody wishes for any more."""
    ours = (made for made in _tagged(client) if (made.entrypoint or "").startswith(_READY_MADE))
    for deployment in ours:
        name = f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
        if name not in wished and not {*but_of} & {*deployment.tags}:
            yield name


def _field_changes(
    client: SyncPrefectClient,
    deployment: RunnerDeployment,
    place: Place,
    existing: DeploymentResponse,
) -> Iterator[tuple[str, Change]]:
    wished, held = _wished(deployment, place, existing), _held(existing)
    differing = {name: value for name, value in wished.items() if value != held[name]}
    if not differing:
        return
    words = [_in_words(name, value, held[name]) for name, value in differing.items()]
    update = DeploymentUpdate(**differing)
    yield ", ".join(dict.fromkeys(words)), lambda: client.update_deployment(existing.id, update)


def _in_words(name: str, wished: Any, held: Any) -> str:
    if name == "parameters":
        differing = (key for key in {**wished, **held} if wished.get(key) != held.get(key))
        return f"parameters {' '.join(sorted(differing))}"
    return _WORDS.get(name, name.replace("_", " "))


def _wished(
    deployment: RunnerDeployment, place: Place, existing: DeploymentResponse
) -> dict[str, Any]:
    flow: Flow[..., Any] = load_flow_from_entrypoint(str(deployment.entrypoint))
    schema = parameter_schema(flow).model_dump(mode="json", exclude_unset=True)
    same_pool = (existing.work_pool_name or "") == place.work_pool
    return {
        "description": deployment.description,
        "version": deployment.version,
        "tags": sorted(deployment.tags),
        "paused": _paused_by_somebody(existing),
        "parameters": deployment.model_dump(mode="json", include={"parameters"})["parameters"],
        "parameter_openapi_schema": json.loads(json.dumps(schema)),
        "enforce_parameter_schema": deployment.enforce_parameter_schema,
        "entrypoint": deployment.entrypoint,
        "path": None,
        "pull_steps": [],
        "concurrency_limit": deployment.concurrency_limit,
        "concurrency_options": _options(deployment),
        "work_pool_name": place.work_pool or None,
        "job_variables": place.job_variables_beside(existing.job_variables if same_pool else {}),
    }


def _held(existing: DeploymentResponse) -> dict[str, Any]:
    limit = existing.global_concurrency_limit
    return {
        "description": existing.description,
        "version": existing.version,
        "tags": sorted(existing.tags),
        "paused": existing.paused,
        "parameters": existing.parameters,
        "parameter_openapi_schema": existing.parameter_openapi_schema,
        "enforce_parameter_schema": existing.enforce_parameter_schema,
        "entrypoint": existing.entrypoint,
        "path": existing.path,
        "pull_steps": existing.pull_steps or [],
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": _options(existing),
        "work_pool_name": existing.work_pool_name,
        "job_variables": existing.job_variables,
    }


def _paused_by_somebody(existing: DeploymentResponse) -> bool:
    return existing.paused and STOPPED not in existing.tags


def _options(deployment: RunnerDeployment | DeploymentResponse) -> Mapping[str, str] | None:
    options = deployment.concurrency_options
    return {"collision_strategy": options.collision_strategy.value} if options else None


def _schedule_changes(
    client: SyncPrefectClient,
    deployment: RunnerDeployment,
    existing: DeploymentResponse,
    staying: Mapping[UUID, dict[str, Any]],
) -> dict[str, Change]:
    [*wished] = deployment.schedules or []
    held = _schedule_of(existing, adopt=bool(wished))
    if not wished:
        return {"no schedule": _deletion(client, existing, held)} if held else {}
    [schedule] = wished
    if held is None:
        new = DeploymentScheduleCreate.model_validate(schedule.model_dump())
        return {"schedule": lambda: client.create_deployment_schedules(existing.id, [new])}
    if held.schedule == schedule.schedule and held.slug == SCHEDULE:
        return {}
    return {
        "schedule": lambda: client.update_deployment_schedule(
            existing.id,
            held.id,
            schedule=schedule.schedule,
            slug=SCHEDULE,
            # else the server forgets what people gave it
            parameters=staying.get(held.id, held.parameters),
        )
    }


def _leave_to_schedules(
    client: SyncPrefectClient, deployment_id: UUID, staying: Mapping[UUID, dict[str, Any]]
) -> None:
    for schedule_id, parameters in staying.items():
        client.update_deployment_schedule(deployment_id, schedule_id, parameters=parameters)


def _deletion(
    client: SyncPrefectClient, existing: DeploymentResponse, schedule: DeploymentSchedule
) -> Change:
    return lambda: client.delete_deployment_schedule(existing.id, schedule.id)


def _schedule_of(existing: DeploymentResponse, *, adopt: bool) -> DeploymentSchedule | None:
    """The schedule that `flows/` gave; the others are somebody's own."""
    for schedule in existing.schedules:
        if schedule.slug == SCHEDULE:
            return schedule
    # deployments that were made before schedules had a name have one
    nameless = [schedule for schedule in existing.schedules if schedule.slug is None]
    return nameless[0] if adopt and len(nameless) == 1 else None


def _triggers_held(
    client: SyncPrefectClient, existing: DeploymentResponse, wished: Collection[str]
) -> dict[str, Automation]:
    return {
        automation.name: automation
        for automation in client.read_resource_related_automations(_resource(existing.id))
        if automation.description == AS_IN_FLOWS or automation.name in wished
    }


def _trigger_changes(
    client: SyncPrefectClient,
    wished: Mapping[str, AutomationCore],
    held: Mapping[str, Automation],
) -> Iterator[tuple[str, Change]]:
    for name in held.keys() - wished.keys():
        yield f"no trigger {name!r}", _bound(client.delete_automation, held[name].id)
    for name, automation in wished.items():
        if name not in held:
            yield f"trigger {name!r}", _bound(client.create_automation, automation)
        elif _essence(automation) != _essence(held[name]):
            kept = AutomationCore(
                name=name,
                description=automation.description,
                enabled=held[name].enabled,  # whoever switched it off finds it off
                tags=held[name].tags,
                trigger=automation.trigger,
                actions=automation.actions,
            )
            yield f"trigger {name!r}", _bound(client.update_automation, held[name].id, kept)


def _automations(deployment: RunnerDeployment, deployment_id: UUID) -> Iterator[AutomationCore]:
    for trigger in deployment.triggers:
        trigger.set_deployment_id(deployment_id)
        yield trigger.as_automation()


def _resource(deployment_id: UUID) -> str:
    return f"prefect.deployment.{deployment_id}"


def _essence(automation: AutomationCore) -> dict[str, Any]:
    return automation.model_dump(include={"description", "actions"}) | {
        "trigger": automation.trigger.model_dump(exclude={"id"})
    }


def _bound(call: Callable[..., object], *arguments: object) -> Change:
    return lambda: call(*arguments)


def _tagged(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[SHARED]))
    return all_of(client.read_deployments, deployment_filter=ours)
