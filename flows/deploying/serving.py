"""Serving what is registered: Prefect's runner finds the runs of a deployment and starts them."""

import os
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect import serve
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.deployments.runner import RunnerDeployment

from flows.deploying.registration import STOPPED

# the job variable that says which process serves a deployment; without a work pool nothing else
# reads job variables
SERVED_BY = "served_by"


class AsRegistered(RunnerDeployment):
    """A deployment that the server holds already: being served changes nothing about it.

    Prefect's `serve` applies what it is given, and with that takes back every pause.

    Attributes:
        deployment_id: Its id.
    """

    deployment_id: UUID

    async def aapply(self, *_arguments: Any, **_options: Any) -> UUID:
        """What the runner asks for before it serves.

        Returns:
            The id.
        """
        return self.deployment_id


def serve_registered(registered: Mapping[UUID, RunnerDeployment]) -> None:
    """Serve deployments until the process is told to stop; nothing about them is changed.

    Args:
        registered: The deployments, by the id that the server gave them.
    """
    serve(
        *(
            AsRegistered(name=made.name, flow_name=made.flow_name, deployment_id=deployment_id)
            for deployment_id, made in registered.items()
        ),
        pause_on_shutdown=False,
        # a run that waits, say for a mail server, holds up no other deployment's
        limit=sum(made.concurrency_limit or 1 for made in registered.values()),
    )


def claim(client: SyncPrefectClient, deployments: Iterable[UUID]) -> str:
    """Note on deployments that this process serves them from now on.

    Args:
        client: Prefect's API.
        deployments: Their ids.

    Returns:
        What was noted, for `stop`.
    """
    me = f"{socket.gethostname()}, process {os.getpid()}, since {datetime.now(UTC).isoformat()}"
    for deployment_id in deployments:
        noted = client.read_deployment(deployment_id).job_variables | {SERVED_BY: me}
        client.update_deployment(deployment_id, DeploymentUpdate(job_variables=noted))
    return me


def stop(client: SyncPrefectClient, deployments: Iterable[UUID], claimed: str) -> None:
    """Pause deployments whose process ends, so that no runs pile up; those paused already stay so.

    Left alone are those that somebody else runs by now: a process that was started to take over, or
    the workers of a work pool.

    Args:
        client: Prefect's API.
        deployments: Their ids.
        claimed: What was noted on them when they were served.
    """
    for deployment_id in deployments:
        deployment = client.read_deployment(deployment_id)
        ours = deployment.job_variables.get(SERVED_BY) == claimed
        if ours and not deployment.paused and deployment.work_pool_name is None:
            tags = [*deployment.tags, STOPPED]
            client.update_deployment(deployment_id, DeploymentUpdate(paused=True, tags=tags))
