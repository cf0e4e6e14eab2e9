"""Every six hours: write to the customers whose parcels arrived lately, if no event told of it."""

from datetime import timedelta

from prefect.deployments.runner import RunnerDeployment

from flows.shared import (
    NotSetUp,
    deployment_of,
    every,
    for_scanning,
    for_writing_to_customers,
    orders,
)
from flows.status_change import statuses
from prefect_tracktor import ShopifyOrders
from prefect_tracktor.flows import email_status_changes


def deployment() -> RunnerDeployment:
    """The deployment.

    Returns:
        What `serve` and `deploy` take.

    Raises:
        NotSetUp: `TRACKTOR_NOTIFY` names no status, or Shopify's orders leave out what is wanted.
        KeyError: `TRACKTOR_SENDER` is not set.
        ValueError: A block document is missing; `python -m blocks` makes it.
    """
    source = orders()
    leaves_out = isinstance(source, ShopifyOrders) and not source.include_delivered
    if leaves_out and "delivered" in statuses():
        raise NotSetUp("switch on 'Include delivered orders' in the document of ShopifyOrders")
    return deployment_of(
        email_status_changes,
        name="every-six-hours",
        # each run looks up every order that is not settled: mind what your plan counts
        schedule=every(timedelta(hours=6)),
        parameters=for_scanning()
        | for_writing_to_customers()
        | {"statuses": statuses(), "within_hours": 48, "max_emails": 500},
    )
