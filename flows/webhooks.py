"""Every hour: see to it that the account has its webhooks."""

from datetime import timedelta

from prefect.deployments.runner import RunnerDeployment

from flows.shared import deployment_of, dry_run, every, saved, saved_or_not_set_up
from prefect_tracktor import TracktorCredentials, WebhookSubscription
from prefect_tracktor.flows import sync_webhooks


def deployment() -> RunnerDeployment:
    """The deployment.

    Returns:
        What `serve` and `deploy` take.

    Raises:
        NotSetUp: There is no webhook subscription.
        ValueError: A block document is missing; `python -m blocks` makes it.
    """
    return deployment_of(
        sync_webhooks,
        name="hourly",
        schedule=every(timedelta(hours=1)),
        parameters={
            "credentials": saved(TracktorCredentials),
            "wanted": saved_or_not_set_up(WebhookSubscription, "TRACKTOR_WEBHOOK_ADDRESS"),
            "prune": False,
            "dry_run": dry_run(),
        },
    )
