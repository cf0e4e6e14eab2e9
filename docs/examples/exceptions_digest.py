"""Tell the team's channel which parcels have newly got into trouble, and what they are worth."""

from collections.abc import Iterator, Mapping, Sequence
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
    OrderFile,
    TracktorCredentials,
)
from prefect_tracktor.sources import Orders, chunked, iter_order_ids
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState
from prefect_tracktor.tasks import batch_of, get_orders

Channel = SlackWebhook | MicrosoftTeamsWebhook | CustomWebhookNotificationBlock

ORDERS_A_TASK = 500
LINES_A_MESSAGE = 25


@dataclass(frozen=True)
class Trouble:
    """A parcel in trouble, and the key by which the ledger remembers that the team was told."""

    order: Order
    parcel: Fulfillment
    key: NoticeKey


@dataclass(frozen=True)
class Message:
    """A text for the channel, and what it tells of."""

    text: str
    keys: Sequence[NoticeKey]


@task(name="Read order values", cache_policy=NO_CACHE, persist_result=False)
def read_values(export: OrderFile) -> dict[int, Decimal]:
    """Read what each order is worth: the column Total, on the first line of each order."""
    return {
        int(str(row[export.column].value)): Decimal(str(row["Total"].value))
        for row in export.rows([export.column, "Total"])
        if row["Total"].value
    }


@task(name="Post", retries=2, retry_delay_seconds=30, cache_policy=NO_CACHE, persist_result=False)
def post(channel: Channel, text: str) -> None:
    """Post to the channel; a message that is not taken fails the run."""
    try:
        with channel.raise_on_failure():  # without it Prefect's blocks only log a failure
            channel.notify(text, subject="Parcels in trouble")
    except NotificationError as refused:
        raise RuntimeError(f"the message was not taken: {refused.log}") from None
    except httpx.HTTPError as refused:  # its own words may hold the webhook's address
        raise RuntimeError(f"the message was not taken ({type(refused).__name__})") from None


def new_troubles(
    account: str, orders: Sequence[Order], ledger: NotificationLedger
) -> list[Trouble]:
    """Choose the parcels in trouble that the team was not told about yet."""
    troubles = [
        Trouble(order, parcel, NoticeKey(account, order.order_id, parcel.fulfillment_id, reason))
        for order in orders
        for parcel in order.undelivered
        if parcel.exception_status and not order.has_cancelled(parcel)
        for reason in [f"digest:{parcel.exception_status}"]
    ]
    told = ledger.states(trouble.key for trouble in troubles)
    return [trouble for trouble in troubles if trouble.key not in told]


def lacks_its_parcels(order: Order) -> bool:
    """Whether an answer names an exception and holds no parcel that it could be about."""
    return bool(order.exception_statuses) and not order.fulfillments


def messages(
    troubles: Sequence[Trouble], values: Mapping[int, Decimal], *, unreadable: int, shop: str
) -> Iterator[Message]:
    """Write the messages, the most valuable orders first; none if there is nothing to say."""
    dearest_first = sorted(troubles, key=lambda t: values.get(t.order.order_id, 0), reverse=True)
    for some in chunked(dearest_first, LINES_A_MESSAGE):
        lines = [line(trouble, values.get(trouble.order.order_id), shop) for trouble in some]
        yield Message("\n".join(lines), [trouble.key for trouble in some])
    if unreadable:
        yield Message(f"{unreadable} orders could not be read; the next run tries again.", [])


def line(trouble: Trouble, value: Decimal | None, shop: str) -> str:
    """One parcel in words; nothing of the customer."""
    order, parcel = trouble.order, trouble.parcel
    status = parcel.exception_status
    parts = [
        order.order_name or str(order.order_id),
        status.label if isinstance(status, ExceptionStatus) else str(status),
        (parcel.carrier and parcel.carrier.name) or "unknown carrier",
        f"{value:,.2f}" if value is not None else "unknown value",
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
    export: OrderFile,
    shop: str = "",
) -> int:
    """Post the parcels that have newly got into trouble, each once.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, or where to find them.
        channel: Where to post.
        ledger: What remembers which parcels the team was told about.
        export: The shop's orders export, for what each order is worth.
        shop: The shop's handle in the Shopify admin, for links to its orders.

    Returns:
        How many parcels were posted.
    """
    values = read_values(export)
    troubles: list[Trouble] = []
    unreadable = 0
    for ids in chunked(iter_order_ids(orders), ORDERS_A_TASK):
        batch = batch_of(get_orders.submit(credentials, ids))
        troubles += new_troubles(credentials.account, batch.found, ledger)
        unreadable += len(batch.failed) + sum(map(lacks_its_parcels, batch.found))
    for message in messages(troubles, values, unreadable=unreadable, shop=shop):
        post(channel, message.text)
        ledger.settle(message.keys, NoticeState.SENT, run="exceptions digest")
    return len(troubles)
