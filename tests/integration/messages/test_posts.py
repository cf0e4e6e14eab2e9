"""HTTP channels: the outcome of a notice by the service's response."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from prefect_tracktor import ChannelError, Condition, EmailTemplate, HttpChannel, Order
from prefect_tracktor.messages import post_channel
from prefect_tracktor.messages.channel import Content
from prefect_tracktor.messages.delivery import Delivery
from prefect_tracktor.messages.post_channel import PostChannel
from tests.support.http_service import HttpService
from tests.support.scripted import DROP, DrippingServer, ScriptedServer, answer

ADA = "ada@example.com"
ORDER = Order(order_id=1001, order_name="#1001", order_email=ADA, order_phone="+1555 0100")
CONTENT = Content(EmailTemplate(), (Condition("stalled"),))


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten timeouts and pauses."""
    monkeypatch.setattr(post_channel, "_SECONDS", 0.5)
    monkeypatch.setattr(post_channel, "_PAUSE_SECONDS", 0.01)


def channel_at(address: str, **options: Any) -> PostChannel:
    default = {
        "address": f"{address}/t0ken",
        "body": '{"name": "{{ order.order_name }}"}',
        "mode": "live",
        "headers": {"Authorization": "s3cret"},
    }
    return PostChannel(HttpChannel.model_validate(default | options), b"secret")


def post(channel: PostChannel, count: int = 1) -> Sequence[Delivery]:
    messages = [channel.message(ORDER, [], CONTENT, key=f"key {number}") for number in range(count)]
    with channel.session() as send:
        return send(messages)


def post_one(*responses: bytes | float, **options: Any) -> tuple[Delivery, ScriptedServer]:
    with ScriptedServer(responses) as server:
        [delivery] = post(channel_at(server.address, **options))
        return delivery, server


def test_a_repeated_notice_has_the_same_key() -> None:
    with HttpService().serving() as service:
        channel = channel_at(service.address)
        assert [delivery.outcome for delivery in post(channel, 2)] == ["sent", "sent"]
        post(channel)
    first, second, again = service.posted
    assert first.path == "/t0ken"
    assert first.body == '{"name": "#1001"}'
    assert first.headers["authorization"] == "s3cret"
    assert first.headers["content-type"] == "application/json"
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "sent"),
        (202, "sent"),
        (204, "sent"),
        (400, "refused"),
        (404, "refused"),
        (409, "refused"),
        (413, "refused"),
        (422, "refused"),
        (408, "deferred"),
        (425, "deferred"),
        (500, "deferred"),
        (502, "deferred"),
        (503, "deferred"),
        (504, "uncertain"),
        (524, "uncertain"),
        (600, "uncertain"),
    ],
)
def test_the_http_status_decides_the_outcome(status: int, outcome: str) -> None:
    body = '{"code": 21211, "message": "Invalid phone number +15550100 of ada@example.com"}'
    delivery, server = post_one(answer(status, body))
    assert delivery.outcome == outcome
    assert len(server.requests) == 1
    if outcome != "sent":
        assert f"answered {status} (code 21211)" in delivery.reason
        assert "Invalid" in delivery.reason
    assert "0100" not in delivery.reason
    assert "ada" not in delivery.reason


@pytest.mark.parametrize("status", [401, 402, 403, 407])
def test_a_refusal_of_the_account_is_an_error(status: int) -> None:
    with pytest.raises(ChannelError, match=rf"cannot be used.*{status}.*Check headers") as failed:
        post_one(answer(status, '{"error": "s3cret is wrong"}'))
    assert "s3cret" not in str(failed.value)
    assert "t0ken" not in str(failed.value)


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with HttpService().serving() as target:
        moved = answer(status, headers=f"Location: {target.address}/t0ken\r\n")
        with pytest.raises(ChannelError, match=rf"redirects \({status}\)"):
            post_one(moved)
        assert not target.posted


def test_only_success_statuses_mean_success() -> None:
    assert post_one(answer(202), success_statuses=[202, 409])[0].outcome == "sent"
    assert post_one(answer(409), success_statuses=[202, 409])[0].outcome == "sent"
    assert post_one(answer(200), success_statuses=[202, 409])[0].outcome == "uncertain"


@pytest.mark.parametrize(
    ("status", "outcome"), [(500, "uncertain"), (502, "uncertain"), (503, "deferred")]
)
def test_a_server_error_is_uncertain_without_an_idempotency_header(
    status: int, outcome: str
) -> None:
    assert post_one(answer(status), idempotency_header="")[0].outcome == outcome


