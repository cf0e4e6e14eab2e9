"""Both clients against a server with scripted responses: retries, limits, errors."""

import gzip
import logging
import pickle
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import anyio
import pytest
import stamina

from prefect_tracktor.client import AsyncTracktorClient, TracktorClient
from prefect_tracktor.errors import (
    APIConnectionError,
    AuthenticationError,
    InvalidInput,
    InvalidResponse,
    NotFound,
    RateLimited,
    ServerError,
    TracktorError,
    UnprocessableValue,
)
from prefect_tracktor.http.limits import TransportLimits
from tests.support.scripted import DROP, DrippingServer, ScriptedServer, answer

UUID = "0123abcd-0000-4000-8000-00000000000f"
KEY = "k3y-that-is-a-secret"
HOOK = "https://shop.example/hook"
ORDER = answer(body='{"order": {"order_id": 7, "order_email": "ada@example.com"}}')
CUT_OFF = answer(body='{"order": {"order_id": 7, "order_email": "ada@exa', length=500)
HTML = answer(body="<html>Please log in</html>")
GARBAGE = b"this is not HTTP\r\n\r\n"

Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Make one call with either client: `call(server, "get_order", 7)`."""

    def sync(server: ScriptedServer, method: str, *args: Any, **options: Any) -> Any:
        limits = options.pop("limits", None)
        with TracktorClient(
            uuid=UUID, api_key=KEY, base_url=server.address, limits=limits
        ) as client:
            return getattr(client, method)(*args, **options)

    def asynchronous(server: ScriptedServer, method: str, *args: Any, **options: Any) -> Any:
        async def run() -> Any:
            limits = options.pop("limits", None)
            async with AsyncTracktorClient(
                uuid=UUID, api_key=KEY, base_url=server.address, limits=limits
            ) as client:
                return await getattr(client, method)(*args, **options)

        return anyio.run(run)

    return sync if request.param == "sync" else asynchronous


@pytest.fixture
def _without_pauses() -> Iterator[None]:
    """Retry at once, up to eight times."""
    with stamina.set_testing(True, attempts=8, cap=True):
        yield


def test_a_request_has_the_api_key_and_the_account_in_its_path(call: Call) -> None:
    with ScriptedServer([ORDER]) as server:
        call(server, "get_order", 7)
    [request] = server.requests
    assert request.line == f"GET /{UUID}/orders/7.json"
    assert f"x-api-key: {KEY}" in request.headers
    assert "content-type: application/json" in request.headers


def test_an_update_sends_its_fields_as_json(call: Call) -> None:
    with ScriptedServer([answer()]) as server:
        call(server, "update_order", 7, status="Sewing", force=True)
    assert server.requests[0].line == f"POST /{UUID}/orders/7.json"
    assert server.requests[0].body == '{"order":{"status":"Sewing","force":true}}'


def test_call_sends_any_other_request(call: Call) -> None:
    with ScriptedServer([answer(body='{"notes": []}')]) as server:
        assert call(server, "call", "GET", "orders/7/notes.json") == {"notes": []}


TEMPORARY_FAILURES = {
    "dropped": DROP,
    "garbage": GARBAGE,
    "cut off": CUT_OFF,
    "HTML page": HTML,
    "empty": answer(body=""),
    "500": answer(500, "<html>"),
    "502": answer(502),
    "503": answer(503),
    "429": answer(429),
    "408": answer(408),
}


@pytest.mark.usefixtures("_without_pauses")
@pytest.mark.parametrize("failure", TEMPORARY_FAILURES.values(), ids=TEMPORARY_FAILURES.keys())
def test_a_read_is_retried_after_temporary_errors(call: Call, failure: bytes) -> None:
    with ScriptedServer([failure, failure, ORDER]) as server:
        assert call(server, "get_order", 7).order_id == 7
    assert len(server.requests) == 3


@pytest.mark.usefixtures("_without_pauses")
@pytest.mark.parametrize("failure", [DROP, CUT_OFF, HTML, answer(500), answer(429)])
def test_a_status_update_is_retried_after_temporary_errors(call: Call, failure: bytes) -> None:
    with ScriptedServer([failure, answer()]) as server:
        call(server, "update_order", 7, status="Sewing")
    assert len(server.requests) == 2


@pytest.mark.usefixtures("_without_pauses")
@pytest.mark.parametrize("failure", [DROP, GARBAGE, CUT_OFF, HTML, answer(500), answer(502)])
def test_a_webhook_creation_is_not_retried_if_it_may_have_succeeded(
    call: Call, failure: bytes
) -> None:
    with ScriptedServer([failure]) as server, pytest.raises(TracktorError):
        call(server, "create_webhook", topic="order/all", address=HOOK)
    assert len(server.requests) == 1


@pytest.mark.usefixtures("_without_pauses")
@pytest.mark.parametrize("refusal", [answer(429), answer(503)])
def test_a_webhook_creation_is_retried_after_a_429_or_503(call: Call, refusal: bytes) -> None:
    with ScriptedServer([refusal, answer(body='{"webhook": {"id": 3}}')]) as server:
        assert call(server, "create_webhook", topic="order/all", address=HOOK).id == 3
    assert len(server.requests) == 2


@pytest.mark.usefixtures("_without_pauses")
def test_a_404_for_a_retried_deletion_is_a_success(call: Call) -> None:
    with ScriptedServer([DROP, answer(404)]) as server:
        call(server, "delete_webhook", 3)
    assert len(server.requests) == 2


def test_deleting_an_unknown_webhook_raises_not_found(call: Call) -> None:
    with ScriptedServer([answer(404)]) as server, pytest.raises(NotFound):
        call(server, "delete_webhook", 3)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(401), AuthenticationError),
        (answer(404), NotFound),
        (answer(body='{"order_id": 8}'), InvalidResponse),
        (answer(302, headers="Location: https://evil.example\r\n"), InvalidResponse),
    ],
)
def test_permanent_errors_are_not_retried(
    call: Call, reply: bytes, kind: type[TracktorError]
) -> None:
    with ScriptedServer([reply]) as server, pytest.raises(kind):
        call(server, "get_order", 7)
    assert len(server.requests) == 1


def test_max_attempts_limits_the_retries(call: Call) -> None:
    with (
        stamina.set_testing(True, attempts=99, cap=True),
        ScriptedServer([answer(500)]) as server,
        pytest.raises(ServerError),
    ):
        call(server, "get_order", 7, limits=TransportLimits(max_attempts=3))
    assert len(server.requests) == 3


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_retry_waits_for_retry_after(call: Call, form: str) -> None:
    if form == "seconds":
        value, at_least = "1", 1.0
    else:
        # a date has whole seconds, so the wait may be up to a second shorter
        value, at_least = (
            format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True),
            0.9,
        )
    refusal = answer(429, headers=f"Retry-After: {value}\r\n")
    with ScriptedServer([refusal, ORDER]) as server:
        call(server, "get_order", 7)
    first, second = server.requests
    assert second.at - first.at >= at_least


def test_a_retry_after_beyond_the_budget_fails_at_once(call: Call) -> None:
    refusal = answer(429, headers="Retry-After: 3600\r\n")
    with ScriptedServer([refusal]) as server, pytest.raises(RateLimited, match="3600") as caught:
        call(server, "get_order", 7)
    assert caught.value.retry_after == timedelta(hours=1)
    assert len(server.requests) == 1


def test_a_budget_of_zero_seconds_allows_no_retry(call: Call) -> None:
    with ScriptedServer([answer(503), ORDER]) as server, pytest.raises(ServerError):
        call(server, "get_order", 7, limits=TransportLimits(retry_budget_seconds=0))
    assert len(server.requests) == 1


def test_a_call_that_is_not_retried_logs_no_wait(caplog: pytest.LogCaptureFixture) -> None:
    refusal = answer(429, headers="Retry-After: 3600\r\n")
    with (
        ScriptedServer([refusal]) as server,
        # a new account: others may have logged a wait within the last minute
        TracktorClient(uuid=uuid4().hex, api_key=KEY, base_url=server.address) as client,
        pytest.raises(RateLimited),
    ):
        client.get_order(7)
    assert "Waiting" not in caplog.text


def test_a_silent_server_causes_a_read_timeout(call: Call) -> None:
    limits = TransportLimits(read_timeout_seconds=0.1, max_attempts=1)
    with ScriptedServer([30.0]) as server, pytest.raises(APIConnectionError, match="in time"):
        call(server, "get_order", 7, limits=limits)


def test_an_unreachable_server_causes_a_connection_error(call: Call) -> None:
    with ScriptedServer([]) as gone:
        pass
    limits = TransportLimits(max_attempts=1)
    with pytest.raises(APIConnectionError, match="could not be reached") as caught:
        call(gone, "create_webhook", topic="order/all", address=HOOK, limits=limits)
    assert not caught.value.may_have_arrived


@pytest.mark.parametrize(
    ("beginning", "drop", "error", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" ", ServerError, "cut off"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 1000000\r\n\r\n", b" ", ServerError, "500"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", APIConnectionError, "in time"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", APIConnectionError, "in time"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", APIConnectionError, "in time"),
    ],
    ids=["body", "error body", "head", "continue", "hints"],
)
def test_the_call_timeout_ends_an_endless_response(
    call: Call, beginning: bytes, drop: bytes, error: type[TracktorError], words: str
) -> None:
    limits = TransportLimits(call_timeout_seconds=0.3, max_attempts=1)
    with DrippingServer(beginning, drop) as server:
        started = time.monotonic()
        with pytest.raises(error, match=words):
            call(server, "get_order", 7, limits=limits)
        assert time.monotonic() - started < 10


def zipped(data: bytes, times: int = 1) -> bytes:
    for _ in range(times):
        data = gzip.compress(data, mtime=0)
    return data


def encoded(body: bytes, coding: str, status: int = 200) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nContent-Encoding: {coding}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


@pytest.mark.parametrize(
    "reply",
    [
        encoded(zipped(b'{"order_id": 7}'), "gzip"),
        encoded(zipped(b'{"order_id": 7}'), "GZIP"),
        encoded(zipped(b'{"order_id": 7}'), "identity, x-gzip"),
        encoded(zlib.compress(b'{"order_id": 7}'), "deflate"),
        encoded(b'{"order_id": 7}', "identity"),
    ],
)
def test_a_response_may_be_compressed_once(call: Call, reply: bytes) -> None:
    with ScriptedServer([reply]) as server:
        assert call(server, "get_order", 7).order_id == 7


@pytest.mark.parametrize(
    "reply",
    [
        encoded(zipped(b'{"order_id": 7}', 2), "gzip, gzip"),
        encoded(zipped(b"0" * 100_000_000, 3), "gzip, gzip, gzip"),
        encoded(zipped(b" " * 100_000_000), "gzip"),
        encoded(zlib.compress(b" " * 100_000_000), "deflate"),
        encoded(b"\x0b\x02\x80", "br"),
        answer(body=" " * 5_000_000),
    ],
    ids=["gzip twice", "gzip thrice", "bomb", "deflate bomb", "br", "large"],
)
def test_oversized_responses_are_refused_and_not_retried(call: Call, reply: bytes) -> None:
    tracemalloc.start()
    try:
        with ScriptedServer([reply]) as server, pytest.raises(InvalidResponse, match="the resp"):
            call(server, "get_order", 7)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000
    assert len(server.requests) == 1


@pytest.mark.usefixtures("_without_pauses")
@pytest.mark.parametrize(
    "reply",
    [encoded(zipped(b'{"order_id": 7}')[:-9], "gzip"), encoded(b'{"order_id": 7}', "gzip")],
    ids=["too short", "not compressed"],
)
def test_a_response_that_cannot_be_decompressed_is_retried(call: Call, reply: bytes) -> None:
    with ScriptedServer([reply, ORDER]) as server:
        assert call(server, "get_order", 7).order_id == 7


@pytest.mark.parametrize(
    ("reply", "server_said"),
    [
        (answer(422, '{"error": "invalid status", "x": "' + "x" * 60_000_000), "invalid status"),
        (encoded(zipped(b'["' + b"x" * 60_000_000), "gzip", 422), ""),
        (encoded(b"not compressed", "gzip", 422), ""),
        (encoded(zipped(b"{}", 2), "gzip, gzip", 422), ""),
        (encoded(b"{}", "br", 422), ""),
    ],
    ids=["large", "bomb", "not compressed", "gzip twice", "br"],
)
def test_an_error_status_is_recognized_with_any_body(
    call: Call, reply: bytes, server_said: str
) -> None:
    started = time.monotonic()
    with (
        ScriptedServer([reply]) as server,
        pytest.raises(UnprocessableValue, match="422") as caught,
    ):
        call(server, "get_order", 7)
    assert caught.value.server_said == server_said
    assert time.monotonic() - started < 10


@pytest.mark.usefixtures("_without_pauses")
@pytest.mark.parametrize(
    "failure", [*TEMPORARY_FAILURES.values(), answer(401), answer(404), answer(422)]
)
def test_errors_and_logs_hold_no_key_and_no_customer_data(
    call: Call, failure: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedServer([failure]) as server, pytest.raises(TracktorError) as caught:
        call(server, "get_order", 7)
    error = caught.value
    visible = f"{error!r} {error} {error.__cause__!r} {error.__context__!r} {caplog.text}"
    visible += "".join(str(vars(record)) for record in caplog.records)
    for private in (KEY, "ada@", "Ada"):
        assert private not in visible
    assert UUID not in f"{error!r} {error}"
    assert "orders/7.json" in str(error)


def test_errors_can_be_pickled(call: Call) -> None:
    refusal = answer(429, headers="Retry-After: 3600\r\n")
    with ScriptedServer([refusal]) as server, pytest.raises(RateLimited) as caught:
        call(server, "get_order", 7)
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own error
    assert (str(copy), vars(copy)) == (str(caught.value), vars(caught.value))


@pytest.mark.parametrize("kind", [TracktorClient, AsyncTracktorClient])
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"uuid": "../admin"}, "uuid must be"),
        ({"uuid": "x" * 32}, "uuid must be"),
        ({"uuid": UUID + "\n"}, "uuid must be"),
        ({"api_key": ""}, "api_key is empty"),
        ({"api_key": "********"}, "asterisks only"),
        ({"api_key": "a\r\nx-evil: 1"}, "api_key has characters"),
        ({"base_url": "http://www.theshoppad.com"}, "base_url must be an https address"),
    ],
)
def test_invalid_client_arguments_are_refused(
    kind: type[TracktorClient] | type[AsyncTracktorClient], values: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem) as caught:
        kind(**({"uuid": UUID, "api_key": KEY} | values))
    assert all(value not in str(caught.value) for value in values.values() if len(value) > 10)


def test_the_repr_of_a_client_hides_its_account() -> None:
    assert repr(TracktorClient(uuid=UUID, api_key=KEY)) == "<TracktorClient>"


def test_the_sync_client_works_without_a_with_block() -> None:
    with ScriptedServer([ORDER]) as server:
        client = TracktorClient(uuid=UUID, api_key=KEY, base_url=server.address)
        assert client.get_order(7).order_id == 7
        client.close()


def test_all_clients_of_an_account_share_the_rate_limit() -> None:
    limits = TransportLimits(requests_per_second=5)

    def read(_number: int) -> None:
        with TracktorClient(
            uuid=UUID, api_key=KEY, base_url=server.address, limits=limits
        ) as client:
            client.get_order(7)

    begin = time.monotonic()
    with ScriptedServer([ORDER]) as server, ThreadPoolExecutor(8) as threads:
        list(threads.map(read, range(11)))
    # five start at once, and five in each further second, or later on a busy machine
    for number, request in enumerate(server.requests):
        assert request.at - begin >= number // 5


@pytest.mark.anyio
async def test_max_concurrency_limits_simultaneous_requests() -> None:
    under_way, most = 0, 0

    async def handle(stream: anyio.abc.SocketStream) -> None:
        nonlocal under_way, most
        async with stream:
            await stream.receive()
            under_way += 1
            most = max(most, under_way)
            await anyio.sleep(0.02)
            under_way -= 1
            await stream.send(ORDER)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with anyio.create_task_group() as server:
        server.start_soon(listener.serve, handle)
        limits = TransportLimits(max_concurrency=6)
        async with (
            AsyncTracktorClient(
                uuid=UUID, api_key=KEY, base_url=f"http://127.0.0.1:{port}", limits=limits
            ) as client,
            anyio.create_task_group() as calls,
        ):
            for _ in range(40):
                calls.start_soon(client.get_order, 7)
        server.cancel_scope.cancel()
    assert most == 6
