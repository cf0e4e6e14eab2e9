"""Every night: set Tracktor's manual statuses from the shop's own records.

**Touches**: manual statuses of orders in Tracktor.
"""

from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor import CompletedOrders, StatusFile, StatusQuery, TracktorCredentials
from prefect_tracktor.deploy import Shop, daily, deployment_of, first_saved, saved
from prefect_tracktor.flows import reconcile_manual_statuses


def deployment(shop: Shop) -> RunnerDeployment:
    """Build the shop's deployment."""
    return deployment_of(
        reconcile_manual_statuses,
        shop,
        name="reconcile-manual-statuses",
        description=__doc__,
        schedule=daily("0 3 * * *", shop),
        parameters={
            "credentials": saved(TracktorCredentials, shop),
            "desired": first_saved(
                shop,
                StatusFile,
                StatusQuery,
                hint="TRACKTOR_STATUSES, or TRACKTOR_STATUS_URL and TRACKTOR_STATUS_QUERY,",
            ),
            "reading": {"completed_orders": saved(CompletedOrders, shop)},
            "max_updates": 1000,
        },
    )
