"""Every six hours: email customers about deliveries for which no event arrived.

**Touches**: customers, by email. Tracktor is only read.
"""

from datetime import timedelta

from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor import Mailer
from prefect_tracktor.deploy import (
    Shop,
    deployment_of,
    every,
    for_scanning,
    notified_statuses,
    saved,
)
from prefect_tracktor.flows import email_status_changes


def deployment(shop: Shop) -> RunnerDeployment:
    """Build the shop's deployment."""
    statuses = notified_statuses(shop)
    return deployment_of(
        email_status_changes,
        shop,
        name="email-status-changes",
        description=__doc__,
        # each run reads all orders that are not completed: check the limits of your Tracktor plan
        schedule=every(timedelta(hours=6)),
        parameters=for_scanning(shop, delivered="delivered" in statuses)
        | {
            "mailer": saved(Mailer, shop),
            "statuses": statuses,
            "within_hours": 48,
            "max_emails": 500,
        },
    )
