"""Connections of clients: reuse, limits, closing."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import SocketAttribute, SocketStream

from prefect_tracktor import (
    APIConnectionError,
    AsyncTracktorClient,
    InvalidInput,
    NotFound,
    TracktorClient,
    TransportLimits,
)
from prefect_tracktor.http import blocking
from prefect_tracktor.http.client import HttpClient
from tests.support.paced import processes, read_after_a_fork
from tests.support.scripted import ScriptedServer, answer

ACCOUNT: dict[str, Any] = {"uuid": "0123abcd-0000-4000-8000-00000000000f", "api_key": "k3y"}
ORDER = b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"order_id":7}'


class KeepAliveServer:
    """A server that counts its requests and connections."""

    def __init__(self, *, requests_a_connection: int = 1000) -> None:
        self.requests = self.connections = self.open = 0
        self._requests_a_connection = requests_a_connection
        self.address = ""
        self.silent = False

    async def _serve(self, stream: SocketStream) -> None:
        self.connections += 1
        self.open += 1
        try:
            async with stream:
                for _ in range(self._requests_a_connection):
                    await stream.receive()
                    self.requests += 1
                    if self.silent:
                        await stream.receive()  # until the client disconnects
                    await anyio.sleep(0.01)
                    await stream.send(ORDER)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        finally:
            self.open -= 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.address = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, self._serve)
            yield
            group.cancel_scope.cancel()

    async def until_none_is_open(self) -> None:
        with anyio.fail_after(10):
            while self.open:  # noqa: ASYNC110  # several may open and close
                await anyio.sleep(0.01)


async def read(client: AsyncTracktorClient, times: int) -> None:
    async with anyio.create_task_group() as calls:
        for _ in range(times):
            calls.start_soon(client.get_order, 7)


def client_of(server: KeepAliveServer, at_once: int) -> AsyncTracktorClient:
    limits = TransportLimits(max_concurrency=at_once)
    return AsyncTracktorClient(**ACCOUNT, base_url=server.address, limits=limits)


@pytest.mark.anyio
async def test_connections_are_reused_and_closed_with_the_client() -> None:
    server = KeepAliveServer()
    async with server.running():
        async with client_of(server, 6) as client:
            await read(client, 40)
            assert (server.requests, server.connections) == (40, 6)
        await server.until_none_is_open()


@pytest.mark.anyio
async def test_a_connection_closed_by_the_server_is_not_reused() -> None:
    server = KeepAliveServer(requests_a_connection=1)
    async with server.running(), client_of(server, 1) as client:
        for _ in range(3):
            await client.get_order(7)
            await server.until_none_is_open()
    assert (server.requests, server.connections) == (3, 3)


@pytest.mark.anyio
async def test_a_cancelled_call_leaves_no_connection_open() -> None:
    server = KeepAliveServer()
    async with server.running(), client_of(server, 4) as client:
        server.silent = True
        with anyio.move_on_after(0.3):
            await read(client, 8)
        await server.until_none_is_open()
        server.silent = False
        await read(client, 8)


@pytest.mark.anyio
async def test_the_sync_client_works_inside_a_running_event_loop() -> None:
    with (
        ScriptedServer([answer(body='{"order_id": 7}')]) as server,
        TracktorClient(**ACCOUNT, base_url=server.address) as client,
    ):
        assert client.get_order(7).order_id == 7


def test_the_sync_client_works_in_a_forked_process() -> None:
    with ScriptedServer([answer(body='{"order_id": 7}')]) as server:
        fields = ACCOUNT | {"base_url": server.address}
        process = processes.Process(target=read_after_a_fork, args=(fields,))
        process.start()
        process.join(60)
        assert process.exitcode == 0
    assert len(server.requests) == 2


def test_exceptions_of_async_code_reach_the_sync_caller() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("wait")

    with pytest.raises(TimeoutError):
        blocking.run(asyncio.wait_for(wait(), 0.1))
    assert ended == ["wait"]


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_client_uses_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    with ScriptedServer([answer(body='{"order_id": 7}')]) as proxy:
        monkeypatch.setenv(variable, scheme + proxy.address.removeprefix("http://"))
        with TracktorClient(**ACCOUNT, base_url="http://127.0.0.1:9") as client:
            assert client.get_order(7).order_id == 7
    assert proxy.requests[0].line.startswith("GET http://127.0.0.1:9/")


@pytest.mark.parametrize(
    "address",
    ["ftp://ada:s3cret@proxy.example", "http://ada:s3cret@[::1", "socks5://ada:s3cret@127.0.0.1:9"],
    ids=["scheme", "malformed", "socks"],
)
@pytest.mark.parametrize(
    "connect",
    [lambda: TracktorClient(**ACCOUNT), lambda: HttpClient(seconds=1)],
    ids=["TracktorClient", "HttpClient"],
)
def test_an_unusable_proxy_is_an_error_that_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, address: str, connect: Callable[[], object]
) -> None:
    monkeypatch.setenv("all_proxy", address)
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(InvalidInput, match=r"HTTPS_PROXY .* http://proxy") as caught:
        connect()
    assert "s3cret" not in str(caught.value)


def orders(request: httpx.Request) -> httpx.Response:
    if request.url.path.endswith("/orders/7.json"):
        assert (request.method, request.headers["x-api-key"]) == ("GET", "k3y")
        return httpx.Response(200, json={"order_id": 7})
    if request.url.path.endswith("/orders/8.json"):
        assert request.read() == b'{"order":{"status":"Sewing"}}'
        return httpx.Response(404)
    raise httpx.ConnectError("no such host")


def test_a_mock_transport_replaces_the_server() -> None:
    limits = TransportLimits(max_attempts=1)
    with TracktorClient(**ACCOUNT, limits=limits, transport=httpx.MockTransport(orders)) as client:
        assert client.get_order(7).order_id == 7
        with pytest.raises(NotFound):
            client.update_order(8, status="Sewing")
        with pytest.raises(APIConnectionError, match="ConnectError") as caught:
            client.get_order(9)
    assert not caught.value.may_have_arrived


@pytest.mark.anyio
async def test_a_mock_transport_replaces_the_server_of_an_async_client() -> None:
    async with AsyncTracktorClient(**ACCOUNT, transport=httpx.MockTransport(orders)) as client:
        assert (await client.get_order(7)).order_id == 7
