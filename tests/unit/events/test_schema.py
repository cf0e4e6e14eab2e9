"""Event schema: names, resources, payloads and ids."""

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor.conditions import Condition, conditions_of
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.events import (
    Kind,
    Subject,
    condition_event,
    condition_event_name,
    event_name,
    fulfillment_event,
    order_event,
    status_slug,
)
from prefect_tracktor.events.schema import least_advanced, read_delivery
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.thresholds import Thresholds

ACCOUNT = "b6ef35fe18ed39251365"
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
LONG_KEY = "engraved_polished_packed_labelled_and_ready_to_be_handed_ove"
DELIVERED = {"key": "delivered", "label": "Delivered", "datetime": "2026-11-20T10:00:00+01:00"}


def parcel(**fields: Any) -> Fulfillment:
    usual = {
        "fulfillment_id": 7,
        "order_id": 1001,
        "order_name": "#1001",
        "shipment_status": "delivered",
        "tracking_number": "1Z999",
        "carrier": {"slug": "ups", "name": "UPS"},
        "latest_status": DELIVERED,
    }
    return Fulfillment.model_validate(usual | fields)


def order(*parcels: dict[str, Any], **fields: Any) -> Order:
    return Order.model_validate({"order_id": 1001, "fulfillments": parcels} | fields)


def step(key: str, day: int) -> dict[str, str]:
    return {"key": key, "datetime": f"2026-11-{day:02}T10:00:00Z"}


def of_parcel(**fields: Any) -> Any:
    return fulfillment_event(parcel(**fields), account=ACCOUNT, received=NOW)


def of_exception(*, received: dt.datetime = NOW, **fields: Any) -> Any:
    found = parcel(**fields)
    condition = Condition(f"exception:{found.exception_status}", found)
    return condition_event(order(), condition, account=ACCOUNT, received=received)


def of_order(*parcels: dict[str, Any], **fields: Any) -> Any:
    return order_event(order(*parcels, **fields), account=ACCOUNT, received=NOW)


def test_a_parcel_event_has_its_status_order_and_shop() -> None:
    event = of_parcel()
    assert event.event == "tracktor.fulfillment.delivered"
    assert event.resource.root == {
        "prefect.resource.id": "tracktor.fulfillment.7",
        "prefect.resource.name": "#1001, parcel 7",
    }
    assert [(related.role, related.id) for related in event.related] == [
        ("order", "tracktor.order.1001"),
        ("shop", f"tracktor.shop.{ACCOUNT}"),
    ]
    assert event.payload == {
        "order_id": 1001,
        "fulfillment_id": 7,
        "order_name": "#1001",
        "shipment_status": "delivered",
        "exception_status": None,
        "carrier": "ups",
        "shop": None,
        "status_label": "Delivered",
        "exception_label": None,
        "carrier_name": "UPS",
        "order_url": None,
    }
    assert event.occurred == dt.datetime(2026, 11, 20, 9, tzinfo=dt.UTC)


def test_a_parcel_event_needs_only_the_parcels_id() -> None:
    event = fulfillment_event(Fulfillment(fulfillment_id=7), account=ACCOUNT, received=NOW)
    assert event.event == "tracktor.fulfillment.pre_transit"
    assert event.resource.name == "tracktor.fulfillment.7"
    assert [related.role for related in event.related] == ["shop"]
    assert event.occurred == NOW


def test_the_same_status_has_the_same_event_id_whenever_it_is_received() -> None:
    later = fulfillment_event(parcel(), account=ACCOUNT, received=NOW + dt.timedelta(days=3))
    in_utc = of_parcel(latest_status=DELIVERED | {"datetime": "2026-11-20T09:00:00Z"})
    assert of_parcel().id == later.id == in_utc.id == of_parcel(order_name="#1").id


@pytest.mark.parametrize(
    "changed",
    [
        {"fulfillment_id": 8},
        {"shipment_status": "in_transit", "latest_status": step("in_transit", 20)},
        {"latest_status": DELIVERED | {"datetime": "2026-11-21T10:00:00+01:00"}},
    ],
)
def test_another_parcel_status_or_time_has_another_event_id(changed: dict[str, Any]) -> None:
    assert of_parcel(**changed).id != of_parcel().id


