"""Parsing of Tracktor's responses in every known or possible form."""

import datetime as dt
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor.models import (
    ExceptionStatus,
    Fulfillment,
    Order,
    ShipmentStatus,
    StatusOption,
    TracktorModel,
    Webhook,
    WebhookTopic,
)

M = TypeVar("M", bound=TracktorModel)

FULFILLMENT: dict[str, Any] = {
    "shop_url": "https://shop.example",
    "order_id": 5001,
    "order_name": "#1001",
    "shopify_carrier": "Other",
    "carrier": {"slug": "ups", "name": "UPS"},
    "tracking_number": "1Z999",
    "fulfillment_id": 7001,
    "fulfillment_status": "fulfilled",
    "shipment_status": "in_transit",
    "exception_status": "expired",
    "is_automatic": True,
    "line_items": [
        {
            "name": "Mug",
            "quantity": 2,
            "requires_shipping": True,
            "id": 1,
            "product_id": 2,
            "variant_id": 3,
        }
    ],
    "latest_status": {"key": "in_transit", "label": "In transit", "datetime": "2026-11-02T10:00Z"},
    "status": [{"key": "order_ready", "label": "Ready", "datetime": "2026-11-01T10:00:00+01:00"}],
}
ORDER: dict[str, Any] = {
    "order_id": 5001,
    "order_name": "#1001",
    "order_email": "ada@example.com",
    "order_phone": "+49 30 1234567",
    "order_source_name": "web",
    "order_created_at": "2026-11-01T09:00:00Z",
    "customer_first_name": "Ada",
    "customer_last_name": "Lovelace",
    "customer_full_name": "Ada Lovelace",
    "total_price": 59.9,
    "line_item_count": 2,
    "statuses": ["in_transit"],
    "exception_statuses": ["expired"],
    "days_since_ordered": 3,
    "automatic_carrier_updates": True,
    "fulfillments": [FULFILLMENT],
}
PERSONAL = ["order_email", "order_phone", "customer_first_name", "customer_last_name"]


def fulfillment(**changes: Any) -> Fulfillment:
    return Fulfillment.model_validate(FULFILLMENT | changes)


def order(**changes: Any) -> Order:
    return Order.model_validate(ORDER | changes)


@pytest.mark.parametrize(("model", "documented"), [(Fulfillment, FULFILLMENT), (Order, ORDER)])
def test_every_documented_attribute_is_a_field(
    model: type[TracktorModel], documented: dict[str, Any]
) -> None:
    read = model.model_validate(documented)
    assert set(documented) <= set(model.model_fields)
    assert not read.model_extra
    assert all(getattr(read, name) is not None for name in documented)


def test_a_documented_fulfillment_is_typed() -> None:
    parcel = fulfillment()
    assert (parcel.fulfillment_id, parcel.order_id) == (7001, 5001)
    assert (parcel.order_name, parcel.shop_url) == ("#1001", "https://shop.example")
    assert (parcel.shopify_carrier, parcel.tracking_number) == ("Other", "1Z999")
    assert parcel.carrier is not None
    assert (parcel.carrier.slug, parcel.carrier.name) == ("ups", "UPS")
    assert parcel.fulfillment_status == "fulfilled"
    assert parcel.shipment_status is ShipmentStatus.IN_TRANSIT
    assert parcel.exception_status is ExceptionStatus.EXPIRED
    assert parcel.is_automatic is True
    (item,) = parcel.line_items
    assert (item.name, item.quantity, item.requires_shipping) == ("Mug", 2, True)
    assert (item.id, item.product_id, item.variant_id) == (1, 2, 3)
    assert parcel.latest_status is not None
    assert parcel.latest_status.datetime == dt.datetime(2026, 11, 2, 10, tzinfo=dt.UTC)
    (step,) = parcel.status
    assert (step.key, step.label) == ("order_ready", "Ready")
    assert step.datetime == dt.datetime(2026, 11, 1, 9, tzinfo=dt.UTC)


def test_a_documented_order_is_typed() -> None:
    read = order()
    assert (read.order_id, read.order_name) == (5001, "#1001")
    assert (read.order_email, read.order_phone) == ("ada@example.com", "+49 30 1234567")
    assert read.order_source_name == "web"
    assert read.order_created_at == dt.datetime(2026, 11, 1, 9, tzinfo=dt.UTC)
    assert (read.customer_first_name, read.customer_last_name) == ("Ada", "Lovelace")
    assert read.customer_full_name == "Ada Lovelace"
    assert read.total_price == Decimal("59.9")
    assert (read.line_item_count, read.days_since_ordered) == (2, 3)
    assert read.statuses == (ShipmentStatus.IN_TRANSIT,)
    assert read.exception_statuses == (ExceptionStatus.EXPIRED,)
    assert read.automatic_carrier_updates is True
    assert read.fulfillments == (fulfillment(),)


