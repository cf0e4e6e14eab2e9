"""The deployment of this run, if it has one."""

from prefect.context import FlowRunContext
from prefect.runtime import deployment


def deployment_id() -> str | None:
    """Return its id, without a request to Prefect's server where there is none."""
    return deployment.id if _may_have_one() else None


def deployment_name() -> str:
    """Return its name, or an empty string."""
    return (deployment.name or "") if _may_have_one() else ""


def _may_have_one() -> bool:
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    # a run within another is one of that one's deployment
    return run is None or bool(run.deployment_id or run.parent_task_run_id)
