"""Post parcels with a new exception, and what their orders are worth, to the team's channel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import httpx
from prefect import flow, task
from prefect.blocks.abstract import NotificationError
from prefect.blocks.notifications import (
    CustomWebhookNotificationBlock,
    MicrosoftTeamsWebhook,
    SlackWebhook,
)
from prefect.cache_policies import NO_CACHE

from prefect_tracktor import (
    ExceptionStatus,
    Fulfillment,
    NotificationLedger,
    Order,
    TracktorCredentials,
)
from prefect_tracktor.sources import Orders, chunked, iter_orders
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState
from prefect_tracktor.tasks import batch_of, get_orders

Channel = SlackWebhook | MicrosoftTeamsWebhook | CustomWebhookNotificationBlock

ORDERS_A_TASK = 500
LINES_A_MESSAGE = 25


@dataclass(frozen=True)
class ParcelException:
    """A parcel with an exception, and the key under which the ledger remembers the post."""

    order: Order
    parcel: Fulfillment
    key: NoticeKey


@dataclass(frozen=True)
class Message:
    """A text for the channel, and the keys of what it contains."""

    text: str
    keys: Sequence[NoticeKey]


@task(name="Post", retries=2, retry_delay_seconds=30, cache_policy=NO_CACHE, persist_result=False)
def post(channel: Channel, text: str) -> None:
    """Post to the channel; the run fails if the message is rejected."""
    try:
        with channel.raise_on_failure():  # without it Prefect's blocks only log a failure
            channel.notify(text, subject="Parcels with an exception")
    except NotificationError as refused:
        raise RuntimeError(f"the message was rejected: {refused.log}") from None
    except httpx.HTTPError as refused:  # its own words may hold the webhook's address
        raise RuntimeError(f"the message was rejected ({type(refused).__name__})") from None


def new_exceptions(
    account: str, orders: Sequence[Order], ledger: NotificationLedger
) -> list[ParcelException]:
    """Choose the parcels whose exception was not posted yet."""
    exceptions = [
        ParcelException(
            order, parcel, NoticeKey(account, order.order_id, parcel.fulfillment_id, reason)
        )
        for order in orders
        for parcel in order.undelivered
        if parcel.exception_status and not order.has_cancelled(parcel)
        for reason in [f"digest:{parcel.exception_status}"]
    ]
    told = ledger.states(found.key for found in exceptions)
    return [found for found in exceptions if found.key not in told]


def lacks_its_parcels(order: Order) -> bool:
    """Whether a response names an exception and contains no parcel."""
    return bool(order.exception_statuses) and not order.fulfillments


def messages(
    exceptions: Sequence[ParcelException], *, unreadable: int, shop: str
) -> Iterator[Message]:
    """Write the messages, the most valuable orders first; none if there is no news."""
    dearest_first = sorted(exceptions, key=worth, reverse=True)
    for some in chunked(dearest_first, LINES_A_MESSAGE):
        yield Message("\n".join(line(found, shop) for found in some), [found.key for found in some])
    if unreadable:
        yield Message(f"{unreadable} orders could not be read; the next run tries again.", [])


def worth(found: ParcelException) -> Decimal:
    """Return what the order is worth, with taxes and shipping; 0 if that is unknown."""
    return found.order.total_price or Decimal(0)


def line(found: ParcelException, shop: str) -> str:
    """Describe a parcel without customer data."""
    order, parcel = found.order, found.parcel
    status = parcel.exception_status
    parts = [
        order.order_name or str(order.order_id),
        status.label if isinstance(status, ExceptionStatus) else str(status),
        (parcel.carrier and parcel.carrier.name) or "unknown carrier",
        f"{order.total_price:,.2f}" if order.total_price is not None else "unknown value",
    ]
    if shop:
        parts.append(f"https://admin.shopify.com/store/{shop}/orders/{order.order_id}")
    return "- " + ", ".join(parts)


@flow(name="Exceptions digest")
def exceptions_digest(
    credentials: TracktorCredentials,
    orders: Orders,
    channel: Channel,
    ledger: NotificationLedger,
    shop: str = "",
) -> int:
    """Post each parcel with a new exception once.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, or where to find them.
        channel: Where to post.
        ledger: What remembers which exceptions were posted.
        shop: The shop's handle in the Shopify admin, for links to its orders.

    Returns:
        How many parcels were posted.
    """
    exceptions: list[ParcelException] = []
    unreadable = 0
    for ids in chunked(iter_orders(orders).order_ids, ORDERS_A_TASK):
        batch = batch_of(get_orders.submit(credentials, ids))
        exceptions += new_exceptions(credentials.account, batch.found, ledger)
        unreadable += len(batch.failed) + sum(map(lacks_its_parcels, batch.found))
    for message in messages(exceptions, unreadable=unreadable, shop=shop):
        post(channel, message.text)
        ledger.complete(message.keys, NoticeState.SENT, run="exceptions digest")
    return len(exceptions)
