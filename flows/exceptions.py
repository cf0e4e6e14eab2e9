"""Every four hours: emit an event for each parcel with a new exception.

**Touches**: Prefect's event feed, and automations that react to it. No customer is notified.
"""

from datetime import timedelta

from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor import NotificationLedger
from prefect_tracktor.deploy import Shop, deployment_of, every, for_scanning, required, saved
from prefect_tracktor.flows import announce_exceptions


def deployment(shop: Shop) -> RunnerDeployment:
    """Build the shop's deployment."""
    required(shop.announce_exceptions, shop.setting("announce_exceptions", "True"))
    return deployment_of(
        announce_exceptions,
        shop,
        name="announce-exceptions",
        description=__doc__,
        # each run reads all orders that are not completed: check the limits of your Tracktor plan
        schedule=every(timedelta(hours=4)),
        parameters=for_scanning(shop)
        | {"ledger": saved(NotificationLedger, shop), "max_events": 500},
    )
