"""Template for Prefect Cloud: the same events as from the receiver, for any delivery."""

import asyncio
import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import ChainableUndefined
from prefect.events import Event
from prefect.server.utilities.user_templates import (
    UserTemplateEnvironment,
    render_user_template,
    render_user_template_sync,
    validate_user_template,
)
from pydantic_core import to_json

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.events import fulfillment_event, order_event
from prefect_tracktor.events.schema import read_delivery
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.sandbox import ResponseFormat, Shop
from prefect_tracktor.webhooks import cloud_webhook_template

ACCOUNT = "b6ef35fe18ed39251365"
TEMPLATE = cloud_webhook_template(ACCOUNT)
# as Prefect renders it, but compiled once
COMPILED = UserTemplateEnvironment(undefined=ChainableUndefined).from_string(TEMPLATE)
NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
HOSTILE = (
    '"',
    "\\",
    "\n}",
    "{{ body }}",
    "{% raw %}",
    "</script><script>alert(1)</script>",
    "\x00\u2028\u202e",
    "a*[?]",
    "🚚",
    "İI ß ﬁ",
    "x" * 10_000,
)

texts = st.text(max_size=300) | st.sampled_from(HOSTILE)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
ids = st.integers(min_value=1, max_value=2**63 - 1)
statuses = st.sampled_from(["order_ready", "in_transit", "out_for_delivery", "delivered"]) | texts
# for other spellings, the receiver has the key, and the template the delivered value
exceptions = st.sampled_from(["expired", "not_found", "cancelled", "customs_hold", ""])
steps = st.fixed_dictionaries({}, optional={"key": statuses, "label": texts})


def optional_fields(**fields: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    return {name: st.none() | value for name, value in fields.items()}


parcels = st.fixed_dictionaries(
    {"fulfillment_id": ids | ids.map(str)},
    optional=optional_fields(
        order_id=ids | ids.map(str),
        order_name=texts,
        shipment_status=statuses,
        exception_status=exceptions,
        carrier=st.fixed_dictionaries({}, optional={"slug": texts}) | texts,
        latest_status=steps,
    ),
)
orders = st.fixed_dictionaries(
    {"order_id": ids | ids.map(str)},
    optional=optional_fields(
        order_name=texts,
        order_email=texts,
        statuses=st.lists(statuses, max_size=60) | st.dictionaries(texts, statuses, max_size=3),
        exception_statuses=st.lists(exceptions, max_size=60),
    ),
)
fields = st.sampled_from(
    ["order", "fulfillment", "order_id", "fulfillment_id", "statuses", "carrier", "latest_status"]
)


def rendered(body: Any) -> Any:
    text = COMPILED.render({"body": body, "headers": {}, "method": "POST"})
    return json.loads(text, parse_constant=pytest.fail)


def fields_of(event: Event) -> dict[str, Any]:
    fields_of = event.model_dump(mode="json", include={"event", "resource", "related", "payload"})
    # the template leaves out fields for readers, as users of its events read the parcel again
    for_readers = ("shop", "status_label", "exception_label", "carrier_name", "order_url")
    fields_of["payload"] = {k: v for k, v in fields_of["payload"].items() if k not in for_readers}
    return fields_of


def wrapped_or_not(kind: str, delivery: Any) -> list[Any]:
    return [delivery, {kind: delivery}]


@given(parcel=parcels)
@example(parcel={"fulfillment_id": 7, "shipment_status": "{{ 7 * 7 }}", "order_name": '"}'})
def test_the_cloud_template_gives_the_receivers_event_for_a_parcel(parcel: dict[str, Any]) -> None:
    event = fulfillment_event(Fulfillment.model_validate(parcel), account=ACCOUNT, received=NOW)
    for body in wrapped_or_not("fulfillment", parcel):
        assert rendered(body) == fields_of(event)


@given(order=orders)
@example(order={"order_id": 7, "statuses": ["delivered", "in_transit", "delivered"]})
@example(order={"order_id": 7, "statuses": ["delivered", "Sewing"]})
def test_the_cloud_template_gives_the_receivers_event_for_an_order(order: dict[str, Any]) -> None:
    event = order_event(Order.model_validate(order), account=ACCOUNT, received=NOW)
    for body in wrapped_or_not("order", order):
        assert rendered(body) == fields_of(event)


@given(body=st.dictionaries(fields | texts, anything, max_size=6) | anything)
@example(body={"order_id": 1.0})
@example(body={"order_id": 9_000_000_000_000_000.0})
@example(body={"order_id": {"$numberLong": "7"}})
def test_the_cloud_template_gives_a_valid_event_for_any_body(body: Any) -> None:
    event = Event.model_validate(rendered(body))
    try:
        subject = read_delivery(to_json(body))
    except InvalidInput:
        assert event.event == "tracktor.delivery.unreadable"
        assert event.resource.id == f"tracktor.shop.{ACCOUNT}"
        assert event.payload == {}
    else:
        if event.event != "tracktor.delivery.unreadable":
            assert event.resource.id == subject.resource_id
        else:
            # the receiver also reads ids in the forms of databases
            assert not is_number(body, f"{subject.kind}_id")


def is_number(body: Any, name: str) -> bool:
    """Whether a delivery has an id as a number or in digits."""
    inner = body.get(name.removesuffix("_id"))
    value = (inner if isinstance(inner, dict) else body).get(name)
    return isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal())


@pytest.mark.parametrize(
    "shape",
    [
        ResponseFormat(),
        ResponseFormat(wrapped=False, numbers_as_strings=True, empty_strings_for_null=True),
        ResponseFormat(status_as_object=True, times_without_offset=True),
    ],
)
def test_the_cloud_template_gives_the_receivers_events_for_sandbox_deliveries(
    shape: ResponseFormat,
) -> None:
    shop = Shop(orders=60, expired=10)
    for order_id in shop.order_ids:
        order = shop.order(order_id)
        expected = order_event(Order.model_validate(order), account=ACCOUNT, received=NOW)
        assert rendered(shape.shaped("order", order)) == fields_of(expected)
        for parcel in order["fulfillments"]:
            read = Fulfillment.model_validate(parcel)
            expected = fulfillment_event(read, account=ACCOUNT, received=NOW)
            assert rendered(shape.shaped("fulfillment", parcel)) == fields_of(expected)


def test_the_cloud_template_emits_no_customer_data() -> None:
    shop = Shop(orders=30)
    for order_id in shop.order_ids:
        order = shop.order(order_id)
        text = json.dumps([rendered(order), *map(rendered, order["fulfillments"])])
        personal = [order["order_email"], order["order_phone"], order["customer_last_name"]]
        personal += [parcel["tracking_number"] for parcel in order["fulfillments"]]
        assert not [value for value in personal if value and value in text]


def test_prefect_validates_and_renders_the_cloud_template() -> None:
    validate_user_template(TEMPLATE)
    body = {"fulfillment_id": 7, "shipment_status": "Gravur läuft"}
    sync = render_user_template_sync(TEMPLATE, {"body": body})
    assert asyncio.run(render_user_template(TEMPLATE, {"body": body})) == sync
    assert json.loads(sync) == rendered(body)
    assert json.loads(sync)["event"] == "tracktor.fulfillment.gravur_läuft"


def test_the_cloud_template_refuses_an_invalid_account_name() -> None:
    with pytest.raises(InvalidInput, match="account must be the name"):
        cloud_webhook_template("'}}{{ body }}")
