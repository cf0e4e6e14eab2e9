"""API calls: requests, and how responses are parsed."""

import json
import logging
import pickle
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor import api
from prefect_tracktor.errors import (
    AuthenticationError,
    InvalidInput,
    InvalidResponse,
    NotFound,
    RateLimited,
    ServerError,
    TracktorError,
    UnprocessableValue,
)
from prefect_tracktor.http.call import ApiCall, Response, parse_response, retry_after
from prefect_tracktor.validation import checked_address

HOOK = "https://shop.example/hook"

PERSONAL_DATA = [
    "Ada Lovelace",
    "Maria Green",
    "Will Page",
    "Grant Price",
    "Tim O'Brien",
    "李雷",
    "12 Main Street",
    "Hauptstraße 17",
    "1Z999AA10123456784",
    "ada.lovelace@example.com",
    "ada-lovelace",
    "+49 30 1234567",
    "555-0199",
]


class NumpyLikeInteger:
    def __index__(self) -> int:
        return 7


def json_response(body: Any, status: int = 200) -> Response:
    return Response(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("api_call", "call", "body"),
    [
        (api.get_fulfillment(7), "GET fulfillments/7.json", None),
        (api.get_status_options(), "GET status-options.json", None),
        (api.get_order(1001), "GET orders/1001.json", None),
        (
            api.update_order(1001, status="Sewing", automatic_carrier_updates=False, force=True),
            "POST orders/1001.json",
            {"order": {"status": "Sewing", "automatic_carrier_updates": False, "force": True}},
        ),
        (api.list_webhooks(), "GET webhooks.json", None),
        (
            api.create_webhook(topic="order/all", address=HOOK),
            "POST webhooks.json",
            {"webhook": {"topic": "order/all", "address": HOOK}},
        ),
        (api.delete_webhook(3), "DELETE webhooks/3.json", None),
    ],
)
def test_each_call_has_the_documented_method_path_and_body(
    api_call: ApiCall[Any], call: str, body: Any
) -> None:
    assert api_call.request_line == call
    assert api_call.json == body


def test_an_order_can_be_handed_back_to_the_carrier_without_a_status() -> None:
    api_call = api.update_order(1, automatic_carrier_updates=True)
    assert api_call.json == {"order": {"automatic_carrier_updates": True}}


@pytest.mark.parametrize(
    "make",
    [
        api.get_order,
        api.get_fulfillment,
        lambda value: api.update_order(value, status="Sewing"),
    ],
)
@pytest.mark.parametrize(
    "value",
    [0, -1, True, "", "07", "-7", "٣", "7.5", "../7", "9" * 20, 7.5, 2.0**53, None, [7], 2**63],
)
def test_invalid_ids_are_refused(make: Callable[[Any], ApiCall[Any]], value: Any) -> None:
    with pytest.raises(InvalidInput, match="must be a positive whole number"):
        make(value)


@pytest.mark.parametrize("value", [0, -1, True, "", "../7", "7/8", 7.5, None, [7], "x" * 65])
def test_invalid_webhook_ids_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="webhook_id"):
        api.delete_webhook(value)


@pytest.mark.parametrize("value", [7, "7", " 7 ", 7.0, NumpyLikeInteger()])
def test_whole_numbers_of_any_type_are_order_ids(value: Any) -> None:
    assert api.get_order(value).path == "orders/7.json"


@pytest.mark.parametrize("values", [{}, {"force": True}, {"status": " "}, {"status": 5}])
def test_an_update_without_changes_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        api.update_order(1, **values)


def test_flags_must_be_booleans() -> None:
    with pytest.raises(InvalidInput, match="automatic_carrier_updates"):
        api.update_order(1, automatic_carrier_updates="no")  # type: ignore[arg-type]


def test_webhooks_are_created_for_documented_topics_only() -> None:
    with pytest.raises(InvalidInput, match="order/delivered"):
        api.create_webhook(topic="order/ordered", address=HOOK)


@pytest.mark.parametrize(
    "address",
    [
        "http://shop.example/hook",
        "ftp://shop.example",
        "https://user:password@shop.example",
        "https://shop.example/#part",
        "https://shop.example/a b",
        "https://shop.example\\@evil.example",
        "https://",
        "https://[::1",
        "//shop.example",
        "https://shop.example/\n",
        "http://127.0.0.1.evil.example",
        "",
    ],
)
def test_unsafe_webhook_addresses_are_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="address must be"):
        api.create_webhook(topic="order/all", address=address)


