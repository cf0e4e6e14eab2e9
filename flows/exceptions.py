"""Every four hours: emit an event for each parcel that has newly got into trouble."""

from datetime import timedelta

from prefect.deployments.runner import RunnerDeployment

from flows.shared import NotSetUp, deployment_of, every, for_scanning, saved, switch
from prefect_tracktor import NotificationLedger
from prefect_tracktor.flows import announce_exceptions


def deployment() -> RunnerDeployment:
    """The deployment.

    Returns:
        What `serve` and `deploy` take.

    Raises:
        NotSetUp: `TRACKTOR_ANNOUNCE_EXCEPTIONS` is not set.
        ValueError: A block document is missing; `python -m blocks` makes it.
    """
    if not switch("TRACKTOR_ANNOUNCE_EXCEPTIONS"):
        raise NotSetUp("set TRACKTOR_ANNOUNCE_EXCEPTIONS=1")
    return deployment_of(
        announce_exceptions,
        name="every-four-hours",
        # each run looks up every order that is not settled: mind what your plan counts
        schedule=every(timedelta(hours=4)),
        parameters=for_scanning() | {"ledger": saved(NotificationLedger), "max_events": 500},
    )
