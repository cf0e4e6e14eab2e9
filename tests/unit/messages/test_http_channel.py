"""`HttpChannel`: body, headers, rehearsal, validation."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor import Condition, Fulfillment, HttpChannel, Mode, NotificationRule, Order
from prefect_tracktor.errors import TemplateError

ADDRESS = "https://hooks.example/t0ken"
SINCE = datetime(2026, 11, 24, 8, tzinfo=UTC)


def channel(body: str = "{}", **options: Any) -> HttpChannel:
    return HttpChannel.model_validate({"address": ADDRESS, "body": body} | options)


def rendered(block: HttpChannel, **order: Any) -> bytes:
    default = {"order_id": 1001, "order_name": "#1001", "order_email": "ada@example.com"}
    parcel = Fulfillment(fulfillment_id=7, shop_url="shop.example", tracking_number="AB1")
    condition = Condition("exception:expired", parcel, SINCE)
    return block.render(Order.model_validate(default | order), [parcel], [condition], key="k3y")


def test_a_mode_set_on_a_copy_selects_the_address() -> None:
    block = channel(rehearsal_address="https://bin.example/x")
    rehearsal = block.model_copy(update={"mode": "rehearsal"})
    assert (rehearsal.target, rehearsal.is_live) == ("https://bin.example/x", False)
    assert block.model_copy(update={"mode": "live"}).is_live


def test_a_refused_assignment_changes_nothing() -> None:
    block = channel(rehearsal_address="https://bin.example/x")
    before = block.model_copy()
    for field, value in {"rehearsal_address": ADDRESS, "idempotency_header": "a b"}.items():
        with pytest.raises(ValidationError):
            setattr(block, field, value)
    assert block == before


def test_a_new_channel_is_in_dry_run() -> None:
    assert channel().mode is Mode.DRY_RUN


def test_the_body_template_has_order_parcels_and_condition() -> None:
    body = """{
      "event": "{{ condition.label }}", "since": {{ condition.since | tojson }},
      "order": "{{ order.order_name }}", "value": {{ order.total_price }},
      "parcels": [{% for parcel in fulfillments %}
        {"number": {{ parcel.tracking_number | tojson }}}{{ "," if not loop.last }}
      {% endfor %}],
      "phone": "{{ order.order_phone }}", "none": {{ order.order_phone | tojson }},
      "page": "{{ tracking_page }}", "id": "{{ key }}"
    }"""
    assert json.loads(rendered(channel(body), total_price="59.90")) == {
        "event": "Tracking Expired",
        "since": "2026-11-24T08:00:00+00:00",
        "order": "#1001",
        "value": 59.9,
        "parcels": [{"number": "AB1"}],
        "phone": "",
        "none": None,
        "page": "https://shop.example/apps/tracktor/track?order=%231001&email=ada%40example.com",
        "id": "k3y",
    }


@pytest.mark.parametrize("expression", ["order.order_name", "order.order_name ~ ''"])
@pytest.mark.parametrize(
    "name", ['x", "to": "all', "\\", '\\"', "{{ key }}", "a\nb", "a\u2028b", "é"]
)
def test_an_order_name_stays_inside_its_json_string(name: str, expression: str) -> None:
    body = f'{{"name": "{{{{ {expression} }}}}", "end": 1}}'
    assert json.loads(rendered(channel(body), order_name=name)) == {"name": name, "end": 1}


@given(st.text(min_size=1))
def test_no_text_can_change_the_json_structure(name: str) -> None:
    body = '{"a": "{{ order.order_name }}", "b": {{ order.order_name | tojson }}}'
    order = Order(order_id=1, order_name=name)
    data = json.loads(channel(body).render(order, [], [Condition("stalled")], key="k"))
    assert data.keys() == {"a", "b"}
    assert data["b"] in (data["a"], None)


@pytest.mark.parametrize(
    "filtered", ["| safe", "| e", "| forceescape", "| urlize", "| upper | safe"]
)
def test_no_filter_can_break_out_of_a_json_string(filtered: str) -> None:
    body = f'{{"name": "{{{{ order.order_name {filtered} }}}}"}}'
    try:
        data = json.loads(rendered(channel(body), order_name='x", "to": "all\\'))
    except TemplateError:
        return
    assert data.keys() == {"name"}


def test_a_json_object_becomes_a_form() -> None:
    body = (
        '{"To": "{{ recipient }}", "Body": "{{ order.order_name }} & more",'
        ' "n": 1, "t": true, "x": null}'
    )
    form = "application/x-www-form-urlencoded"
    block = channel(body, content_type=form, recipient="{{ order.order_phone }}")
    assert parse_qs(rendered(block, order_phone="+15550100").decode()) == {
        "To": ["+15550100"],
        "Body": ["#1001 & more"],
        "n": ["1"],
        "t": ["true"],
    }
    for nested in ('{"a": [1]}', "[1]", '{"a": {}}'):
        with pytest.raises(TemplateError, match="a form is an object of texts"):
            rendered(channel(nested, content_type=form))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('{"a": {{ order.order_name }}}', "line 1 of the result is not JSON"),
        ('{"a": NaN}', "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"a": "{{ order.nick_name }}"}', "line 1: unknown name nick_name"),
        ('{"a": {{ order | tojson }}}', "line 1: TypeError"),
        ("{{ range(99999) | join }}" * 99, "longer than|more than any message needs"),
    ],
)
def test_a_body_error_names_the_place_but_no_customer(body: str, problem: str) -> None:
    with pytest.raises(TemplateError, match=problem) as failed:
        rendered(channel(body), order_name="Ada")
    assert "HttpChannel's body fails for order 1001" in str(failed.value)
    assert "Ada" not in str(failed.value)


def test_headers_contain_the_key_and_the_blocks_headers() -> None:
    block = channel(headers={"Authorization": "Basic s3cret"})
    assert block.headers_for("k") == {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "Idempotency-Key": "k",
        "Authorization": "Basic s3cret",
    }
    assert "Idempotency-Key" not in channel(idempotency_header="").headers_for("k")
    assert "s3cret" not in repr(block)
    assert "t0ken" not in repr(block)


def test_a_rehearsal_at_another_host_gets_no_secret_headers() -> None:
    secret: dict[str, Any] = {"headers": {"Authorization": "s3cret"}, "mode": "rehearsal"}
    other = channel(rehearsal_address="https://bin.example/x", **secret)
    assert "Authorization" not in other.headers_for("k")
    same = channel(rehearsal_address="https://hooks.example/other", **secret)
    assert same.headers_for("k")["Authorization"] == "s3cret"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"address": ""}, "address must be an https"),
        ({"address": "http://hooks.example/t0ken"}, "address must be an https"),
        ({"address": "https://u:t0ken@hooks.example"}, "without user name"),
        ({"address": "********"}, "asterisks"),
        ({"rehearsal_address": "http://bin.example"}, "rehearsal_address must be an https"),
        ({"mode": "rehearsal"}, "rehearsal_address is empty"),
        ({"rehearsal_address": ADDRESS}, "must be another address"),
        (
            {
                "rehearsal_address": "https://HOOKS.example:443/x",
                "recipient": "{{ order.order_phone }}",
            },
            "at another host",
        ),
        (
            {
                "rehearsal_address": "https://hooks.example/other",
                "body": '{"userId": "{{ order.order_email or order.order_id }}"}',
            },
            "at another host",
        ),
        ({"rehearsal_address": "https://HOOKS.example:443/t0ken"}, "must be another address"),
        ({"body": "{{ customer }}"}, "unknown name customer"),
        ({"body": "{{ order"}, "body, line 1"),
        ({"body": "{% include 'x' %}"}, "stands alone"),
        ({"recipient": "{{ key }}"}, "unknown name key"),
        ({"headers": {"X": "t0ken\r\nY: 1"}}, "value of X must be"),
        ({"headers": {"X\r\nY": "1"}}, "headers: remove"),
        ({"headers": {"Content-Length": "1"}}, "headers: remove 'Content-Length'"),
        ({"headers": {"X": 1}}, "value of X must be"),
        ({"content_type": "text/plain"}, "content_type must be"),
        ({"idempotency_header": "a b"}, "idempotency_header must be"),
        ({"headers": {"idempotency-key": "t0ken"}}, "headers: remove the one that"),
        (
            {"headers": {"X-Id": "t0ken"}, "idempotency_header": "x-id"},
            "headers: remove the one that",
        ),
        ({"success_statuses": [302]}, "success_statuses"),
        ({"success_statuses": [401]}, "success_statuses"),
        ({"method": "GET"}, "method"),
        ({"requests_per_second": -1}, "requests_per_second"),
    ],
)
def test_invalid_fields_are_refused_without_repeating_secrets(
    options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem) as refused:
        channel(**options)
    assert "t0ken" not in str(refused.value)


def test_a_rule_with_a_channel_takes_no_template() -> None:
    with pytest.raises(ValidationError, match="write the text into the channel's body"):
        NotificationRule.model_validate(
            {"name": "x", "when": ["stalled"], "channel": channel(), "template": {}}
        )
