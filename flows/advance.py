"""Every morning: move orders through the shop's own stages by age.

**Touches**: manual statuses of orders in Tracktor.
"""

from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor import StatusStage
from prefect_tracktor.deploy import Shop, daily, deployment_of, for_scanning, required
from prefect_tracktor.flows import advance_custom_statuses

# your stages, youngest first, such as StatusStage("Cutting", after_days=1); in shops.py, a shop may
# have stages of its own
STAGES: list[StatusStage] = []


def deployment(shop: Shop) -> RunnerDeployment:
    """Build the shop's deployment."""
    stages = required([*(shop.stages or STAGES)], "list your stages in flows/advance.py")
    return deployment_of(
        advance_custom_statuses,
        shop,
        name="advance-custom-statuses",
        description=__doc__,
        schedule=daily("0 6 * * *", shop),
        parameters=for_scanning(shop, unfulfilled=True) | {"stages": stages, "max_updates": 1000},
    )
