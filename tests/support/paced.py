"""Functions that tests of clients run in other processes."""

import os
import sys
from multiprocessing import get_context
from typing import Any

import anyio
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_tracktor import TracktorCredentials, api
from prefect_tracktor.bulk import calls_for
from tests.support.bulk import send_all_from_anywhere

processes = get_context("forkserver")


def read_one_after_another(api_url: str, fields: dict[str, Any], order_ids: list[int]) -> None:
    """Read orders with the sync client."""
    with (
        temporary_settings({PREFECT_API_URL: api_url}),
        TracktorCredentials.model_validate(fields).get_client() as client,
    ):
        for order_id in order_ids:
            client.get_order(order_id)


def read_in_bulk(api_url: str, fields: dict[str, Any], order_ids: list[int]) -> None:
    """Read orders with the async client."""
    credentials = TracktorCredentials.model_validate(fields)
    with temporary_settings({PREFECT_API_URL: api_url}):
        send_all_from_anywhere(credentials.get_async_client, calls_for(api.get_order, order_ids))


def read_after_a_fork(fields: dict[str, Any]) -> None:
    """Read an order, and again in a forked process; neither closes its client."""
    credentials = TracktorCredentials.model_validate(fields)
    credentials.get_client().get_order(7)
    child = os.fork()
    if not child:
        os._exit(credentials.get_client().get_order(7).order_id != 7)
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def give_up_waiting_for_a_permit(api_url: str, fields: dict[str, Any]) -> None:
    """Send a request, and cancel a second one while it waits for its permit."""

    async def read() -> None:
        async with TracktorCredentials.model_validate(fields).get_async_client() as client:
            await client.get_status_options()
            with anyio.move_on_after(1):
                await client.get_status_options()

    with temporary_settings({PREFECT_API_URL: api_url}):
        anyio.run(read)