@pytest.mark.parametrize("empty", [None, "", [], {}])
@pytest.mark.parametrize("field", sorted(set(FULFILLMENT) - {"fulfillment_id"}))
def test_any_field_of_a_fulfillment_but_its_id_may_be_empty(field: str, empty: object) -> None:
    assert not getattr(fulfillment(**{field: empty}), field)


@pytest.mark.parametrize("empty", [None, "", [], {}])
@pytest.mark.parametrize("field", sorted(set(ORDER) - {"order_id"}))
def test_any_field_of_an_order_but_its_id_may_be_empty(field: str, empty: object) -> None:
    assert not getattr(order(**{field: empty}), field)


def test_missing_fields_of_orders_and_fulfillments_are_empty() -> None:
    assert Order.model_validate({"order_id": 1}).fulfillments == ()
    assert Fulfillment.model_validate({"fulfillment_id": 1}).carrier is None


@pytest.mark.parametrize("value", [None, "", "12x", 1.5])
def test_an_object_without_an_id_is_invalid(value: object) -> None:
    with pytest.raises(ValidationError):
        order(order_id=value)
    with pytest.raises(ValidationError):
        fulfillment(fulfillment_id=value)


def test_ids_counts_and_prices_may_be_strings_and_names_numbers() -> None:
    read = order(order_id="5001", total_price="59.90", line_item_count="2", order_name=1001)
    assert (read.order_id, read.line_item_count, read.order_name) == (5001, 2, "1001")
    assert read.total_price == Decimal("59.90")


@pytest.mark.parametrize(
    ("value", "flag"), [("true", True), ("false", False), (1, True), (0, False)]
)
def test_flags_may_be_strings_or_numbers(value: object, flag: bool) -> None:
    assert order(automatic_carrier_updates=value).automatic_carrier_updates is flag
    assert fulfillment(is_automatic=value).is_automatic is flag


@pytest.mark.parametrize(
    ("written", "offset"),
    [
        ("2026-11-02T10:00:00", dt.timedelta(0)),
        ("2026-11-02 10:00:00", dt.timedelta(0)),
        ("2026-11-02T10:00:00Z", dt.timedelta(0)),
        ("2026-11-02T10:00:00.123-05:00", -dt.timedelta(hours=5)),
        ("2026-11-02T10:00:00-0500", -dt.timedelta(hours=5)),
        ("2026-11-02", dt.timedelta(0)),
        (1793613600, dt.timedelta(0)),
    ],
)
def test_times_in_any_format_become_aware(written: object, offset: dt.timedelta) -> None:
    created = order(order_created_at=written).order_created_at
    assert created is not None
    assert created.utcoffset() == offset
    latest = fulfillment(latest_status={"datetime": written}).latest_status
    assert latest is not None
    assert latest.datetime == created


def test_steps_keyed_by_status_are_read_like_a_list() -> None:
    steps = [{"key": "delivered", "label": "Delivered"}, {"key": "sewing", "label": "Sewing"}]
    keyed = {"delivered": {"label": "Delivered"}, "sewing": "Sewing"}
    assert fulfillment(status=keyed).status == fulfillment(status=steps).status


def test_lists_may_be_objects_keyed_by_number() -> None:
    assert order(fulfillments={"0": FULFILLMENT}).fulfillments == (fulfillment(),)
    assert order(statuses={"0": "in_transit"}).statuses == (ShipmentStatus.IN_TRANSIT,)


def test_a_carrier_may_be_given_as_its_name() -> None:
    carrier = fulfillment(carrier="UPS").carrier
    assert carrier is not None
    assert carrier.name == "UPS"


def test_unknown_statuses_and_exceptions_are_kept_as_text() -> None:
    parcel = fulfillment(shipment_status="Preparing your order", exception_status="customs_hold")
    assert parcel.shipment_status == "Preparing your order"
    assert parcel.exception_status == "customs_hold"
    read = order(statuses=["Sewing", "delivered", None], exception_statuses=["customs_hold", ""])
    assert read.statuses == ("Sewing", ShipmentStatus.DELIVERED)
    assert read.exception_statuses == ("customs_hold",)


