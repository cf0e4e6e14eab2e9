"""The parts of a deployment: which blocks it refers to, when it runs, how its runs are limited."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.schedules import Cron, Interval, Schedule
from prefect.types.entrypoint import EntrypointType
from prefect_email import EmailServerCredentials

from prefect_tracktor import (
    CompletedOrders,
    InvalidInput,
    NotificationLedger,
    OrderFile,
    ShopifyOrders,
    TracktorCredentials,
    __version__,
)
from prefect_tracktor.deploy.shop import Shop
from prefect_tracktor.errors import NotSetUp, Unusable
from prefect_tracktor.models import status_key
from prefect_tracktor.saved_blocks import SHARED, document_of_shop, find_document

Wish = TypeVar("Wish")

# by this name a deployment's schedule is found again, with what was done to it in Prefect's UI
SCHEDULE = "as-in-flows"
# and by this description its triggers, beside the automations that people made for it
AS_IN_FLOWS = "From the deployment's file in flows/: what it reacts to is edited there."

# where equal intervals are counted from: at any later time the same, so that deploying again does
# not put off the next run
_INTERVALS_FROM = datetime(2026, 1, 1, tzinfo=UTC)


def saved(block: type[Block], shop: Shop) -> Block:
    """The shop's document of a block, or the shared one; a deployment stores it by reference.

    Args:
        block: The block's class.
        shop: The shop.

    Returns:
        The saved block.

    Raises:
        Unusable: It was not made, or it cannot be right, say as it was edited.
    """
    found = _found(document_of_shop, block, shop)
    if found is None:
        raise Unusable(_missing(block, shop))
    return found


def first_saved(shop: Shop, *blocks: type[Block], hint: str) -> Block:
    """The first of some blocks of which the shop has a document.

    Args:
        shop: The shop.
        blocks: The blocks' classes.
        hint: The variables from which `prefect-tracktor blocks` makes them.

    Returns:
        The saved block.

    Raises:
        NotSetUp: There is none.
        Unusable: One cannot be right.
    """
    for block in blocks:
        if found := _found(find_document, block, shop):
            return found
    raise NotSetUp(f"set {hint} and run {_command(shop)}")


def wished(wish: Wish, hint: str) -> Wish:
    """What makes a deployment wished for.

    Args:
        wish: The setting.
        hint: How to set it.

    Returns:
        The setting.

    Raises:
        NotSetUp: It is empty.
    """
    if not wish:
        raise NotSetUp(hint)
    return wish


def account(shop: Shop) -> str:
    """The name that the events of the shop's account carry.

    Args:
        shop: The shop.

    Returns:
        A name that does not give the account's uuid away.
    """
    return TracktorCredentials.model_validate(saved(TracktorCredentials, shop)).account


def notified_statuses(shop: Shop) -> list[str]:
    """The statuses that the shop's customers are to hear of.

    Args:
        shop: The shop.

    Returns:
        The statuses, as keys.

    Raises:
        NotSetUp: There is none.
        Unusable: There is no template for one.
    """
    statuses = [key for status in shop.notify if (key := status_key(status))]
    return wished(statuses, shop.setting("notify", "delivered or in_transit,delivered"))


def for_scanning(
    shop: Shop, *, delivered: bool = False, unfulfilled: bool = False
) -> dict[str, Any]:
    """The parameters of all flows that look through the shop's orders.

    Args:
        shop: The shop.
        delivered: Whether delivered orders are looked for.
        unfulfilled: Whether orders are looked for of which nothing was sent yet.

    Returns:
        Values by the parameters' names. Orders are found in Shopify, if the shop has a document for
        that, or else in a file.

    Raises:
        NotSetUp: Delivered or unfulfilled orders are looked for, and Shopify's leave them out.
        Unusable: A document is missing.
    """
    orders = _found(find_document, ShopifyOrders, shop) or saved(OrderFile, shop)
    if delivered and isinstance(orders, ShopifyOrders) and not orders.include_delivered:
        raise NotSetUp(
            _left_out_by_shopify("Include delivered orders", "SHOPIFY_INCLUDE_DELIVERED=1", shop)
        )
    if unfulfilled and isinstance(orders, ShopifyOrders) and not orders.finds_unfulfilled:
        raise NotSetUp(_left_out_by_shopify("Fulfillment", "SHOPIFY_FULFILLMENT=any", shop))
    return {
        "credentials": saved(TracktorCredentials, shop),
        "orders": orders,
        "settled": saved(CompletedOrders, shop),
        "dry_run": shop.dry_run,
    }


def for_writing_to_customers(shop: Shop) -> dict[str, Any]:
    """The parameters of all flows that write to customers.

    Args:
        shop: The shop.

    Returns:
        Values by the parameters' names.

    Raises:
        Unusable: There is no sender, or a document is missing.
    """
    if not shop.sender:
        example = shop.setting("sender", "'Your Shop <orders@your-shop.example>'")
        raise Unusable(f"there is no sender for the emails: {example}")
    return {
        "email_server": saved(EmailServerCredentials, shop),
        "ledger": saved(NotificationLedger, shop),
        "sender": shop.sender,
    }


def daily(cron: str, shop: Shop) -> Schedule:
    """A schedule in the shop's time zone.

    Args:
        cron: Minute, hour, day of the month, month, day of the week.
        shop: The shop.

    Returns:
        The schedule.
    """
    return Cron(cron, timezone=shop.timezone)


def every(interval: timedelta) -> Schedule:
    """A schedule at equal intervals, counted from a midnight in UTC.

    Args:
        interval: Such as six hours: at 0, 6, 12 and 18 o'clock in UTC.

    Returns:
        The schedule.
    """
    return Interval(interval, anchor_date=_INTERVALS_FROM)


def deployment_of(
    flow: Flow[Any, Any],
    shop: Shop,
    *,
    name: str,
    description: str,
    parameters: Mapping[str, Any],
    schedule: Schedule | None = None,
    triggers: Sequence[DeploymentEventTrigger] = (),
    at_once: int = 1,
) -> RunnerDeployment:
    """A deployment; blocks are stored in it by reference, never their secrets.

    Args:
        flow: The ready-made flow.
        shop: The shop it runs for.
        name: The deployment's name; the shop's is put before it.
        description: What people read about it in Prefect's UI.
        parameters: The flow's parameters.
        schedule: When it runs by itself.
        triggers: Which events it runs for.
        at_once: How many of its runs may be under way; one more waits for the end of another.

    Returns:
        What `prefect-tracktor serve` and `deploy` take.
    """
    return flow.to_deployment(  # type: ignore[return-value]  # not in a loop
        name=shop.prefix + name,
        description=description.strip(),
        parameters=dict(parameters),
        schedule=replace(schedule, slug=SCHEDULE) if schedule else None,
        triggers=[trigger.model_copy(update={"description": AS_IN_FLOWS}) for trigger in triggers],
        concurrency_limit=ConcurrencyLimitConfig(
            limit=at_once, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
        tags=shop.tags,
        version=__version__,
        # a worker needs the installed package, and no checkout
        entrypoint_type=EntrypointType.MODULE_PATH,
        # Prefect's server takes a reference to a block without required fields (a mail server) for
        # two things at once and refuses it; the flow itself checks its parameters
        enforce_parameter_schema=False,
    )


def _found(
    look: Callable[[type[Block], str], Block | None], block: type[Block], shop: Shop
) -> Block | None:
    try:
        return look(block, shop.name)
    except InvalidInput as problem:
        raise Unusable(str(problem)) from None


def _missing(block: type[Block], shop: Shop) -> str:
    slug = f"{block.get_block_type_slug()}/{shop.name}"
    return f"there is no block {slug}. Run {_command(shop)} first"


def _left_out_by_shopify(field: str, variable: str, shop: Shop) -> str:
    return (
        f"the orders that it needs are not among those from Shopify: set {variable} and run"
        f" {_command(shop)}, or set {field!r} in Prefect's UI (Blocks, {shop.name}, of the type"
        " Tracktor Shopify Orders)"
    )


def _command(shop: Shop) -> str:
    return "prefect-tracktor blocks" + ("" if shop.name == SHARED else f" --name {shop.name}")
