"""Every hour: create the account's missing webhooks.

**Touches**: the list of webhooks in Tracktor. No customer and no order.
"""

from datetime import timedelta

from prefect.deployments.runner import RunnerDeployment

from prefect_tracktor import TracktorCredentials, WebhookSubscription
from prefect_tracktor.deploy import Shop, deployment_of, every, first_saved, saved
from prefect_tracktor.flows import sync_webhooks


def deployment(shop: Shop) -> RunnerDeployment:
    """Build the shop's deployment."""
    return deployment_of(
        sync_webhooks,
        shop,
        name="sync-webhooks",
        description=__doc__,
        schedule=every(timedelta(hours=1)),
        parameters={
            "credentials": saved(TracktorCredentials, shop),
            "wanted": first_saved(shop, WebhookSubscription, hint="TRACKTOR_WEBHOOK_ADDRESS"),
            "prune": False,
        },
    )
