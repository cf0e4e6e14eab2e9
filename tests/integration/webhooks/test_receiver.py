"""Receiver over real sockets: accepted and refused deliveries, logs, limits."""

import logging
import socket
from typing import NoReturn

import httpx
import pytest

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.errors import DatabaseError, InvalidInput
from prefect_tracktor.sandbox import Sandbox
from prefect_tracktor.webhooks import WebhookQueue
from prefect_tracktor.webhooks.receiver import checked_token
from tests.support.webhooks import TOKEN, Listening, eventually

pytestmark = pytest.mark.usefixtures("no_prefect")

PERSONAL = {"order_email": "ada@example.com", "order_phone": "+49 30 1234567"}


def raw(address: str, *parts: bytes) -> bytes:
    """Send bytes unchanged, and read until the receiver closes the connection."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        response = b""
        try:
            for part in parts:
                connection.sendall(part)
            while received := connection.recv(65_536):
                response += received
        except ConnectionError:
            pass  # the rest of the request is refused
        return response


def head(path: str, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: receiver", *fields, "", ""]
    return "\r\n".join(lines).encode()


def waiting(queue: WebhookQueue, account: str) -> int:
    return queue.waiting(account)[0]


def test_the_receiver_responds_200_once_a_delivery_is_stored(
    listening: Listening, queue: WebhookQueue, credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    tracktor.stop()  # so that the delivery stays in the queue
    with listening() as address:
        response = httpx.post(f"{address}/{TOKEN}", json={"order_id": 7} | PERSONAL)
        assert response.status_code == 200
        assert waiting(queue, credentials.account) == 1


def test_a_wrong_token_and_an_unknown_path_get_the_same_response(listening: Listening) -> None:
    with listening() as address:
        paths = ["/", f"/{TOKEN}x", f"/{TOKEN[:-1]}", "/x" * 40, "/docs", f"/{TOKEN}/", "/%ff"]
        responses = [httpx.post(address + path, json={"order_id": 7}) for path in paths]
        responses += [httpx.get(address + path) for path in paths]
    assert {response.status_code for response in responses} == {404}
    assert len({(response.content, str(response.headers)) for response in responses}) == 1


def test_the_health_response_reveals_only_that_the_receiver_runs(listening: Listening) -> None:
    with listening() as address:
        response = httpx.get(f"{address}/health")
    assert (response.status_code, response.text) == (200, "OK")
    assert set(response.headers) == {"content-type", "content-length"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not json", 400),
        (b"[1, 2]", 400),
        (b"[" * 200_000, 400),
        (b'{"order_id": true}', 400),
        (b'{"order_id": -7}', 400),
        (b'{"order_id": 99999999999999999999}', 400),
        (b'{"order_id": {"order_id": 7}}', 400),
        (b'{"fulfillment_id": null, "order_id": 7}', 400),
        (b"\x00" * 500, 400),
        (b" " * 1_000_001, 413),
    ],
)
def test_a_hostile_body_is_refused_and_not_stored(
    listening: Listening,
    queue: WebhookQueue,
    credentials: TracktorCredentials,
    caplog: pytest.LogCaptureFixture,
    body: bytes,
    status: int,
) -> None:
    caplog.set_level(logging.INFO, logger="prefect_tracktor")
    with listening() as address:
        assert httpx.post(f"{address}/{TOKEN}", content=body).status_code == status
    assert waiting(queue, credentials.account) == 0
    assert f"refused ({status})" in caplog.text
    assert TOKEN not in caplog.text


def test_the_receiver_logs_neither_token_nor_customer_data(
    listening: Listening, tracktor: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    order = tracktor.shop.order(tracktor.shop.order_ids[0]) | PERSONAL
    order["order_name"] = "<script>alert(1)</script>"
    with listening() as address:
        httpx.post(f"{address}/{TOKEN}", json=order)
        httpx.post(f"{address}/{TOKEN}", json={"order_id": "ada@example.com"})
        httpx.post(f"{address}/{TOKEN}?email=ada@example.com", json={"order_id": 77})
        for attempt in eventually():
            with attempt:
                assert "event tracktor.order." in caplog.text
                assert "order 77: Tracktor does not know it" in caplog.text
    ours = [
        entry.getMessage()
        for entry in caplog.records
        if entry.name.startswith(("prefect_tracktor", "uvicorn"))
    ]
    assert ours
    for word in (TOKEN, "ada@", "30 1234567", "<script>", tracktor.api_key, tracktor.uuid):
        assert not [line for line in ours if word in line]


def test_a_large_body_is_refused_before_it_is_sent(listening: Listening) -> None:
    with listening() as address:
        response = raw(address, head(f"/{TOKEN}", "Content-Length: 50000000"))
    assert response.startswith(b"HTTP/1.1 413 ")


def test_the_receiver_stops_reading_an_endless_body(listening: Listening) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with listening(max_body_bytes=100_000) as address:
        start = head(f"/{TOKEN}", "Transfer-Encoding: chunked")
        response = raw(address, start, chunk, chunk)
        assert response.startswith(b"HTTP/1.1 413 ")
        raw(address, start, *[chunk] * 800)  # 50 MB; most of it is not read
        assert httpx.get(f"{address}/health").status_code == 200


def test_a_slow_body_is_refused(listening: Listening) -> None:
    with listening(read_seconds=1) as address:
        response = raw(address, head(f"/{TOKEN}", "Content-Length: 100"), b"{")
        assert response.startswith(b"HTTP/1.1 408 ")


def test_a_delivery_with_an_incomplete_body_is_not_stored(
    listening: Listening,
    queue: WebhookQueue,
    credentials: TracktorCredentials,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with listening() as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head(f"/{TOKEN}", "Content-Length: 100") + b'{"order_id": 7')
        for attempt in eventually():
            with attempt:
                assert "refused (400): its sender disconnected" in caplog.text
    assert waiting(queue, credentials.account) == 0
    assert "Traceback" not in caplog.text


def test_the_receiver_accepts_only_post_requests(listening: Listening) -> None:
    with listening() as address:
        response = httpx.get(f"{address}/{TOKEN}")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_the_receiver_responds_503_above_its_connection_limit(listening: Listening) -> None:
    with listening(max_connections=2) as address:
        host, port = address.removeprefix("http://").split(":")
        with (
            socket.create_connection((host, int(port))),
            socket.create_connection((host, int(port))),
        ):
            assert httpx.get(f"{address}/health").status_code == 503


def test_the_receiver_responds_503_if_the_queue_is_full(
    listening: Listening, queue: WebhookQueue, tracktor: Sandbox
) -> None:
    tracktor.stop()
    queue.max_waiting = 1
    with listening() as address:
        first, second = (
            httpx.post(f"{address}/{TOKEN}", json={"order_id": order_id}) for order_id in (7, 8)
        )
    assert (first.status_code, second.status_code) == (200, 503)
    assert second.headers["retry-after"] == "30"


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), DatabaseError("full")])
def test_the_receiver_does_not_respond_200_if_storing_fails(
    listening: Listening,
    queue: WebhookQueue,
    credentials: TracktorCredentials,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: object) -> NoReturn:
        raise error

    with listening() as address:
        monkeypatch.setattr(WebhookQueue, "add", fail)
        assert httpx.post(f"{address}/{TOKEN}", json={"order_id": 7}).status_code >= 500
        monkeypatch.undo()
        assert httpx.post(f"{address}/{TOKEN}", json={"order_id": 7}).status_code == 200
    assert waiting(queue, credentials.account) == 1


@pytest.mark.parametrize("token", ["", "short", "with a blank in it, and long", "ü" * 30])
def test_a_weak_receiver_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput, match="the token must have at least 22"):
        checked_token(token)
