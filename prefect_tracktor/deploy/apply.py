"""Deployments on Prefect's server: comparison with the desired ones, and updates of differences.

Prefect's own `RunnerDeployment.apply` writes all fields each time: it would resume a paused
deployment or schedule, and enable a disabled automation.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import DeploymentSchedule, VersionInfo
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore
from prefect.events.schemas.deployment_triggers import BaseDeploymentTrigger
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from prefect_tracktor.deploy.work_pools import Infrastructure
from prefect_tracktor.saved_blocks import SHARED

# the tag of a deployment that `serve` paused when it ended; one without it was paused by a user
STOPPED = "not-served"

# the start of a ready-made flow's entrypoint; other deployments with our tag are the user's own
_READY_MADE = "prefect_tracktor.flows."

# mark the schedule and the triggers that a file in `flows/` defines; users may add others in the UI
_SCHEDULE = "as-in-flows"
_AS_IN_FLOWS = "Defined in the deployment's file in flows/. Edit it there."

_PAGE_SIZE = 200

_LABELS = {
    "parameter_openapi_schema": "form",
    "enforce_parameter_schema": "form",
    "work_pool_name": "work pool",
    "paused": "resumed",
}

Change = Callable[[], object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Registration:
    """A desired deployment, the server's present one, and the changes from that to the desired."""

    deployment: RunnerDeployment
    infrastructure: Infrastructure
    existing: DeploymentResponse | None
    changes: Mapping[str, Change] = field(repr=False)

    def __str__(self) -> str:
        """The outcome, the changes, and the settings from Prefect's UI that stay."""
        updated = "updated" if self.changes else "unchanged"
        outcome = "created" if self.existing is None else updated
        remarks = ", ".join(self._remarks())
        return f"{outcome:10} {self.deployment.full_name}" + (f" ({remarks})" if remarks else "")

    def _remarks(self) -> Iterator[str]:
        yield from self.changes
        if self.deployment.parameters.get("dry_run"):
            yield "dry_run is on"
        if self.existing is None:
            return
        schedule = _schedule_of(self.existing)
        if _paused_by_user(self.existing):
            yield "paused"
        elif schedule and not schedule.active:
            yield "schedule paused"

    def apply(self) -> UUID:
        if self.existing is None:
            self.deployment.job_variables = dict(self.infrastructure.job_variables)
            # without it, Prefect would look for a version in git and store the checkout's address
            version = VersionInfo(type="prefect:simple", version=self.deployment.version or "")
            return self.deployment.apply(  # type: ignore[return-value]  # not in a loop
                work_pool_name=self.infrastructure.work_pool or None, version_info=version
            )
        for change in self.changes.values():
            change()
        return self.existing.id


def mark(deployment: RunnerDeployment) -> None:
    """Mark the schedule and the triggers as defined in `flows/`."""
    for schedule in deployment.schedules or ():
        schedule.slug = _SCHEDULE
    for trigger in deployment.triggers:
        if isinstance(trigger, BaseDeploymentTrigger):
            trigger.description = _AS_IN_FLOWS


def compare(
    client: SyncPrefectClient, deployment: RunnerDeployment, infrastructure: Infrastructure
) -> Registration:
    """Compare a deployment with the server's, and change nothing there."""
    try:
        existing = client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return Registration(deployment, infrastructure, None, {})
    deployment.parameters = _kept_dry_run(existing.parameters) | deployment.parameters
    changes = dict(_field_changes(client, deployment, infrastructure, existing))
    changes |= _schedule_changes(client, deployment, existing)
    changes |= _trigger_changes(client, deployment, existing)
    return Registration(deployment, infrastructure, existing, changes)


def left_over(
    client: SyncPrefectClient, desired: Collection[str], *, ignored_tags: Collection[str] = ()
) -> Iterator[str]:
    """Find the names of ready-made deployments on the server that are not among the desired."""
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[SHARED]))
    for deployment in read_all(client.read_deployments, deployment_filter=ours):
        if not (deployment.entrypoint or "").startswith(_READY_MADE):
            continue
        name = f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
        if name not in desired and not {*ignored_tags} & {*deployment.tags}:
            yield name


def read_all(read: Callable[..., Sequence[T]], **filters: Any) -> Iterator[T]:
    """Read all pages of a list in Prefect's API; `read` takes `limit` and `offset`."""
    offset = 0
    while page := read(**filters, limit=_PAGE_SIZE, offset=offset):
        yield from page
        offset += len(page)


def _field_changes(
    client: SyncPrefectClient,
    deployment: RunnerDeployment,
    infrastructure: Infrastructure,
    existing: DeploymentResponse,
) -> Iterator[tuple[str, Change]]:
    desired = _desired(deployment, infrastructure, existing)
    current = _current(existing)
    differing = {name: value for name, value in desired.items() if value != current[name]}
    if differing:
        labels = [_label(name, value, current[name]) for name, value in differing.items()]
        update = DeploymentUpdate(**differing)
        change = partial(client.update_deployment, existing.id, update)
        yield ", ".join(dict.fromkeys(labels)), change


