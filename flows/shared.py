"""What the deployments have in common: where orders are found, who writes, how runs are limited."""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.schedules import Cron, Interval, Schedule
from prefect.types.entrypoint import EntrypointType
from prefect_email import EmailServerCredentials

from blocks.documents import NAME
from prefect_tracktor import (
    InvalidInput,
    NotificationLedger,
    OrderFile,
    SettledOrders,
    ShopifyOrders,
    TracktorCredentials,
)
from prefect_tracktor.sources.cells import flag_of


class Unusable(Exception):
    """A setting or a block that cannot be right; nothing is served before it is mended."""


class NotSetUp(Exception):
    """A deployment that has to be wished for, and was not; the message says how."""


# a run that finds another under way waits for its end
_ONE_AT_A_TIME = ConcurrencyLimitConfig(
    limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
)


def saved(block: type[Block]) -> Block:
    """The document of a block that `python -m blocks` made; stored by reference in a deployment.

    Args:
        block: The block's class.

    Returns:
        The saved block.

    Raises:
        ValueError: It was not made.
        Unusable: It cannot be right, say as it was edited.
    """
    try:
        return block.load(NAME)  # type: ignore[return-value]  # not in a loop
    except RuntimeError:
        raise Unusable(
            f"the block {block.get_block_type_slug()}/{NAME} holds something that cannot be right;"
            " mend it in Prefect's UI, or delete it and run python -m blocks"
        ) from None


def saved_or_not_set_up(block: type[Block], hint: str) -> Block:
    """The document of a block with which a deployment is wished for.

    Args:
        block: The block's class.
        hint: The variable from which `python -m blocks` makes it.

    Returns:
        The saved block.

    Raises:
        NotSetUp: It was not made.
    """
    try:
        return saved(block)
    except ValueError:
        raise NotSetUp(f"set {hint} and run python -m blocks") from None


def orders() -> Block:
    """Where the orders are found: in Shopify, if there is a document for that, or in a file.

    Returns:
        The saved block.

    Raises:
        ValueError: There is neither; `python -m blocks` makes them.
    """
    try:
        return saved(ShopifyOrders)
    except ValueError:
        return saved(OrderFile)


def for_scanning() -> dict[str, Any]:
    """The parameters of all flows that look through the shop's orders."""
    return {
        "credentials": saved(TracktorCredentials),
        "orders": orders(),
        "settled": saved(SettledOrders),
        "dry_run": dry_run(),
    }


def for_writing_to_customers() -> dict[str, Any]:
    """The parameters of all flows that write to customers.

    Raises:
        KeyError: `TRACKTOR_SENDER` is not set.
    """
    return {
        "email_server": saved(EmailServerCredentials),
        "ledger": saved(NotificationLedger),
        "sender": os.environ["TRACKTOR_SENDER"],
    }


def dry_run() -> bool:
    """The first days: True, and look at the tables that the runs leave."""
    return switch("TRACKTOR_DRY_RUN")


def switch(name: str) -> bool:
    """A variable that is on or off.

    Args:
        name: The variable; off if it is not set.

    Returns:
        Whether it is on.

    Raises:
        Unusable: It is neither; nothing is guessed.
    """
    try:
        return bool(flag_of(os.environ.get(name)))
    except InvalidInput as problem:
        raise Unusable(f"{name}: {problem}") from None


def daily(cron: str) -> Schedule:
    """A schedule in the shop's time zone, `TRACKTOR_TIMEZONE`."""
    return Cron(cron, timezone=os.environ.get("TRACKTOR_TIMEZONE", "UTC"))


def every(interval: timedelta) -> Schedule:
    """A schedule at equal intervals."""
    return Interval(interval)


def deployment_of(
    flow: Flow[Any, Any],
    *,
    name: str,
    parameters: Mapping[str, Any],
    schedule: Schedule | None = None,
    triggers: Sequence[DeploymentEventTrigger] = (),
    one_at_a_time: bool = True,
) -> RunnerDeployment:
    """A deployment; blocks are stored in it by reference, never their secrets.

    Args:
        flow: The ready-made flow.
        name: The deployment's name.
        parameters: The flow's parameters.
        schedule: When it runs by itself.
        triggers: Which events it runs for.
        one_at_a_time: Whether a run that finds another under way waits for its end.

    Returns:
        What `serve` and `deploy` take.
    """
    return flow.to_deployment(  # type: ignore[return-value]  # not in a loop
        name=name,
        parameters=dict(parameters),
        schedule=schedule,
        triggers=list(triggers),
        concurrency_limit=_ONE_AT_A_TIME if one_at_a_time else None,
        tags=["tracktor"],
        # a worker needs the installed package, and no checkout
        entrypoint_type=EntrypointType.MODULE_PATH,
        # Prefect's server takes a reference to a block without required fields (a mail server) for
        # two things at once and refuses it; the flow itself checks its parameters
        enforce_parameter_schema=False,
    )
