"""Serving what is registered: Prefect's runner finds the runs of a deployment and starts them."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.states import AwaitingRetry

from prefect_tracktor.deploy.apply import STOPPED, all_of

# the job variable that says which process serves a deployment; without a work pool nothing else
# reads job variables
SERVED_BY = "served_by"

# between who serves and the time since when
_SINCE = ", since "

# a run that the same signal reached may report itself crashed before Prefect's runner ends it
_ENDING = timedelta(minutes=1)

_BROKEN_OFF = "The process that served it has ended; it begins again when it is served again."


class AsRegistered(RunnerDeployment):
    """A deployment that the server holds already: being served changes nothing about it."""

    deployment_id: UUID

    async def aapply(self, *_arguments: Any, **_options: Any) -> UUID:
        """What the runner asks for before it serves."""
        return self.deployment_id


class _Runner(Runner):
    """Prefect's runner, ended in the same way by every version."""

    def handle_sigterm(self, *_arguments: Any, **_options: Any) -> NoReturn:
        sys.exit(0)


def serve(*deployments: RunnerDeployment, limit: int) -> None:
    """Run what is due of the deployments until SIGTERM or SIGINT."""
    runner = _Runner(pause_on_shutdown=False, limit=limit)
    for deployment in deployments:
        runner.add_deployment(deployment)
    print(
        "Your deployments are being served and polling for scheduled runs; Ctrl+C ends this.",
        flush=True,
    )
    try:
        asyncio.run(runner.start())
    except KeyboardInterrupt:
        return


def serve_registered(registered: Mapping[UUID, RunnerDeployment]) -> None:
    """Serve deployments until the process is told to stop; nothing about them is changed."""
    serve(
        *(
            AsRegistered(name=made.name, flow_name=made.flow_name, deployment_id=deployment_id)
            for deployment_id, made in registered.items()
        ),
        # a run that waits, say for a mail server, holds up no other deployment's
        limit=sum(made.concurrency_limit or 1 for made in registered.values()),
    )


def claim(client: SyncPrefectClient, deployments: Iterable[UUID]) -> str:
    """Note on deployments that this process serves them, and say who else does."""
    me = f"{socket.gethostname()}, process {os.getpid()}{_SINCE}{datetime.now(UTC).isoformat()}"
    others = set()
    for deployment_id in deployments:
        noted = client.read_deployment(deployment_id).job_variables
        others |= {noted[SERVED_BY]} if SERVED_BY in noted else set()
        update = DeploymentUpdate(job_variables=noted | {SERVED_BY: me})
        client.update_deployment(deployment_id, update)
    for other in sorted(others):
        print(f"Also served by {other}. If that still runs, stop it, or start it again after this")
        print("process has ended: at its end this one pauses what it serves.")
    return me


def stop(client: SyncPrefectClient, deployments: Iterable[UUID], claimed: str) -> None:
    """Pause deployments whose process ends, so that no runs pile up."""
    for deployment_id in deployments:
        try:
            _stop(client, deployment_id, claimed)
        except ObjectNotFound:
            continue  # somebody deleted it, or a run of it
        except httpx.HTTPError as error:
            print(f"A deployment could not be paused ({type(error).__name__}): its scheduled runs")
            print(
                "wait, and start when it is served again; what was under way stays as if it were."
            )


def _stop(client: SyncPrefectClient, deployment_id: UUID, claimed: str) -> None:
    deployment = client.read_deployment(deployment_id)
    noted = deployment.job_variables
    holder = noted.get(SERVED_BY, claimed)
    taken_over = None if holder == claimed else _since(holder)
    _break_off(client, deployment, _since(claimed), taken_over)
    if holder != claimed or deployment.work_pool_name is not None:
        return
    released = {name: value for name, value in noted.items() if name != SERVED_BY}
    update = DeploymentUpdate(job_variables=released)
    if not deployment.paused:
        tags = [*deployment.tags, STOPPED]
        update = DeploymentUpdate(job_variables=released, paused=True, tags=tags)
    client.update_deployment(deployment_id, update)


def _break_off(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    begun: datetime,
    taken_over: datetime | None,
) -> None:
    """Have the runs wait that were started while this process was the one that served."""
    ending = datetime.now(UTC) - _ENDING
    for run in _under_way(client, deployment.id):
        started = run.state.timestamp if run.state else None
        if started is None or started < begun or (taken_over and started >= taken_over):
            continue
        now = client.read_flow_run(run.id).state
        if now is None:
            continue
        crashed = now.is_crashed() and now.timestamp >= ending
        if now.is_running() or now.is_pending() or crashed:
            client.set_flow_run_state(run.id, AwaitingRetry(message=_BROKEN_OFF))
            print(f"broken off {run.name}: it begins again when {deployment.name} is served again")


def _under_way(client: SyncPrefectClient, deployment_id: UUID) -> Iterator[FlowRun]:
    """The runs of a deployment that this machine's runner may have started."""
    of_it = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
    for state in (StateType.RUNNING, StateType.PENDING, StateType.CRASHED):
        in_it = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state])))
        for run in all_of(client.read_flow_runs, deployment_filter=of_it, flow_run_filter=in_it):
            if run.work_pool_name is None:
                yield run


def _since(note: str) -> datetime:
    return datetime.fromisoformat(note.rpartition(_SINCE)[2])
