"""Serving of deployments: Prefect's runner starts their runs in this process."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.states import AwaitingRetry

from prefect_tracktor.deploy.apply import STOPPED, read_all

# The job variable that names the process that serves a deployment. A deployment without a work pool
# has no other use for job variables.
SERVED_BY = "served_by"

# separates the process from its start in that variable
_SINCE = ", since "

# the signal that ends this process may also reach a run, which then reports that it crashed
_SHUTDOWN = timedelta(minutes=1)

_INTERRUPTED = "The process that served it has ended. It starts again when it is served again."


class _RegisteredDeployment(RunnerDeployment):
    """A deployment that the server already has, and that serving does not change."""

    deployment_id: UUID

    async def aapply(self, *_arguments: Any, **_options: Any) -> UUID:
        return self.deployment_id  # the runner applies each deployment before it serves it


class _Runner(Runner):
    """Prefect's runner, which SIGTERM ends in the same way in every version."""

    def handle_sigterm(self, *_arguments: Any, **_options: Any) -> NoReturn:
        sys.exit(0)


def serve_until_stopped(deployments: Mapping[UUID, RunnerDeployment]) -> None:
    """Start the runs of deployments when they are due, until SIGTERM or SIGINT."""
    # a run that waits, such as for a mail server, must not delay another deployment's runs
    limit = sum(deployment.concurrency_limit or 1 for deployment in deployments.values())
    runner = _Runner(pause_on_shutdown=False, limit=limit)
    for deployment_id, deployment in deployments.items():
        runner.add_deployment(
            _RegisteredDeployment(
                name=deployment.name, flow_name=deployment.flow_name, deployment_id=deployment_id
            )
        )
    print(
        "Your deployments are being served and polling for scheduled runs; Ctrl+C ends this.",
        flush=True,
    )
    try:
        asyncio.run(runner.start())
    except KeyboardInterrupt:
        return


def new_claim() -> str:
    """Name this process and its start."""
    return f"{socket.gethostname()}, process {os.getpid()}{_SINCE}{datetime.now(UTC).isoformat()}"


def claim(client: SyncPrefectClient, deployments: Iterable[UUID], claimed: str) -> None:
    """Record on deployments that this process serves them, and print which other process does."""
    others = set()
    for deployment_id in deployments:
        variables = client.read_deployment(deployment_id).job_variables
        others |= {variables[SERVED_BY]} if SERVED_BY in variables else set()
        update = DeploymentUpdate(job_variables=variables | {SERVED_BY: claimed})
        client.update_deployment(deployment_id, update)
    for other in sorted(others):
        print(f"Also served by {other}. If that process still runs, stop it, or restart it after")
        print("this one has ended: a process that ends pauses the deployments that it serves.")


def stop(client: SyncPrefectClient, deployments: Iterable[UUID], claimed: str) -> None:
    """Pause deployments when their process ends, so that no runs pile up."""
    for deployment_id in deployments:
        try:
            _stop(client, deployment_id, claimed)
        except ObjectNotFound:
            continue  # the deployment was deleted, or one of its runs
        except httpx.HTTPError as error:
            print(f"A deployment could not be paused ({type(error).__name__}). Its scheduled runs")
            print("wait until it is served again; interrupted runs still appear as running.")


def _stop(client: SyncPrefectClient, deployment_id: UUID, claimed: str) -> None:
    deployment = client.read_deployment(deployment_id)
    variables = deployment.job_variables
    holder = variables.get(SERVED_BY, claimed)
    taken_over_at = None if holder == claimed else _start_of(holder)
    _reschedule_interrupted(client, deployment, _start_of(claimed), taken_over_at)
    if holder != claimed or deployment.work_pool_name is not None:
        return
    update = DeploymentUpdate(
        job_variables={name: value for name, value in variables.items() if name != SERVED_BY}
    )
    if not deployment.paused:
        update.paused, update.tags = True, [*deployment.tags, STOPPED]
    client.update_deployment(deployment_id, update)


def _reschedule_interrupted(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    served_from: datetime,
    served_until: datetime | None,
) -> None:
    """Schedule the runs again that this process started and that its end interrupts."""
    shutdown = datetime.now(UTC) - _SHUTDOWN
    for run in _unfinished_runs(client, deployment.id):
        started = run.state.timestamp if run.state else None
        if started is None or started < served_from or (served_until and started >= served_until):
            continue
        if run.state_type is not StateType.CRASHED or started >= shutdown:
            client.set_flow_run_state(run.id, AwaitingRetry(message=_INTERRUPTED))
            print(f"interrupted {run.name}: it starts again when {deployment.name} is served again")


def _unfinished_runs(client: SyncPrefectClient, deployment_id: UUID) -> list[FlowRun]:
    """Read a deployment's unfinished and crashed runs, except those of work pools."""
    states = [StateType.RUNNING, StateType.PENDING, StateType.CRASHED]
    unfinished = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
    )
    # all pages at once, because a run that is scheduled again no longer counts for the next page
    runs = read_all(client.read_flow_runs, flow_run_filter=unfinished)
    return [run for run in runs if run.work_pool_name is None]


def _start_of(claim: str) -> datetime:
    return datetime.fromisoformat(claim.rpartition(_SINCE)[2])