def _label(name: str, desired: Any, current: Any) -> str:
    if name == "parameters":
        names = {**desired, **current}
        differing = (key for key in names if desired.get(key) != current.get(key))
        return f"parameters {' '.join(sorted(differing))}"
    return _LABELS.get(name, name.replace("_", " "))


def _desired(
    deployment: RunnerDeployment, infrastructure: Infrastructure, existing: DeploymentResponse
) -> dict[str, Any]:
    flow: Flow[..., Any] = load_flow_from_entrypoint(str(deployment.entrypoint))
    schema = parameter_schema(flow).model_dump(mode="json", exclude_unset=True)
    same_pool = (existing.work_pool_name or "") == infrastructure.work_pool
    job_variables = existing.job_variables if same_pool else {}
    return {
        "description": deployment.description,
        "version": deployment.version,
        "tags": sorted(deployment.tags),
        "paused": _paused_by_user(existing),
        "parameters": deployment.model_dump(mode="json", include={"parameters"})["parameters"],
        "parameter_openapi_schema": json.loads(json.dumps(schema)),
        "enforce_parameter_schema": deployment.enforce_parameter_schema,
        "entrypoint": deployment.entrypoint,
        "path": None,
        "pull_steps": [],
        "concurrency_limit": deployment.concurrency_limit,
        "concurrency_options": _options(deployment),
        "work_pool_name": infrastructure.work_pool or None,
        "job_variables": infrastructure.merged_job_variables(job_variables),
    }


def _current(existing: DeploymentResponse) -> dict[str, Any]:
    limit = existing.global_concurrency_limit
    return dict(existing) | {
        "tags": sorted(existing.tags),
        "pull_steps": existing.pull_steps or [],
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": _options(existing),
    }


def _paused_by_user(existing: DeploymentResponse) -> bool:
    return existing.paused and STOPPED not in existing.tags


def _options(deployment: RunnerDeployment | DeploymentResponse) -> Mapping[str, str] | None:
    options = deployment.concurrency_options
    return {"collision_strategy": options.collision_strategy.value} if options else None


def _schedule_changes(
    client: SyncPrefectClient, deployment: RunnerDeployment, existing: DeploymentResponse
) -> dict[str, Change]:
    current = _schedule_of(existing)
    if not deployment.schedules:
        delete = client.delete_deployment_schedule
        return {"no schedule": partial(delete, existing.id, current.id)} if current else {}
    [desired] = deployment.schedules
    if current is None:
        new = DeploymentScheduleCreate.model_validate(desired.model_dump())
        return {"schedule": partial(client.create_deployment_schedules, existing.id, [new])}
    if current.schedule == desired.schedule:
        return {}
    return {
        "schedule": partial(
            client.update_deployment_schedule,
            existing.id,
            current.id,
            schedule=desired.schedule,
            slug=_SCHEDULE,
            # without them, the server drops those that were set in the UI
            parameters=current.parameters,
        )
    }


def _schedule_of(existing: DeploymentResponse) -> DeploymentSchedule | None:
    """Find the schedule from `flows/`; others were added in the UI."""
    return next((schedule for schedule in existing.schedules if schedule.slug == _SCHEDULE), None)


def _trigger_changes(
    client: SyncPrefectClient, deployment: RunnerDeployment, existing: DeploymentResponse
) -> Iterator[tuple[str, Change]]:
    for trigger in deployment.triggers:
        trigger.set_deployment_id(existing.id)
    automations = (trigger.as_automation() for trigger in deployment.triggers)
    desired = {automation.name: automation for automation in automations}
    resource = f"prefect.deployment.{existing.id}"
    current = {
        automation.name: automation
        for automation in client.read_resource_related_automations(resource)
        if automation.description == _AS_IN_FLOWS or automation.name in desired
    }
    for name in current.keys() - desired.keys():
        yield f"no trigger {name!r}", partial(client.delete_automation, current[name].id)
    for name, automation in desired.items():
        if name not in current:
            yield f"trigger {name!r}", partial(client.create_automation, automation)
            continue
        for new, old in zip(_run_actions(automation), _run_actions(current[name]), strict=False):
            if dry_run := _kept_dry_run(old.parameters or {}):
                new.parameters = dry_run | (new.parameters or {})
        if _comparable(automation) != _comparable(current[name]):
            update = AutomationCore(
                name=name,
                description=automation.description,
                # an automation that was disabled in the UI stays disabled
                enabled=current[name].enabled,
                tags=current[name].tags,
                trigger=automation.trigger,
                actions=automation.actions,  # without the owner, which Prefect refuses to change
            )
            yield f"trigger {name!r}", partial(client.update_automation, current[name].id, update)


def _run_actions(automation: AutomationCore) -> list[RunDeployment]:
    return [action for action in automation.actions if isinstance(action, RunDeployment)]


def _kept_dry_run(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Keep a dry run that was set in the UI, unless the file in `flows/` says otherwise."""
    return {"dry_run": True} if parameters.get("dry_run") else {}


def _comparable(automation: AutomationCore) -> dict[str, Any]:
    return automation.model_dump(include={"description", "actions"}) | {
        "trigger": automation.trigger.model_dump(exclude={"id"})
    }
