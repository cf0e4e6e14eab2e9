"""What keeps runs from acting, `dry_run` and `redirect_to`, is lifted by nobody unawares."""

from collections.abc import Callable, Mapping
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore

from flows.deploying.runs import runs_of
from prefect_tracktor.flows.sweep import BRAKES


def keep_brakes(
    deployment: RunnerDeployment,
    existing: DeploymentResponse,
    triggers: Mapping[str, AutomationCore],
    held: Mapping[str, AutomationCore],
) -> bool:
    """Take over the brakes that the server holds, say as somebody set them in the UI.

    Args:
        deployment: What is wished; it is changed.
        existing: What the server holds of it.
        triggers: The deployment's triggers as they are wished, by name; they are changed.
        held: Those that the server holds.

    Returns:
        Whether there is any.
    """
    brakes = _lifted(existing.parameters, by=deployment.parameters)
    deployment.parameters |= brakes
    of_triggers = [_keep_brakes(triggers[name], held[name]) for name in triggers.keys() & held]
    return bool(brakes) or any(of_triggers)


def brake_waiting_runs(
    client: SyncPrefectClient, deployment: RunnerDeployment, existing: DeploymentResponse
) -> dict[str, Callable[[], object]]:
    """What brings a new brake to the runs that wait, as each keeps the parameters of its making.

    Args:
        client: Prefect's API.
        deployment: What is wished.
        existing: What the server holds of it.

    Returns:
        The change in words, with what makes it; nothing where no run waits.
    """
    brakes = _lifted(deployment.parameters, by=existing.parameters)
    if not brakes:
        return {}
    scheduled = runs_of(client, existing.id, StateType.SCHEDULED)
    waiting = [run for run in scheduled if _lifted(brakes, by=run.parameters)]

    def brake() -> None:
        for run in waiting:
            client.update_flow_run(run.id, parameters=run.parameters | brakes)

    return {f"{' '.join(brakes)} of {len(waiting)} waiting runs": brake} if waiting else {}


def _lifted(braked: Mapping[str, Any], *, by: Mapping[str, Any]) -> dict[str, Any]:
    return {name: braked[name] for name in BRAKES if braked.get(name) and not by.get(name)}


def _keep_brakes(wished: AutomationCore, held: AutomationCore) -> bool:
    runs = [action for action in held.actions if isinstance(action, RunDeployment)]
    brakes = {n: value for run in runs for n, value in _lifted(run.parameters or {}, by={}).items()}
    for action in wished.actions:
        if isinstance(action, RunDeployment):
            action.parameters = (action.parameters or {}) | brakes
    return bool(brakes)
