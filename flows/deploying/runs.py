"""The runs of a deployment that are in a certain state."""

from collections.abc import Iterator
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType

_PAGE = 200


def runs_of(client: SyncPrefectClient, deployment_id: UUID, state: StateType) -> Iterator[FlowRun]:
    """Read the runs of a deployment, page by page.

    Args:
        client: Prefect's API.
        deployment_id: The deployment's id.
        state: The state that they are in.

    Yields:
        The runs.
    """
    of_it = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
    in_it = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state])))
    offset = 0
    while page := client.read_flow_runs(
        deployment_filter=of_it, flow_run_filter=in_it, limit=_PAGE, offset=offset
    ):
        yield from page
        offset += len(page)
