"""The same for async code."""

import asyncio

from exceptions_digest import (
    ORDERS_A_TASK,
    Channel,
    ParcelException,
    lacks_its_parcels,
    messages,
    new_exceptions,
    post,
)
from prefect import flow

from prefect_tracktor import NotificationLedger, TracktorCredentials
from prefect_tracktor.errors import BatchFailed
from prefect_tracktor.sources import Orders, chunked, iter_orders
from prefect_tracktor.storage.ledger import NoticeState
from prefect_tracktor.tasks import aget_orders


async def find(
    credentials: TracktorCredentials, orders: Orders, ledger: NotificationLedger
) -> tuple[list[ParcelException], int]:
    """Read the orders: the new exceptions, and how many could not be read."""
    exceptions: list[ParcelException] = []
    unreadable = 0
    order_ids = await asyncio.to_thread(lambda: list(iter_orders(orders).order_ids))
    for ids in chunked(order_ids, ORDERS_A_TASK):
        try:
            batch = await aget_orders(credentials, ids)
        except BatchFailed as failed:  # not one of them could be read
            batch = failed.batch
        exceptions += await asyncio.to_thread(
            new_exceptions, credentials.account, batch.found, ledger
        )
        unreadable += len(batch.failed) + sum(map(lacks_its_parcels, batch.found))
    return exceptions, unreadable


@flow(name="Exceptions digest (async)")
async def aexceptions_digest(
    credentials: TracktorCredentials,
    orders: Orders,
    channel: Channel,
    ledger: NotificationLedger,
    shop: str = "",
) -> int:
    """`exceptions_digest` for async code: the same arguments and result."""
    exceptions, unreadable = await find(credentials, orders, ledger)
    for message in messages(exceptions, unreadable=unreadable, shop=shop):
        await asyncio.to_thread(post, channel, message.text)
        await asyncio.to_thread(
            ledger.complete, message.keys, NoticeState.SENT, run="exceptions digest"
        )
    return len(exceptions)
