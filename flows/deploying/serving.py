"""Serving what is registered: Prefect's runner finds the runs of a deployment and starts them."""

from typing import Any
from uuid import UUID

from prefect.deployments.runner import RunnerDeployment


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