@pytest.mark.parametrize(
    ("changes", "delivered"),
    [
        ({"shipment_status": "delivered"}, True),
        ({"latest_status": {"key": "delivered"}}, True),
        ({"shipment_status": "Delivered to a neighbour"}, False),
        ({"shipment_status": None, "latest_status": None}, False),
    ],
)
def test_a_parcel_is_delivered_by_its_status_or_its_latest_step(
    changes: dict[str, Any], delivered: bool
) -> None:
    assert fulfillment(**changes).is_delivered is delivered


@pytest.mark.parametrize("status", ExceptionStatus)
def test_every_exception_status_has_the_dashboards_label(status: ExceptionStatus) -> None:
    assert status.label[0].isupper()
    assert status.label != status


@pytest.mark.parametrize(
    ("option", "label"),
    [
        ("Sewing", "Sewing"),
        ({"label": "Sewing"}, "Sewing"),
        ({"name": "Sewing"}, "Sewing"),
        ({"key": "sewing"}, "sewing"),
        ({"key": "sewing", "label": "Sewing", "name": "other"}, "Sewing"),
        ({"key": "sewing", "label": None, "name": "Sewing"}, "Sewing"),
        ({"key": "sewing", "label": "", "name": None}, "sewing"),
    ],
)
def test_a_status_option_may_have_any_of_several_name_fields(option: object, label: str) -> None:
    assert StatusOption.model_validate(option).label == label


@pytest.mark.parametrize(
    ("status", "meant"),
    [("Sewing", True), (" SEWING ", True), ("sewing_stage", True), ("Sew", False), ("", False)],
)
def test_a_status_option_matches_by_label_or_key_in_any_letter_case(
    status: str, meant: bool
) -> None:
    option = StatusOption.model_validate({"key": "sewing_stage", "label": "Sewing "})
    assert option.matches(status) is meant


@pytest.mark.parametrize("id_field", ["id", "webhook_id"])
@pytest.mark.parametrize("address_field", ["address", "url"])
def test_a_webhook_may_have_alternative_names_for_id_and_address(
    id_field: str, address_field: str
) -> None:
    webhook = Webhook.model_validate(
        {id_field: "3", "topic": "order/delivered", address_field: "https://a.example"}
    )
    assert (webhook.id, webhook.address) == (3, "https://a.example")
    assert webhook.topic is WebhookTopic.ORDER_DELIVERED


def test_an_undocumented_webhook_topic_is_kept_as_text() -> None:
    webhook = Webhook.model_validate(
        {"id": 3, "topic": "order/ordered", "address": "https://a.example"}
    )
    assert webhook.topic == "order/ordered"


def test_models_are_immutable() -> None:
    with pytest.raises(ValidationError):
        order().order_email = "bob@example.com"  # type: ignore[misc]  # it must fail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
texts = st.none() | st.text(max_size=10)
ids = st.integers(1, 2**63 - 1)
times = st.none() | st.datetimes(
    dt.datetime.fromisoformat("2000-01-02"),
    dt.datetime.fromisoformat("2099-12-30"),
    timezones=st.sampled_from([None, dt.UTC]),
).map(dt.datetime.isoformat)
statuses = st.none() | st.text(max_size=10) | st.sampled_from([*ShipmentStatus, *ExceptionStatus])
steps = st.fixed_dictionaries({"key": texts, "label": texts, "datetime": times})
unknown = st.dictionaries(st.text(max_size=8).map("x_{}".format), json_values, max_size=3)


