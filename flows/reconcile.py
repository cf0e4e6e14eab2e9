"""Every night: make Tracktor's manual statuses agree with the shop's own records."""

from prefect.deployments.runner import RunnerDeployment

from flows.shared import daily, deployment_of, dry_run, saved, saved_or_not_set_up
from prefect_tracktor import SettledOrders, StatusFile, StatusQuery, TracktorCredentials
from prefect_tracktor.flows import reconcile_manual_statuses


def deployment() -> RunnerDeployment:
    """The deployment.

    Returns:
        What `serve` and `deploy` take.

    Raises:
        NotSetUp: There is neither a file nor a query of desired statuses.
        ValueError: Another block document is missing; `python -m blocks` makes it.
    """
    try:
        desired = saved(StatusFile)
    except ValueError:
        hint = "TRACKTOR_STATUSES, or TRACKTOR_STATUS_URL and TRACKTOR_STATUS_QUERY,"
        desired = saved_or_not_set_up(StatusQuery, hint)
    return deployment_of(
        reconcile_manual_statuses,
        name="nightly",
        schedule=daily("0 3 * * *"),
        parameters={
            "credentials": saved(TracktorCredentials),
            "desired": desired,
            "settled": saved(SettledOrders),
            "dry_run": dry_run(),
            "max_updates": 1000,
        },
    )
