"""Read-only credentials: reads are sent, writes are refused."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from prefect_tracktor import ReadOnlyAccount, TracktorCredentials
from prefect_tracktor.sandbox import Sandbox

WRITES: dict[str, Callable[[Any], Any]] = {
    "update": lambda client: client.update_order(5000000001001, status="Sewing"),
    "create": lambda client: client.create_webhook(
        topic="order/all", address="https://shop.example/hook"
    ),
    "delete": lambda client: client.delete_webhook(1),
    "any call": lambda client: client.call("PUT", "orders/5000000001001.json", {"status": "x"}),
}


@pytest.fixture
def read_only(credentials: TracktorCredentials) -> TracktorCredentials:
    return credentials.model_copy(update={"read_only": True})


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_read_only_credentials_send_no_writes(
    tracktor: Sandbox, read_only: TracktorCredentials, write: Callable[[Any], Any]
) -> None:
    with read_only.get_client() as client, pytest.raises(ReadOnlyAccount, match="turn off Read"):
        write(client)

    async def write_async() -> None:
        async with read_only.get_async_client() as client:
            await write(client)

    with pytest.raises(ReadOnlyAccount, match="turn off Read only"):
        anyio.run(write_async)
    assert not tracktor.calls


def test_read_only_credentials_allow_reads(
    read_only: TracktorCredentials, tracktor: Sandbox
) -> None:
    with read_only.get_client() as client:
        assert client.get_order(tracktor.shop.order_ids[0]).order_name == "#1001"
        assert client.list_webhooks() == []
        assert client.get_status_options()