@pytest.mark.parametrize("address", ["http://localhost:1/a", "http://127.0.0.1", "http://[::1]:8/"])
def test_loopback_addresses_may_use_plain_http(address: str) -> None:
    assert checked_address(address, field="address") == address


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "../../other"),
        ("GET", "/orders"),
        ("GET", "https://evil.example"),
        ("GET", "orders/%2e%2e/x"),
        ("GET", "orders//x"),
        ("GET", "orders/1.json\n"),
        ("get", "orders"),
        ("TRACE", "orders"),
    ],
)
def test_any_call_refuses_other_methods_and_paths_outside_the_account(
    method: str, path: str
) -> None:
    with pytest.raises(InvalidInput):
        api.any_call(method, path)


def test_any_call_treats_a_post_as_not_idempotent() -> None:
    assert not api.any_call("POST", "notes.json", {"a": 1}).idempotent
    assert api.any_call("GET", "notes.json?page=2").idempotent


@pytest.mark.parametrize("body", [{"order": {"order_id": 7}}, {"order_id": "7"}])
def test_an_order_is_parsed_with_or_without_an_envelope(body: Any) -> None:
    assert parse_response(api.get_order(7), json_response(body)).order_id == 7


def test_a_response_about_another_order_is_refused() -> None:
    with pytest.raises(InvalidResponse, match="about another id"):
        parse_response(
            api.get_order(7), json_response({"order_id": 8, "order_email": "a@example.com"})
        )


def test_a_response_about_another_fulfillment_is_refused() -> None:
    with pytest.raises(InvalidResponse, match="about another id"):
        parse_response(
            api.get_fulfillment(7), json_response({"fulfillment": {"fulfillment_id": 8}})
        )


@pytest.mark.parametrize("body", [b"", b"   ", b'{"success": true}', b'{"order": {"order_id": 7}}'])
def test_an_update_accepts_any_successful_response(body: bytes) -> None:
    api_call = api.update_order(7, status="Sewing")
    assert parse_response(api_call, Response(200, {}, body)).order_id == 7


@pytest.mark.parametrize(
    "body",
    [
        ["Cutting", "Sewing"],
        {"status_options": ["Cutting", "Sewing"]},
        {"status_options": [{"label": "Cutting"}, {"name": "Sewing"}]},
        [{"key": "cutting", "label": "Cutting"}, {"key": "sewing", "label": "Sewing"}],
        {"cutting": "Cutting", "sewing": "Sewing"},
        {"cutting": {"label": "Cutting"}, "sewing": {"name": "Sewing"}},
        {"built_in": [{"label": "Cutting"}], "custom": {"sewing": {"label": "Sewing"}}},
        {"success": True, "options": {"0": {"label": "Cutting"}, "1": {"label": "Sewing"}}},
        {"data": {"default": {"cutting": "Cutting"}, "custom": ["Sewing"]}},
    ],
)
def test_status_options_are_parsed_in_any_shape(body: Any) -> None:
    options = parse_response(api.get_status_options(), json_response(body))
    assert [option.label for option in options] == ["Cutting", "Sewing"]


@pytest.mark.parametrize(
    "body",
    [
        {"webhooks": [{"id": 3, "topic": "order/all", "address": HOOK}]},
        [{"id": "3", "topic": "order/all", "url": HOOK}],
        [{"webhook": {"webhook_id": 3, "topic": "order/all", "address": HOOK}}],
        {"webhooks": {"3": {"id": 3, "topic": "order/all", "address": HOOK}}},
    ],
)
def test_webhooks_are_parsed_in_any_shape(body: Any) -> None:
    [webhook] = parse_response(api.list_webhooks(), json_response(body))
    assert (webhook.id, webhook.topic, webhook.address) == (3, "order/all", HOOK)


def test_a_webhook_with_an_undocumented_topic_is_parsed() -> None:
    body = [{"id": 3, "topic": "order/ordered", "address": HOOK}]
    assert parse_response(api.list_webhooks(), json_response(body))[0].topic == "order/ordered"


