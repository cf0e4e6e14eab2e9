"""Deployments on Prefect's server: compared with the desired ones, and only differences written.

Prefect's own `RunnerDeployment.apply` writes everything each time: a paused deployment or schedule
would run again, a disabled automation would be enabled.
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
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from prefect_tracktor.deploy.builders import AS_IN_FLOWS, SCHEDULE
from prefect_tracktor.deploy.work_pools import Place
from prefect_tracktor.saved_blocks import SHARED

# the tag of a deployment that `serve` paused when it ended, and no person
STOPPED = "not-served"

# the entrypoints of ready-made flows; another one with our tag is the user's own
_READY_MADE = "prefect_tracktor.flows."

_PAGE = 200

_WORDS = {
    "parameter_openapi_schema": "form",
    "enforce_parameter_schema": "form",
    "work_pool_name": "work pool",
    "paused": "resumed",
}

Change = Callable[[], object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Registration:
    """The changes that bring the server's deployment to the desired state."""

    deployment: RunnerDeployment
    place: Place
    existing: DeploymentResponse | None
    changes: Mapping[str, Change] = field(repr=False)

    def __str__(self) -> str:
        """What becomes of it, what changes, and what stays as people set it in Prefect's UI."""
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
        if _paused_by_somebody(self.existing):
            yield "paused"
        elif schedule and not schedule.active:
            yield "schedule paused"

    def carry_out(self) -> UUID:
        """Create or update the deployment, and return its id."""
        if self.existing is None:
            self.deployment.job_variables = dict(self.place.job_variables)
            # given, because Prefect would look for it in git, and store the checkout's address
            version = VersionInfo(type="prefect:simple", version=self.deployment.version or "")
            return self.deployment.apply(  # type: ignore[return-value]  # not in a loop
                work_pool_name=self.place.work_pool or None, version_info=version
            )
        for change in self.changes.values():
            change()
        return self.existing.id


def registration_of(
    client: SyncPrefectClient, deployment: RunnerDeployment, place: Place
) -> Registration:
    """Compare a deployment with the server's; nothing is changed."""
    try:
        existing = client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return Registration(deployment, place, None, {})
    deployment.parameters = _kept_dry_run(existing.parameters) | deployment.parameters
    changes = dict(_field_changes(client, deployment, place, existing))
    changes |= _schedule_changes(client, deployment, existing)
    changes |= _trigger_changes(client, deployment, existing)
    return Registration(deployment, place, existing, changes)


def left_over(
    client: SyncPrefectClient, desired: Collection[str], *, but_of: Collection[str] = ()
) -> Iterator[str]:
    """The names of ready-made deployments on the server that no file in `flows/` makes."""
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[SHARED]))
    for deployment in all_of(client.read_deployments, deployment_filter=ours):
        if not (deployment.entrypoint or "").startswith(_READY_MADE):
            continue
        name = f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
        if name not in desired and not {*but_of} & {*deployment.tags}:
            yield name


def all_of(read: Callable[..., Sequence[T]], **filters: Any) -> Iterator[T]:
    """Read a list of Prefect's API page by page; `read` takes `limit` and `offset`."""
    offset = 0
    while page := read(**filters, limit=_PAGE, offset=offset):
        yield from page
        offset += len(page)


def _field_changes(
    client: SyncPrefectClient,
    deployment: RunnerDeployment,
    place: Place,
    existing: DeploymentResponse,
) -> Iterator[tuple[str, Change]]:
    desired, held = _desired(deployment, place, existing), _held(existing)
    differing = {name: value for name, value in desired.items() if value != held[name]}
    if not differing:
        return
    words = [_in_words(name, value, held[name]) for name, value in differing.items()]
    update = DeploymentUpdate(**differing)
    yield ", ".join(dict.fromkeys(words)), partial(client.update_deployment, existing.id, update)


