"""Read-only credentials change nothing; a transport of one's own stands in for a server."""

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from prefect_tracktor import ReadOnlyAccount, TracktorClient, TracktorCredentials
from prefect_tracktor.client import AsyncTracktorClient
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


def test_a_transport_of_ones_own_needs_no_server() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        assert request.headers["x-api-key"] == "k3y"
        return httpx.Response(200, json={"order": {"order_id": 7, "order_name": "#7"}})

    with TracktorClient(
        uuid="0" * 32, api_key="k3y", transport=httpx.MockTransport(respond)
    ) as client:
        assert client.get_order(7).order_name == "#7"

    async def read() -> str | None:
        transport = httpx.MockTransport(respond)
        async with AsyncTracktorClient(uuid="0" * 32, api_key="k3y", transport=transport) as client:
            return (await client.get_order(7)).order_name

    assert anyio.run(read) == "#7"