@pytest.mark.parametrize(
    "fields",
    [
        {"shipment_status": None, "latest_status": step("in_transit", 20)},
        {"shipment_status": None, "latest_status": {"label": "In transit"}},
        {"shipment_status": "In transit", "latest_status": None},
        {"shipment_status": "in_transit", "latest_status": DELIVERED},
        {"shipment_status": None, "latest_status": {"label": "Delivered"}},
    ],
)
def test_events_and_flows_use_the_same_status(fields: dict[str, Any]) -> None:
    assert of_parcel(**fields).event == f"tracktor.fulfillment.{parcel(**fields).current_status}"


def test_event_ids_differ_by_account_and_kind() -> None:
    elsewhere = fulfillment_event(parcel(), account="another", received=NOW)
    exception = of_exception(exception_status="delivered")
    of_an_order = of_order(order_id=7, statuses=["delivered"])
    assert len({of_parcel().id, elsewhere.id, exception.id, of_an_order.id}) == 4


@pytest.mark.parametrize(
    "time", ["2026-12-24T10:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]
)
def test_an_impossible_time_is_replaced_by_the_time_of_receipt(time: str) -> None:
    assert of_parcel(latest_status=DELIVERED | {"datetime": time}).occurred == NOW


def test_a_custom_status_finds_its_time_by_the_steps_label() -> None:
    own = {"key": "c-17", "label": "Ready for pickup", "datetime": "2026-11-19T08:00:00Z"}
    event = of_parcel(shipment_status="Ready for pickup", status=[own], latest_status=own)
    assert event.event == "tracktor.fulfillment.ready_for_pickup"
    assert event.occurred == dt.datetime(2026, 11, 19, 8, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("status", "slug"),
    [
        ("in_transit", "in_transit"),
        ("Out for Delivery", "out_for_delivery"),
        ("  Sewing / Cutting!  ", "sewing_cutting"),
        ("準備中", "準備中"),
        ("a.b*[c]?", "a_b_c"),
        ("🚚", "custom"),
        ("", "pre_transit"),
        (None, "pre_transit"),
        ("x" * 500, "x" * 60),
        # a trigger has the key of a status, and an event its label
        ("Engraved --- polished, packed, labelled --- and ready to be handed over", LONG_KEY),
        (LONG_KEY + "_to_be_handed_over", LONG_KEY),
    ],
)
def test_status_slug_keeps_letters_and_digits_in_lower_case(status: str | None, slug: str) -> None:
    assert status_slug(status) == slug


@given(st.text())
def test_a_status_slug_has_no_dots_blanks_or_wildcards(status: str) -> None:
    slug = status_slug(status)
    assert slug
    assert slug == status_slug(slug)
    assert not set(slug) & set(". *?[]!{}\"'\n")


def test_event_names_accept_a_wildcard() -> None:
    assert event_name(Kind.ORDER, "*") == "tracktor.order.*"
    assert condition_event_name("exception:all") == "tracktor.fulfillment.exception.*"


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["delivered", "delivered"], "delivered"),
        (["delivered", "in_transit"], "in_transit"),
        (["out_for_delivery", "order_ready"], "order_ready"),
        (["delivered", "Sewing", "Cutting"], "Sewing"),
        ([], None),
    ],
)
def test_an_order_has_the_status_of_its_least_advanced_parcel(
    statuses: list[str], status: str | None
) -> None:
    assert least_advanced(statuses) == status


def test_an_order_reaches_a_status_when_its_last_parcel_does() -> None:
    first = {"fulfillment_id": 1, "status": [step("in_transit", 1), step("delivered", 5)]}
    second = {"fulfillment_id": 2, "status": [step("in_transit", 3), step("delivered", 9)]}
    event = of_order(first, second, statuses=["delivered", "delivered"])
    assert event.event == "tracktor.order.delivered"
    assert event.occurred == dt.datetime(2026, 11, 9, 10, tzinfo=dt.UTC)


def test_an_order_event_id_ignores_progress_of_single_parcels() -> None:
    moved = {"fulfillment_id": 1, "status": [step("in_transit", 1), step("delivered", 5)]}
    behind = {"fulfillment_id": 2, "status": [step("in_transit", 3)]}
    before = {"fulfillment_id": 1, "status": [step("in_transit", 1)]}
    then = of_order(before, behind, statuses=["in_transit", "in_transit"])
    now = of_order(moved, behind, statuses=["delivered", "in_transit"])
    assert then.id == now.id


