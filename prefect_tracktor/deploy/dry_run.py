"""What keeps runs from acting, `dry_run` and `redirect_to`, is lifted by nobody unawares."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore

from prefect_tracktor.deploy.prefect_api import runs_of
from prefect_tracktor.flows.sweep_shops import BRAKES


def keep_brakes(
    deployment: RunnerDeployment,
    existing: DeploymentResponse,
    triggers: Mapping[str, AutomationCore],
    held: Mapping[str, AutomationCore],
) -> bool:
    """Take over the brakes that the server holds, and tell whether there is any."""
    brakes = _lifted(existing.parameters, by=deployment.parameters)
    deployment.parameters |= brakes
    of_triggers = [_keep_brakes(triggers[name], held[name]) for name in triggers.keys() & held]
    of_schedules = [_lifted(schedule.parameters, by={}) for schedule in existing.schedules]
    return bool(brakes) or any(of_triggers) or any(of_schedules)


def schedules_at_odds(
    deployment: RunnerDeployment, existing: DeploymentResponse, *, live: bool
) -> dict[UUID, dict[str, Any]]:
    """The parameters that may stay, by the ids of the schedules whose own ones would go first."""
    staying = {
        schedule.id: {
            name: value
            for name, value in schedule.parameters.items()
            if name not in BRAKES or not (live if value else deployment.parameters.get(name))
        }
        for schedule in existing.schedules
    }
    return {s.id: staying[s.id] for s in existing.schedules if staying[s.id] != s.parameters}


def waiting_to_act(
    client: SyncPrefectClient, deployment_id: UUID, parameters: Mapping[str, Any]
) -> list[FlowRun]:
    """The runs that wait and lack a brake of the deployment's; each keeps those of its making."""
    if not _lifted(parameters, by={}):
        return []
    scheduled = runs_of(client, deployment_id, StateType.SCHEDULED)
    return [run for run in scheduled if _lifted(parameters, by=run.parameters)]


def brake_waiting_runs(
    client: SyncPrefectClient, deployment_id: UUID, parameters: Mapping[str, Any]
) -> None:
    """Have the runs that wait brake as the deployment does."""
    for run in waiting_to_act(client, deployment_id, parameters):
        braked = run.parameters | _lifted(parameters, by=run.parameters)
        try:
            client.update_flow_run(run.id, parameters=braked)
        except httpx.HTTPStatusError as refusal:
            if refusal.response.status_code != HTTPStatus.NOT_FOUND:
                raise


def _lifted(braked: Mapping[str, Any], *, by: Mapping[str, Any]) -> dict[str, Any]:
    return {name: braked[name] for name in BRAKES if braked.get(name) and not by.get(name)}


def _keep_brakes(wished: AutomationCore, held: AutomationCore) -> bool:
    runs = [action for action in held.actions if isinstance(action, RunDeployment)]
    brakes = {n: value for run in runs for n, value in _lifted(run.parameters or {}, by={}).items()}
    for action in wished.actions:
        if isinstance(action, RunDeployment):
            action.parameters = (action.parameters or {}) | brakes
    return bool(brakes)
