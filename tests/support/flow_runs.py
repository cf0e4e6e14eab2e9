"""Flow runs on the Prefect server."""

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort


def newest_run() -> FlowRun:
    """Return the flow run that started last on this server."""
    with get_client(sync_client=True) as client:
        # scheduled runs of other tests have no start time, and would be first
        begun = {"start_time": {"is_null_": False}}
        [run] = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(begun),
            sort=FlowRunSort.START_TIME_DESC,
            limit=1,
        )
        return run
