"""What Prefect's server knows of flow runs."""

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort


def newest_run() -> FlowRun:
    """The run that began last, of all that the tests of this server started."""
    with get_client(sync_client=True) as client:
        # what other tests have scheduled has no start time, and would be first
        begun = {"start_time": {"is_null_": False}}
        [run] = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(begun),
            sort=FlowRunSort.START_TIME_DESC,
            limit=1,
        )
        return run
