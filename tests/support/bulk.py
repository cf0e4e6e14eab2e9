"""Bulk calls without a task."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from prefect_tracktor.bulk import Batch, send_all
from prefect_tracktor.client import AsyncTracktorClient
from prefect_tracktor.http import blocking
from prefect_tracktor.http.call import ApiCall

T = TypeVar("T")


def send_all_from_anywhere(
    connect: Callable[[], AsyncTracktorClient], calls: Mapping[int, ApiCall[T]]
) -> Batch[T]:
    """Run `send_all`, with or without a running event loop in the thread."""

    async def send() -> Batch[T]:
        async with connect() as client:
            return await send_all(client, calls)

    return blocking.run(send())