def _in_words(name: str, desired: Any, held: Any) -> str:
    if name == "parameters":
        differing = (key for key in {**desired, **held} if desired.get(key) != held.get(key))
        return f"parameters {' '.join(sorted(differing))}"
    return _WORDS.get(name, name.replace("_", " "))


def _desired(
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
    return dict(existing) | {
        "tags": sorted(existing.tags),
        "pull_steps": existing.pull_steps or [],
        "concurrency_limit": limit.limit if limit else None,
        "concurrency_options": _options(existing),
    }


def _paused_by_somebody(existing: DeploymentResponse) -> bool:
    return existing.paused and STOPPED not in existing.tags


def _options(deployment: RunnerDeployment | DeploymentResponse) -> Mapping[str, str] | None:
    options = deployment.concurrency_options
    return {"collision_strategy": options.collision_strategy.value} if options else None


def _schedule_changes(
    client: SyncPrefectClient, deployment: RunnerDeployment, existing: DeploymentResponse
) -> dict[str, Change]:
    [*desired] = deployment.schedules or []
    held = _schedule_of(existing)
    if not desired:
        delete = client.delete_deployment_schedule
        return {"no schedule": partial(delete, existing.id, held.id)} if held else {}
    [schedule] = desired
    if held is None:
        new = DeploymentScheduleCreate.model_validate(schedule.model_dump())
        return {"schedule": partial(client.create_deployment_schedules, existing.id, [new])}
    if held.schedule == schedule.schedule:
        return {}
    return {
        "schedule": partial(
            client.update_deployment_schedule,
            existing.id,
            held.id,
            schedule=schedule.schedule,
            slug=SCHEDULE,
            # otherwise the server drops those that were set in the UI
            parameters=held.parameters,
        )
    }


def _schedule_of(existing: DeploymentResponse) -> DeploymentSchedule | None:
    """The schedule from `flows/`; others were added in the UI."""
    return next((held for held in existing.schedules if held.slug == SCHEDULE), None)


def _trigger_changes(
    client: SyncPrefectClient, deployment: RunnerDeployment, existing: DeploymentResponse
) -> Iterator[tuple[str, Change]]:
    for trigger in deployment.triggers:
        trigger.set_deployment_id(existing.id)
    desired = {core.name: core for core in (t.as_automation() for t in deployment.triggers)}
    resource = f"prefect.deployment.{existing.id}"
    held = {
        automation.name: automation
        for automation in client.read_resource_related_automations(resource)
        if automation.description == AS_IN_FLOWS or automation.name in desired
    }
    for name in held.keys() - desired.keys():
        yield f"no trigger {name!r}", partial(client.delete_automation, held[name].id)
    for name, automation in desired.items():
        if name not in held:
            yield f"trigger {name!r}", partial(client.create_automation, automation)
            continue
        for action, before in zip(_runs(automation), _runs(held[name]), strict=False):
            if kept := _kept_dry_run(before.parameters or {}):
                action.parameters = kept | (action.parameters or {})
        if _essence(automation) != _essence(held[name]):
            # one that was disabled in the UI stays disabled
            changed = AutomationCore(
                name=name,
                description=automation.description,
                enabled=held[name].enabled,
                tags=held[name].tags,
                trigger=automation.trigger,
                actions=automation.actions,  # not its owner, which Prefect refuses to change
            )
            yield f"trigger {name!r}", partial(client.update_automation, held[name].id, changed)


def _runs(automation: AutomationCore) -> list[RunDeployment]:
    return [action for action in automation.actions if isinstance(action, RunDeployment)]


def _kept_dry_run(held: Mapping[str, Any]) -> dict[str, Any]:
    """A dry run that was set in the UI stays, unless the file in `flows/` says otherwise."""
    return {"dry_run": True} if held.get("dry_run") else {}


def _essence(automation: AutomationCore) -> dict[str, Any]:
    return automation.model_dump(include={"description", "actions"}) | {
        "trigger": automation.trigger.model_dump(exclude={"id"})
    }
