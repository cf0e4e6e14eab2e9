"""Every morning: move orders through the shop's own stages as they grow older."""

from prefect.deployments.runner import RunnerDeployment

from flows.shared import NotSetUp, daily, deployment_of, for_scanning
from prefect_tracktor import StatusStage
from prefect_tracktor.flows import advance_custom_statuses

# yours, youngest first, such as StatusStage("Cutting", after_days=1)
STAGES: list[StatusStage] = []


def deployment() -> RunnerDeployment:
    """The deployment.

    Returns:
        What `serve` and `deploy` take.

    Raises:
        NotSetUp: `STAGES` is empty.
        ValueError: A block document is missing; `python -m blocks` makes it.
    """
    if not STAGES:
        raise NotSetUp("name your stages in flows/advance.py")
    return deployment_of(
        advance_custom_statuses,
        name="daily",
        schedule=daily("0 6 * * *"),
        parameters=for_scanning() | {"stages": STAGES, "max_updates": 1000},
    )
