"""Builders of deployments: saved blocks, schedules, limits, descriptions."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.schedules import Cron, Interval, Schedule
from prefect.types.entrypoint import EntrypointType

from prefect_tracktor import (
    CompletedOrders,
    HttpChannel,
    InvalidInput,
    Mailer,
    NotificationRule,
    OrderFile,
    ShopifyOrders,
    TracktorCredentials,
    __version__,
)
from prefect_tracktor.block import saved_name
from prefect_tracktor.deploy.shop import Shop
from prefect_tracktor.errors import NotSetUp
from prefect_tracktor.models import status_key
from prefect_tracktor.rules import channels_of
from prefect_tracktor.saved_blocks import SHARED, find_block, find_block_of_shop

AnyBlock = TypeVar("AnyBlock", bound=Block)
Setting = TypeVar("Setting")

# a fixed start of all intervals: deploying again does not postpone the next run
_INTERVALS_FROM = datetime(2026, 1, 1, tzinfo=UTC)

_DESCRIPTION = """\
{what}

**Where to look**: the tab *Artifacts* of a run: a table with each affected order, a summary.

**Dry run or live**: {switch}

**Stop**: turn off {starts} to start no more runs; {make_safe} to make runs that are due or \
waiting harmless; to stop a running run, cancel it; the next run does the rest.
"""
_MODE = (
    "*Mode* of {blocks}, read when a run starts.",
    "set that *Mode* to dry run",
)
_READ_ONLY = (
    "*Read only* of the block `tracktor-credentials/{name}`, read when a run starts.",
    "turn on that *Read only*",
)


def saved(block: type[AnyBlock], shop: Shop) -> AnyBlock:
    """Load the shop's block, or the shared one; a deployment stores it by reference.

    Without the block, the shop is not deployed (`InvalidInput`). Without a mailer, a shop with a
    channel is deployed without this flow (`NotSetUp`).
    """
    found = find_block_of_shop(block, shop.name)
    if found is None and block is Mailer and find_block(HttpChannel, shop.name):
        raise NotSetUp(
            f"it sends emails: set SMTP_HOST and TRACKTOR_SENDER and run {_command(shop)}"
        )
    if found is None:
        slug = f"{block.get_block_type_slug()}/{shop.name}"
        raise InvalidInput(f"there is no block {slug}. Run {_command(shop)} first")
    return found


def mailer_for(shop: Shop, rules: Sequence[NotificationRule]) -> Mailer | None:
    """Load the shop's mailer; `None` if it has none and needs none, as each rule has a channel."""
    if None in channels_of(rules):
        return saved(Mailer, shop)
    return find_block(Mailer, shop.name)


def first_saved(shop: Shop, *blocks: type[Block], hint: str) -> Block:
    """Load the first block that the shop has; without any, `NotSetUp` gives the hint."""
    for block in blocks:
        if found := find_block_of_shop(block, shop.name):
            return found
    raise NotSetUp(f"set {hint} and run {_command(shop)}")


def required(setting: Setting, hint: str) -> Setting:
    """Return a setting; if it is empty, `NotSetUp` leaves the deployment out and gives the hint."""
    if not setting:
        raise NotSetUp(hint)
    return setting


def notified_statuses(shop: Shop) -> list[str]:
    """Return the keys of the statuses to email the shop's customers about.

    Example:
        >>> notified_statuses(Shop(notify=["Delivered"]))
        ['delivered']
    """
    statuses = [key for status in shop.notify if (key := status_key(status))]
    return required(statuses, shop.setting("notify", "delivered or in_transit,delivered"))