def test_the_response_for_a_created_webhook_needs_only_an_id() -> None:
    api_call = api.create_webhook(topic="order/all", address=HOOK)
    webhook = parse_response(api_call, json_response({"webhook": {"id": 9}}))
    assert (webhook.id, webhook.topic, webhook.address) == (9, "order/all", HOOK)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, InvalidResponse),
        (400, UnprocessableValue),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, NotFound),
        (408, ServerError),
        (409, UnprocessableValue),
        (422, UnprocessableValue),
        (429, RateLimited),
        (500, ServerError),
        (503, ServerError),
        (599, ServerError),
    ],
)
def test_each_http_status_raises_its_error(status: int, kind: type[TracktorError]) -> None:
    with pytest.raises(kind, match=rf"GET orders/7\.json.*{status}") as caught:
        parse_response(api.get_order(7), json_response({"error": "no such luck"}, status))
    assert "It said: 'no such …'" in str(caught.value)
    assert caught.value.status_code == status


@pytest.mark.parametrize("body", [b'{"order": {"order_id": 7, "or', b"<html>", b"", b"[" * 100_000])
def test_a_successful_response_without_json_is_a_server_error(body: bytes) -> None:
    with pytest.raises(ServerError, match="not JSON"):
        parse_response(api.get_order(7), Response(200, {}, body))


@pytest.mark.parametrize("body", [[], "text", 5, {"order": []}, {"order": {"order_id": "x"}}, None])
def test_json_of_an_unexpected_form_is_an_invalid_response(body: Any) -> None:
    with pytest.raises(InvalidResponse, match=r"GET orders/7\.json"):
        parse_response(api.get_order(7), json_response(body))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_errors_for_random_json_are_tracktor_errors_without_customer_data(body: Any) -> None:
    secret = "Zoë Secret"
    calls: list[ApiCall[Any]] = [
        api.get_order(7),
        api.get_fulfillment(7),
        api.get_status_options(),
        api.list_webhooks(),
        api.update_order(7, status="Sewing"),
    ]
    for api_call in calls:
        try:
            parse_response(api_call, json_response({"order": body, "order_email": secret}))
        except TracktorError as error:
            assert secret not in repr(error)


def test_the_servers_text_is_only_in_server_said() -> None:
    text = {"errors": {"email": ["unknown: ada@example.com, Ada Lovelace, +49 30 1234567, s3cret"]}}
    with pytest.raises(UnprocessableValue) as caught:
        parse_response(api.get_order(7), json_response(text, 422), secrets=("s3cret",))
    error = caught.value
    assert "It said: 'email: unknown: …'" in str(error)
    assert error.server_said == "email: unknown: [e-mail], Ada Lovelace, [phone], [hidden]"
    assert "Ada" not in f"{error} {error!r} {pickle.dumps(error)!r}"


def test_the_servers_text_is_logged_at_debug_level_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "prefect_tracktor")
    with pytest.raises(UnprocessableValue):
        parse_response(api.get_order(7), json_response({"error": "ask Ada Lovelace"}, 422))
    assert [(entry.levelname, "Ada" in entry.getMessage()) for entry in caplog.records] == [
        ("DEBUG", True)
    ]


@pytest.mark.parametrize("field", ["error", "errors", "message", "detail", "error_description"])
@given(words=st.lists(st.sampled_from(PERSONAL_DATA), min_size=1))
def test_error_messages_hold_no_personal_data_from_the_server(field: str, words: list[str]) -> None:
    text = "Error for " + " ".join(words)
    with pytest.raises(TracktorError) as caught:
        parse_response(api.get_order(7), json_response({field: text}, 400))
    for word in " ".join(words).split():
        assert word.strip(",") not in str(caught.value)


def test_a_long_text_of_the_server_is_shortened() -> None:
    with pytest.raises(ServerError) as caught:
        parse_response(api.get_order(7), json_response({"message": "invalid " * 5000}, 500))
    assert len(str(caught.value)) < 400
    assert len(caught.value.server_said) < 400


def test_only_the_beginning_of_a_large_error_body_is_parsed() -> None:
    body = b'{"message": "' + b"1 " * 30_000_000 + b'"}'
    started = time.monotonic()
    with pytest.raises(ServerError):
        parse_response(api.get_order(7), Response(500, {}, body))
    assert time.monotonic() - started < 5