def test_a_rate_limited_request_is_retried_with_the_same_key() -> None:
    began = time.monotonic()
    busy = answer(429, headers="Retry-After: 1\r\n")
    delivery, server = post_one(busy, answer(503, headers="Retry-After: 0\r\n"), answer(200))
    assert delivery.outcome == "sent"
    assert len(server.requests) == 3
    assert time.monotonic() - began >= 1
    keys = [
        request.headers.lower().partition("idempotency-key: ")[2][:32]
        for request in server.requests
    ]
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    "second", [answer(429, headers="Retry-After: 3600\r\n"), answer(400), answer(401)]
)
def test_a_notice_stays_unconfirmed_if_its_repetition_fails(second: bytes) -> None:
    delivery, server = post_one(answer(500, headers="Retry-After: 0\r\n"), second)
    assert len(server.requests) == 2
    assert (delivery.outcome, delivery.may_repeat) == ("deferred", True)


def test_a_long_retry_after_defers_the_notice() -> None:
    delivery, server = post_one(answer(429, headers="Retry-After: 3600\r\n"))
    assert delivery.outcome == "deferred"
    assert "asks to wait 3600 s" in delivery.reason
    assert "requests_per_second" in delivery.remedy
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "reply", [DROP, 2.0, b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"]
)
def test_a_break_after_the_request_is_uncertain(reply: bytes | float) -> None:
    delivery, server = post_one(reply)
    assert delivery.outcome == "uncertain"
    assert "may have been accepted" in delivery.reason
    assert len(server.requests) == 1


@pytest.mark.parametrize("beginning", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_endless_response_times_out(beginning: bytes) -> None:
    with DrippingServer(beginning, beginning if b"100" in beginning else b" ") as server:
        [delivery] = post(channel_at(server.address))
    assert delivery.outcome == "uncertain"


def test_an_endless_body_is_cut_off() -> None:
    with DrippingServer(
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", b"x" * 9000
    ) as server:
        [delivery] = post(channel_at(server.address))
    assert delivery.outcome == "sent"


def test_an_unreachable_service_is_an_error_before_posting() -> None:
    with pytest.raises(ChannelError, match=r"http://127\.0\.0\.1:9 does not answer") as failed:
        post(channel_at("http://127.0.0.1:9"))
    assert "t0ken" not in str(failed.value)
    with pytest.raises(ChannelError, match="does not answer"):
        channel_at("http://127.0.0.1:9").check()


def test_checking_a_channel_posts_nothing() -> None:
    with HttpService().serving() as service:
        channel_at(service.address).check()
        assert not service.posted


def test_logs_never_contain_the_secret_address(caplog: pytest.LogCaptureFixture) -> None:
    with HttpService().serving() as service, caplog.at_level(logging.DEBUG):
        channel = channel_at(service.address)
        channel.check()
        post(channel)
        assert "t0ken" not in caplog.text
        httpx.head(service.address)
    assert f"HTTP Request: HEAD {service.address}" in caplog.text


def test_cookies_are_not_sent_with_the_next_notice() -> None:
    with HttpService(headers={"Set-Cookie": "visitor=ada; Path=/"}).serving() as service:
        post(channel_at(service.address), 2)
    assert [request.headers.get("cookie") for request in service.posted] == [None, None]


def test_requests_keep_to_the_rate() -> None:
    with HttpService().serving() as service:
        began = time.monotonic()
        post(channel_at(service.address, requests_per_second=5), 7)
        assert time.monotonic() - began >= 1


def test_a_rehearsal_posts_to_the_rehearsal_address_only() -> None:
    with HttpService().serving() as service, HttpService().serving() as rehearsal:
        channel = channel_at(
            service.address, mode="rehearsal", rehearsal_address=f"{rehearsal.address}/r"
        )
        assert [delivery.outcome for delivery in post(channel)] == ["sent"]
        assert not service.posted
        assert rehearsal.posted[0].path == "/r"
        assert "authorization" not in rehearsal.posted[0].headers
        assert not channel.reaches_customers


def test_a_recipient_is_masked_and_hashed() -> None:
    channel = channel_at("https://hooks.example", recipient=" {{ order.order_phone }} ")
    message = channel.message(ORDER, [], CONTENT, key="k")
    assert message.recipient
    assert "0100" not in f"{message!r} {channel.masked_recipient(ORDER)}"
    assert not channel_at("https://hooks.example").message(ORDER, [], CONTENT, key="k").recipient