def for_scanning(
    shop: Shop, *, delivered: bool = False, unfulfilled: bool = False
) -> dict[str, Any]:
    """Return the parameters of flows that scan the shop's orders.

    They are the credentials, the orders (from Shopify if the shop has that block, else from its
    file) and the reading options. If the flow needs delivered or unfulfilled orders and the block
    for Shopify leaves them out, the deployment is left out.
    """
    orders = find_block_of_shop(ShopifyOrders, shop.name) or saved(OrderFile, shop)
    if delivered and isinstance(orders, ShopifyOrders) and not orders.include_delivered:
        raise NotSetUp(
            _left_out_by_shopify("Include delivered orders", "SHOPIFY_INCLUDE_DELIVERED=1", shop)
        )
    if unfulfilled and isinstance(orders, ShopifyOrders) and not orders.finds_unfulfilled:
        raise NotSetUp(_left_out_by_shopify("Fulfillment", "SHOPIFY_FULFILLMENT=any", shop))
    return {
        "credentials": saved(TracktorCredentials, shop),
        "orders": orders,
        "reading": {"completed_orders": saved(CompletedOrders, shop)},
    }


def daily(cron: str, shop: Shop) -> Schedule:
    """Return a cron schedule in the shop's time zone."""
    return Cron(cron, timezone=shop.timezone)


def every(interval: timedelta) -> Schedule:
    """Return a schedule at equal intervals, counted from midnight UTC.

    Example:
        >>> every(timedelta(hours=6)) == every(timedelta(hours=6))
        True
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
    """Build a deployment, which stores references to blocks and no secrets.

    Args:
        flow: The ready-made flow.
        shop: The shop that it runs for.
        name: The deployment's name; the shop's prefix is added.
        description: What it does and what it touches, in Markdown. Added to it are where to look
            at results, which block makes it a dry run, and how to stop it.
        parameters: The flow's parameters.
        schedule: When it runs.
        triggers: The events that start it.
        at_once: How many of its runs may run at the same time; further runs wait.
    """
    senders = senders_of(parameters)
    for block in senders.values():
        _check_saved(block)
    switch, make_safe = _MODE if senders else _READ_ONLY
    return flow.to_deployment(  # type: ignore[return-value]  # not in a loop
        name=shop.prefix + name,
        description=_DESCRIPTION.format(
            what=description.strip(),
            switch=switch.format(
                name=shop.name, blocks=" and ".join(f"`{slug}`" for slug in senders)
            ),
            starts="its schedule on this page" if schedule else "its trigger under *Automations*",
            make_safe=make_safe,
        ),
        parameters=dict(parameters),
        schedule=schedule,
        triggers=[*triggers],
        concurrency_limit=ConcurrencyLimitConfig(
            limit=at_once, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
        tags=shop.tags,
        version=__version__,
        # so that a worker needs the installed package but no checkout
        entrypoint_type=EntrypointType.MODULE_PATH,
        # An event with invalid values must create a run that fails with the reason. With the
        # schema enforced, Prefect creates no run, and only its server's log says why.
        enforce_parameter_schema=not triggers,
    )


def senders_of(parameters: Mapping[str, Any]) -> dict[str, Mailer | HttpChannel]:
    """Return a deployment's mailer and channels, whose modes decide whether messages go out."""
    blocks = [parameters.get("mailer"), *channels_of(parameters.get("rules") or [])]
    return {
        f"{block.get_block_type_slug()}/{saved_name(block)}": block
        for block in blocks
        if isinstance(block, Mailer | HttpChannel)
    }


def _check_saved(block: Mailer | HttpChannel) -> None:
    if not saved_name(block):
        kind, field = type(block).__name__, "mailer" if isinstance(block, Mailer) else "rules"
        raise InvalidInput(
            f"{field}: a deployment needs a saved {kind}: run prefect-tracktor blocks, or save it"
            f' in Prefect\'s UI, and write {kind}.load("NAME")'
        )


def _left_out_by_shopify(field: str, variable: str, shop: Shop) -> str:
    return (
        f"ShopifyOrders leaves out orders that this flow needs: set {variable} and run"
        f" {_command(shop)}, or set {field!r} in Prefect's UI (Blocks, {shop.name}, of the type"
        " Tracktor Shopify Orders)"
    )


def _command(shop: Shop) -> str:
    return "prefect-tracktor blocks" + ("" if shop.name == SHARED else f" --name {shop.name}")
