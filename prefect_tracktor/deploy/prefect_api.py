"""What the server holds, read page by page to the end."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
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

T = TypeVar("T")

_PAGE = 200


def all_of(read: Callable[..., Sequence[T]], **filters: Any) -> Iterator[T]:
    """Read a list of Prefect's API page by page; `read` takes `limit` and `offset`."""
    offset = 0
    while page := read(**filters, limit=_PAGE, offset=offset):
        yield from page
        offset += len(page)


def runs_of(client: SyncPrefectClient, deployment_id: UUID, state: StateType) -> Iterator[FlowRun]:
    """Read the runs of a deployment that are in a certain state."""
    of_it = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
    in_it = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state])))
    return all_of(client.read_flow_runs, deployment_filter=of_it, flow_run_filter=in_it)