def test_an_exception_event_occurs_when_the_exception_is_found() -> None:
    event = of_exception(exception_status="expired")
    assert event.event == "tracktor.fulfillment.exception.expired"
    assert event.occurred == NOW
    later = NOW + dt.timedelta(hours=6)
    assert of_exception(exception_status="expired", received=later).id == event.id


def test_an_event_payload_has_labels_and_a_link_for_readers() -> None:
    event = of_exception(
        exception_status="undelivered", shop_url="https://your-store.myshopify.com/?token=x"
    )
    assert event.payload["shop"] == "your-store"
    assert event.payload["exception_label"] == "Failed Attempt"
    assert event.payload["order_url"] == "https://admin.shopify.com/store/your-store/orders/1001"


@pytest.mark.parametrize(
    ("condition", "event", "resource"),
    [
        ("stalled", "tracktor.fulfillment.delay.stalled", "tracktor.fulfillment.7"),
        ("exception:expired", "tracktor.fulfillment.exception.expired", "tracktor.fulfillment.7"),
        ("status:stalled", "tracktor.fulfillment.stalled", "tracktor.fulfillment.7"),
    ],
)
def test_a_parcel_condition_gives_a_fulfillment_event(
    condition: str, event: str, resource: str
) -> None:
    # a custom status may have the name of a delay
    one = parcel(exception_status="expired", shipment_status="Stalled", latest_status=None)
    found = condition_event(order(), Condition(condition, one), account=ACCOUNT, received=NOW)
    assert (found.event, found.resource.id) == (event, resource)


def test_an_order_condition_gives_an_event_at_its_start() -> None:
    since = NOW - dt.timedelta(days=2)
    late = Condition("not_shipped", None, since)
    found = condition_event(order(), late, account=ACCOUNT, received=NOW)
    assert (found.event, found.resource.id) == (
        "tracktor.order.delay.not_shipped",
        "tracktor.order.1001",
    )
    assert found.occurred == since
    later = condition_event(order(), late, account=ACCOUNT, received=NOW + dt.timedelta(hours=4))
    assert later.id == found.id
    sewing = condition_event(
        order(statuses=["Sewing"]), Condition("status:sewing"), account=ACCOUNT, received=NOW
    )
    assert sewing.event == "tracktor.order.sewing"


def test_a_status_condition_gives_an_event_with_that_status() -> None:
    sewing_and_cutting = order(statuses=["Sewing", "Cutting"])
    event = condition_event(
        sewing_and_cutting, Condition("status:cutting"), account=ACCOUNT, received=NOW
    )
    assert (event.event, event.payload["shipment_status"]) == ("tracktor.order.cutting", "Cutting")


def test_a_delivered_order_gives_delivered_events_for_its_parcels() -> None:
    unseen = {"fulfillment_id": 7, "shipment_status": "in_transit"}
    delivered = order(unseen, statuses=["delivered"])
    [condition] = conditions_of(delivered, Thresholds(), NOW)
    event = condition_event(delivered, condition, account=ACCOUNT, received=NOW)
    assert event.event == "tracktor.fulfillment.delivered"
    assert event.payload["shipment_status"] == "delivered"


@pytest.mark.parametrize(
    ("body", "subject"),
    [
        ({"fulfillment_id": 7, "order_id": 1}, Subject(Kind.FULFILLMENT, 7)),
        ({"fulfillment": {"fulfillment_id": "7"}}, Subject(Kind.FULFILLMENT, 7)),
        ({"order_id": "1001", "fulfillments": []}, Subject(Kind.ORDER, 1001)),
        ({"order": {"order_id": 1001}}, Subject(Kind.ORDER, 1001)),
    ],
)
def test_a_delivery_body_names_a_parcel_or_an_order(body: Any, subject: Subject) -> None:
    assert read_delivery(json.dumps(body).encode()) == subject


@pytest.mark.parametrize("value", [True, -1, 0, 7.5, 2**63, "٣", "7x", "9" * 5000, [7], None])
def test_a_delivery_with_an_invalid_id_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="no usable order_id"):
        read_delivery(json.dumps({"order_id": value}).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"a":' * 9999])
def test_a_delivery_that_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="the body is not"):
        read_delivery(body)


@given(st.binary() | st.text().map(str.encode))
def test_any_invalid_delivery_body_raises_invalid_input(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_delivery(body)
