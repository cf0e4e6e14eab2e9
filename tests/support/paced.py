"""What the tests of shared rates run in processes of their own."""

from multiprocessing import get_context
from typing import Any

from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_tracktor import TracktorCredentials, api
from prefect_tracktor.bulk import calls_for, send_all_from_anywhere

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
