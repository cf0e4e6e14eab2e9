"""`sync_webhooks`: create the missing webhooks of an account and remove duplicates."""

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.runs.engine import run_job
from prefect_tracktor.runs.sync_webhooks import AccountWebhooks, WebhookJob, WebhookReport
from prefect_tracktor.webhooks.subscriptions import WantedWebhook, WebhookSubscription


@flow(name="Sync webhooks")
def sync_webhooks(
    credentials: TracktorCredentials,
    wanted: list[WantedWebhook] | WebhookSubscription,
    *,
    prune: bool = False,
    dry_run: bool = False,
) -> WebhookReport:
    """Create missing webhooks and remove duplicates; with `prune` also the surplus.

    Webhooks to other hosts than those of the wanted addresses are never changed. The result is
    read back; a second run changes nothing, and two concurrent runs leave no duplicates.

    Args:
        wanted: The topics and addresses that the account should have.
        prune: Also remove other webhooks to the same scheme, host and port as a wanted address. On
            a shared host, such as Prefect Cloud, they may belong to another account: check the plan
            of a dry run first.

    Raises:
        InvalidInput: `wanted` is empty; nothing was changed.
        AuthenticationError: Tracktor refuses the credentials.
        TracktorError: The webhooks cannot be read at first; nothing was changed.

    Example:
        >>> from prefect_tracktor import WantedWebhook
        >>> from prefect_tracktor.flows import sync_webhooks
        >>> address = "https://shop.example/hook"
        >>> wanted = [WantedWebhook(topic="fulfillment/delivered", address=address)]
        >>> report = sync_webhooks(credentials, wanted)
        >>> len(report.created), len(sync_webhooks(credentials, wanted).created)
        (1, 0)
    """
    webhooks = wanted.wanted() if isinstance(wanted, WebhookSubscription) else wanted
    if not webhooks:
        raise InvalidInput("wanted is empty: name at least one webhook; nothing was changed")
    with credentials.get_client() as client:
        job = WebhookJob(client, webhooks, prune=prune, dry_run=dry_run or credentials.read_only)
        return run_job(AccountWebhooks(client), job)
