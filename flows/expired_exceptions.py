"""Every morning: write to the customers whose parcels' tracking has expired.

Read it, copy it, edit it. The blocks are those that `python -m blocks` makes.
"""

import os

from prefect.blocks.core import Block
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType
from prefect_email import EmailServerCredentials

from blocks.documents import NAME
from prefect_tracktor import (
    EmailTemplate,
    NotificationLedger,
    OrderFile,
    ShopifyOrders,
    TracktorCredentials,
)
from prefect_tracktor.flows import email_expired_exceptions


def orders() -> Block:
    """Where the orders are found: in Shopify, if there is a document for that, or in a file.

    Returns:
        The saved block.

    Raises:
        ValueError: There is neither; `python -m blocks` makes them.
    """
    try:
        return ShopifyOrders.load(NAME)  # type: ignore[return-value]  # not in a loop
    except ValueError:
        return OrderFile.load(NAME)  # type: ignore[return-value]  # ditto


def deployment() -> RunnerDeployment:
    """The deployment; the blocks are stored in it by reference, never their secrets.

    Returns:
        What `serve` and `deploy` take.

    Raises:
        KeyError: `TRACKTOR_SENDER` is not set.
        ValueError: A block document is missing; `python -m blocks` makes it.
    """
    return email_expired_exceptions.to_deployment(  # type: ignore[return-value]  # not in a loop
        name="daily",
        schedule=Cron("0 7 * * *", timezone=os.environ.get("TRACKTOR_TIMEZONE", "UTC")),
        parameters={
            "credentials": TracktorCredentials.load(NAME),
            "orders": orders(),
            "email_server": EmailServerCredentials.load(NAME),
            "template": EmailTemplate.load(NAME),
            "ledger": NotificationLedger.load(NAME),
            "sender": os.environ["TRACKTOR_SENDER"],
            # the first days: True, and look at the table that the run leaves
            "dry_run": os.environ.get("TRACKTOR_DRY_RUN", "").lower() in {"1", "true", "yes"},
        },
        # a run that finds another under way waits for its end
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
        tags=["tracktor"],
        entrypoint_type=EntrypointType.MODULE_PATH,
        # Prefect's server takes a reference to a block without required fields (a mail server) for
        # two things at once and refuses it; the flow itself checks its parameters
        enforce_parameter_schema=False,
    )