def test_other_fields_of_an_error_body_are_not_quoted() -> None:
    with pytest.raises(ServerError) as caught:
        parse_response(api.get_order(7), json_response({"customer": "Ada Lovelace"}, 500))
    assert "Ada" not in str(caught.value)


def test_the_title_of_an_html_error_page_is_quoted() -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head><body>Ada</body></html>"
    with pytest.raises(ServerError, match="502 Bad Gateway") as caught:
        parse_response(api.get_order(7), Response(502, {}, page))
    assert "Ada" not in str(caught.value)


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("7", timedelta(seconds=7)),
        ("0", timedelta(0)),
        ("1.5", timedelta(seconds=1.5)),
        ("-3", timedelta(0)),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), timedelta(seconds=90)),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), timedelta(0)),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("9" * 20, None),
        ("9" * 5000, None),
        (f"Sun, 06 Nov {'9' * 20} 08:49:37 GMT", None),
        (f"Sun, {'9' * 20} Nov 2026 08:49:37 GMT", None),
        (f"Sun, 06 Nov 2026 08:49:{'9' * 20} GMT", None),
        (f"Sun, 06 Nov 2026 08:49:37 +{'9' * 20}", None),
        (
            "Fri, 31 Dec 9999 23:59:59 -2359",
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - NOW + timedelta(hours=23, minutes=59),
        ),
    ],
)
def test_retry_after_is_parsed_as_seconds_or_as_a_date(value: str, wait: timedelta | None) -> None:
    assert retry_after({"retry-after": value}, now=NOW) == wait


@given(st.text())
def test_any_retry_after_text_gives_a_wait_or_none(value: str) -> None:
    wait = retry_after({"retry-after": value})
    assert wait is None or wait >= timedelta(0)


@pytest.mark.parametrize(
    ("status", "acted"), [(429, False), (503, False), (500, True), (504, True)]
)
def test_only_a_429_or_503_means_that_the_request_had_no_effect(status: int, acted: bool) -> None:
    with pytest.raises(TracktorError) as caught:
        parse_response(
            api.create_webhook(topic="order/all", address=HOOK), Response(status, {}, b"")
        )
    assert caught.value.may_have_arrived is acted


INVALID_NEEDS: list[Any] = [
    "fulfillments", b"fulfillments", None, 5, {"fulfillments": 1}, {"fulfilments"},
    {"order_id", "fulfillments.shipment_state"}, {"order_name.first"}, [["order_id"]], [None],
    iter(["fulfillments"]),
]  # fmt: skip


@pytest.mark.parametrize("needs", INVALID_NEEDS)
def test_needs_must_be_names_of_fields(needs: Any) -> None:
    # the letters of a text are names of no field
    with pytest.raises(InvalidInput, match="needs"):
        api.get_order(1, needs=needs)


def test_needs_may_name_nested_fields() -> None:
    parcel = {"fulfillment_id": 7, "latest_status": {"datetime": "soon"}}
    body = {"order_id": 1, "fulfillments": [parcel]}
    assert api.get_order(1).read(body).order_id == 1
    for needs in (["fulfillments.latest_status.datetime"], {"fulfillments.latest_status.datetime"}):
        with pytest.raises(ValueError, match="datetime"):
            api.get_order(1, needs=needs).read(body)


@pytest.mark.parametrize("webhook_id", [" 3 ", 3.0, NumpyLikeInteger()])
def test_a_webhook_id_is_normalized_in_the_path(webhook_id: Any) -> None:
    expected = 7 if isinstance(webhook_id, NumpyLikeInteger) else 3
    assert api.delete_webhook(webhook_id).path == f"webhooks/{expected}.json"


@pytest.mark.parametrize(
    ("method", "path", "json"),
    [
        ("GET", "orders/" + "7" * 70_000, None),
        (["GET"], "webhooks.json", None),
        ("POST", "webhooks.json", {"price": float("nan")}),
        ("POST", "webhooks.json", [float("inf")]),
        ("GET", ["ada@example.com"], None),
        ("ada@example.com", "webhooks.json", None),
    ],
)
def test_any_call_refuses_values_that_cannot_be_sent(method: Any, path: Any, json: Any) -> None:
    with pytest.raises(InvalidInput) as refusal:
        api.any_call(method, path, json)
    assert "ada@" not in str(refusal.value)