def with_unknown_fields(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    return st.builds(lambda known, more: known | more, st.fixed_dictionaries(fields), unknown)


wild_fulfillments = with_unknown_fields(
    {
        "fulfillment_id": ids | ids.map(str),
        "order_name": texts | st.integers(),
        "carrier": texts | with_unknown_fields({"slug": texts, "name": texts}),
        "shipment_status": statuses,
        "exception_status": statuses,
        "line_items": st.none() | st.lists(with_unknown_fields({"name": texts}), max_size=2),
        "latest_status": st.none() | steps,
        "status": st.lists(steps, max_size=2)
        | st.dictionaries(st.text(max_size=8), steps | st.text(max_size=8), max_size=2),
    }
)
wild_orders = with_unknown_fields(
    {
        "order_id": ids,
        "order_email": texts,
        "order_created_at": times,
        "total_price": st.none() | st.decimals(-(10**12), 10**12, places=2).map(str),
        "statuses": st.none() | st.lists(statuses, max_size=2),
        "fulfillments": st.none()
        | st.lists(
            wild_fulfillments, max_size=2, unique_by=lambda parcel: str(parcel["fulfillment_id"])
        ),
    }
)


def written_and_read_again(read: M) -> M:
    return type(read).model_validate(read.model_dump(mode="json"))


@given(data=wild_orders)
def test_a_dumped_order_parses_to_the_same_order_with_unknown_fields(
    data: dict[str, Any],
) -> None:
    read = Order.model_validate(data)
    assert written_and_read_again(read) == read
    assert read.model_extra == {k: v for k, v in data.items() if k.startswith("x_")}
    for parcel, raw in zip(read.fulfillments, data["fulfillments"] or [], strict=True):
        assert parcel.model_extra == {k: v for k, v in raw.items() if k.startswith("x_")}


@given(data=wild_orders)
def test_all_times_of_a_random_order_are_aware(data: dict[str, Any]) -> None:
    read = Order.model_validate(data)
    steps = [
        step for parcel in read.fulfillments for step in (parcel.latest_status, *parcel.status)
    ]
    moments = [read.order_created_at, *(step.datetime for step in steps if step)]
    assert all(moment.utcoffset() is not None for moment in moments if moment)


# any JSON, and values in database formats
odd_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["N/A", "1,059.90", "2026-11-02 10:00:00 -0500", "delivered", "\x00", 2**70]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$date", "$numberLong", "$oid", "date", "timezone", "key", "label"])
            | st.text(max_size=8),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(field=st.sampled_from(sorted(set(ORDER) - {"order_id"})), value=odd_values)
def test_an_order_parses_with_any_value_in_an_optional_field(field: str, value: Any) -> None:
    read = order(**{field: value})
    others = {name: entry for name, entry in order().model_dump().items() if name != field}
    assert {name: entry for name, entry in read.model_dump().items() if name != field} == others
    if field in read.unreadable_fields:
        assert not getattr(read, field)
        assert field not in read.fields_read


@given(field=st.sampled_from(sorted(set(FULFILLMENT) - {"fulfillment_id"})), value=odd_values)
def test_a_parcel_parses_with_any_value_in_an_optional_field(field: str, value: Any) -> None:
    read = order(fulfillments=[FULFILLMENT | {field: value}])
    [parcel] = read.fulfillments
    assert parcel.fulfillment_id == 7001
    assert ({field} <= parcel.unreadable_fields) == (
        {f"fulfillments.{field}"} <= read.unreadable_fields
    )


timeless = (
    st.text(alphabet=st.characters(exclude_categories=["Nd"]))
    | st.lists(st.integers(), min_size=1)
    | st.dictionaries(st.sampled_from("abc"), st.integers(), min_size=1)
    | st.floats(-1e8, 1e8)
    | st.just(True)
)


@given(value=timeless)
def test_an_invalid_time_is_never_read_as_a_time(value: Any) -> None:
    step = {"key": "delivered", "datetime": value}
    parcel = fulfillment(shipment_status="delivered", latest_status=step, status=[])
    assert parcel.is_delivered
    assert parcel.reached_at is None
    assert order(order_created_at=value).order_created_at is None


@given(value=odd_values.filter(lambda value: isinstance(value, list | dict | bool)))
def test_a_value_that_is_not_text_is_never_an_email_address(value: Any) -> None:
    read = order(order_email=value)
    is_wrapped = isinstance(value, dict) and next(iter(value), "").startswith("$")
    assert read.order_email is None or is_wrapped
    assert bool(value) == ("order_email" in read.unreadable_fields) or is_wrapped


@pytest.mark.parametrize("field", ["shipment_status", "exception_status", "latest_status"])
@given(
    value=st.integers().filter(bool)
    | st.just(True)
    | st.lists(st.text(min_size=1), min_size=2)
    | st.dictionaries(st.sampled_from("abc"), st.text(), min_size=1)
)
def test_an_invalid_status_is_unreadable_and_not_absent(field: str, value: Any) -> None:
    parcel = fulfillment(**{field: value})
    known = parcel.fields_read & {"latest_status.key", "latest_status.label"}
    assert field in parcel.unreadable_fields or not (getattr(parcel, field) is None or known)


def test_unreadable_fields_of_parts_are_named_with_a_dot() -> None:
    latest = {"key": {"a": 1}, "datetime": "soon"}
    read = order(total_price="a lot", fulfillments=[FULFILLMENT | {"latest_status": latest}])
    assert read.unreadable_fields == {
        "total_price",
        "fulfillments.latest_status.key",
        "fulfillments.latest_status.datetime",
    }
    assert read.total_price is None
    assert {"order_email", "fulfillments.shipment_status"} <= read.fields_read


def test_a_parcel_without_an_id_makes_the_orders_parcels_unreadable() -> None:
    read = order(fulfillments=[FULFILLMENT, {"shipment_status": "delivered"}])
    assert not read.fulfillments
    assert read.unreadable_fields == {"fulfillments"}


@pytest.mark.parametrize("value", [2**63, 2**70, 0, -1, True, 10**400])
def test_an_id_beyond_63_bits_or_below_one_is_invalid(value: int) -> None:
    with pytest.raises(ValidationError):
        fulfillment(fulfillment_id=value)
    assert "fulfillments" in order(fulfillments=[{"fulfillment_id": value}]).unreadable_fields


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *((str(status), status) for status in ExceptionStatus),
        *(
            (status.label, status)
            for status in ExceptionStatus
            if status is not ExceptionStatus.NOT_FOUND
        ),
        ("Expired", ExceptionStatus.EXPIRED),
        ("EXPIRED", ExceptionStatus.EXPIRED),
        (" expired", ExceptionStatus.EXPIRED),
        ("tracking_expired", ExceptionStatus.EXPIRED),
        ("Tracking-Expired", ExceptionStatus.EXPIRED),
        ("trackingExpired", ExceptionStatus.EXPIRED),
        ({"key": "expired", "label": "Tracking Expired"}, ExceptionStatus.EXPIRED),
        ({"label": "Tracking Expired"}, ExceptionStatus.EXPIRED),
        (["expired"], ExceptionStatus.EXPIRED),
        ("Not Found", ExceptionStatus.NOT_FOUND),
        ("notFound", ExceptionStatus.NOT_FOUND),
        ("Canceled", ExceptionStatus.CANCELLED),
        ("Needs Attention", "needs_attention"),
        ("Customs hold", "customs_hold"),
        (False, None),
        ("none", None),
        ("N/A", None),
    ],
)
def test_an_exception_is_read_by_key_or_label_in_any_spelling(
    written: object, read: object
) -> None:
    assert fulfillment(exception_status=written).exception_status == read
    assert order(exception_statuses=[written]).exception_statuses == ((read,) if read else ())


@pytest.mark.parametrize("written", [True, 17, ["expired", "pending"], {"code": 17}])
def test_an_invalid_exception_is_unreadable_and_not_absent(written: object) -> None:
    assert "exception_status" in fulfillment(exception_status=written).unreadable_fields


@pytest.mark.parametrize(
    ("field", "written", "read"),
    [
        ("tracking_number", ["1Z1", "1Z2"], "1Z1, 1Z2"),
        ("tracking_number", {"$numberLong": "123"}, "123"),
        ("shipment_status", {"key": "delivered", "label": "Delivered"}, ShipmentStatus.DELIVERED),
        ("order_id", {"$numberLong": "5001"}, 5001),
    ],
)
def test_a_parcel_may_have_values_in_database_formats(
    field: str, written: object, read: object
) -> None:
    assert getattr(fulfillment(**{field: written}), field) == read


@pytest.mark.parametrize(
    "latest", ["Delivered", {"label": "Delivered"}, {"key": {"key": "delivered"}}]
)
def test_a_delivery_is_recognized_in_any_form_of_the_latest_step(latest: object) -> None:
    assert fulfillment(latest_status=latest).is_delivered


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("5f2b6c9e8a1b2c3d4e5f6a7b", "5f2b6c9e8a1b2c3d4e5f6a7b"),
        ({"$oid": "5f2b6c9e8a1b2c3d4e5f6a7b"}, "5f2b6c9e8a1b2c3d4e5f6a7b"),
        ("123456789012345678901234", "123456789012345678901234"),
        ("007", "007"),
        ("7", 7),
        ({"$numberLong": "7"}, 7),
    ],
)
def test_a_webhook_id_may_be_text(written: object, read: object) -> None:
    form = {"topic": "order/all", "address": "https://a.example"}
    assert Webhook.model_validate({"id": written} | form).id == read
    assert Webhook.model_validate({"_id": written} | form).id == read


@pytest.mark.parametrize("written", ["", "../orders/7", "a b", None, [], True, 1.5])
def test_a_webhook_without_a_usable_id_is_invalid(written: object) -> None:
    with pytest.raises(ValidationError):
        Webhook.model_validate(
            {"id": written, "topic": "order/all", "address": "https://a.example"}
        )


SECRET = "ada.lovelace@example.com"
MISPLACED: list[Any] = [SECRET, {SECRET: SECRET}, [SECRET], [[SECRET]], {"key": {SECRET: SECRET}}]


@pytest.mark.parametrize("value", MISPLACED)
@pytest.mark.parametrize("field", sorted(ORDER))
def test_errors_and_reprs_of_an_order_hold_no_customer_data(field: str, value: object) -> None:
    try:
        text = repr(order(**{field: value})) if field not in {"order_name", "statuses"} else ""
    except ValidationError as error:
        text = f"{error!s} {error!r}"
    assert SECRET not in text


@pytest.mark.parametrize("value", MISPLACED)
@pytest.mark.parametrize(
    "field", sorted(set(FULFILLMENT) - {"shipment_status", "exception_status"})
)
def test_errors_and_reprs_of_a_parcel_hold_no_customer_data(field: str, value: object) -> None:
    try:
        text = repr(order(fulfillments=[FULFILLMENT | {field: value}]))
    except ValidationError as error:
        text = f"{error!s} {error!r}"
    assert SECRET not in text


def test_a_repr_shows_ids_and_statuses_and_no_customer_data() -> None:
    text = f"{order()!r} {order()!s} {[order()]}"
    assert "5001" in text
    assert not any(str(ORDER[field]) in text for field in PERSONAL)


def test_a_cancelled_fulfillment_cancels_a_parcel_and_a_cancelled_alert_does_not() -> None:
    sent = {"tracking_number": "1Z1", "latest_status": {"key": "in_transit"}}
    assert fulfillment(**sent).has_shipped
    assert not fulfillment(fulfillment_status="cancelled", **sent).has_shipped
    alert = fulfillment(exception_status="cancelled", latest_status={"key": "cancelled"})
    assert not alert.is_cancelled


@pytest.mark.parametrize(
    ("fields", "shipped", "in_full"),
    [
        ({}, False, False),
        ({"statuses": ["order_ready"]}, False, False),
        ({"statuses": ["Out for delivery"]}, True, False),
        ({"fulfillment_status": "fulfilled"}, True, True),
        ({"fulfillment_status": "partial"}, True, False),
        ({"fulfillments": [{"fulfillment_id": 7, "tracking_number": "1Z1"}]}, True, True),
        ({"fulfillments": [{"fulfillment_id": 7, "fulfillment_status": "partial"}]}, True, False),
    ],
)
def test_has_shipped_does_not_depend_on_the_manual_status(
    fields: dict[str, Any], shipped: bool, in_full: bool
) -> None:
    order = Order.model_validate({"order_id": 1, "statuses": ["Cutting"]} | fields)
    assert (order.has_shipped, order.has_shipped_in_full) == (shipped, in_full)


@pytest.mark.parametrize("field", ["status", "financial_status", "state", "cancelled", "voided"])
@pytest.mark.parametrize(
    "value", [True, 0, 2, -1.5, float("nan"), 10**30, "²", [[]], [3], {"a": {"b": 1}}, [None, {}]]
)
def test_an_undocumented_field_of_any_type_raises_no_error(field: str, value: Any) -> None:
    # with a prefix, as `Fulfillment.status` is documented
    odd = Order.model_validate({"order_id": 1, field: value, "fulfillments": [FULFILLMENT]})
    parcel = Fulfillment.model_validate({"fulfillment_id": 7, f"order_{field}": value})
    assert odd.is_cancelled in {True, False}
    assert parcel.is_cancelled in {True, False}
    assert parcel.has_shipped is False


@pytest.mark.parametrize(
    ("status", "cancelled"),
    [("voided", True), ({"key": "voided"}, True), (["voided"], True), (["paid", "voided"], False)],
)
def test_a_status_field_can_mean_cancelled_in_any_form(status: Any, cancelled: bool) -> None:
    assert Order.model_validate({"order_id": 1, "status": status}).is_cancelled is cancelled
