"""Rows of the tracking tables."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor import Order, Thresholds, tracking_rows
from prefect_tracktor.tracking import TABLES

PERSONAL = {
    "order_email": "ada@shop.example",
    "order_phone": "+49 170 1234567",
    "customer_first_name": "Ada",
    "customer_last_name": "Lovelace",
    "customer_full_name": "Ada Lovelace",
}
TRACKING = {
    "tracking_number": "1Z999AA10123456784",
    "tracking_url": "https://shop.example/apps/tracktor/track?order=%231001&email=ada@shop.example",
}
STEPS = [
    {"key": "order_ready", "label": "Order ready", "datetime": "2026-11-01T08:00:00Z"},
    {"key": "in_transit", "label": "In transit", "datetime": "2026-11-02T20:00:00+01:00"},
    {"key": "out_for_delivery", "label": "Out for delivery", "datetime": "2026-11-05T07:00:00Z"},
    {"key": "delivered", "label": "Delivered", "datetime": "2026-11-05T19:00:00Z"},
]


def parcel(number: int = 7, **fields: Any) -> dict[str, Any]:
    usual = {
        "fulfillment_id": number,
        "carrier": {"slug": "ups", "name": "UPS"},
        "fulfillment_status": "fulfilled",
        "shipment_status": "delivered",
        "line_items": [{"id": 1, "quantity": 2}, {"id": 2}],
        "status": STEPS,
        "latest_status": STEPS[-1],
    }
    return usual | TRACKING | fields


def order(*parcels: dict[str, Any], **fields: Any) -> Order:
    usual = {
        "order_id": 1,
        "order_name": "#1001",
        "order_source_name": "web",
        "order_created_at": "2026-10-31T08:00:00Z",
        "total_price": "59.90",
        "line_item_count": 2,
        "statuses": ["delivered"],
        "fulfillments": parcels,
    }
    return Order.model_validate(usual | PERSONAL | fields)


def rows(table: str, *orders: Order, **options: Any) -> list[dict[str, Any]]:
    return [row for name, row in tracking_rows(orders, **options) if name == table]


def utc(day: int, hour: int, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


def test_an_order_is_one_row() -> None:
    assert rows("orders", order(parcel())) == [
        {
            "order_id": 1,
            "order_name": "#1001",
            "source": "web",
            "ordered_at": utc(31, 8, 10),
            "total_price": Decimal("59.90"),
            "financial_status": None,
            "country": None,
            "shipping_method": None,
            "line_item_count": 2,
            "parcel_count": 1,
            "statuses": "delivered",
            "exceptions": None,
            "condition": None,
            "condition_since": None,
            "is_delivered": True,
            "is_cancelled": False,
            "delivered_at": utc(5, 19),
            "days_to_delivery": 5.46,
            "unreadable_fields": None,
        }
    ]


def test_a_parcel_is_one_row_with_step_times_and_durations() -> None:
    assert rows("parcels", order(parcel(exception_status="expired"))) == [
        {
            "order_id": 1,
            "fulfillment_id": 7,
            "carrier": "ups",
            "carrier_name": "UPS",
            "fulfillment_status": "fulfilled",
            "status": "delivered",
            "exception": "expired",
            "condition": None,
            "condition_since": None,
            "is_automatic": None,
            "is_delivered": True,
            "is_cancelled": False,
            "item_count": 3,
            "order_total_price": Decimal("59.90"),
            "ordered_at": utc(31, 8, 10),
            "order_ready_at": utc(1, 8),
            "in_transit_at": utc(2, 19),
            "out_for_delivery_at": utc(5, 7),
            "delivered_at": utc(5, 19),
            "latest_step_at": utc(5, 19),
            "days_to_transit": 2.46,
            "days_in_transit": 3.0,
            "days_to_delivery": 5.46,
        }
    ]


def test_each_step_is_one_row_in_time_order() -> None:
    found = rows("parcel_steps", order(parcel(status=STEPS[::-1])))
    assert [(row["step"], row["status"], row["label"]) for row in found] == [
        (1, "order_ready", "Order ready"),
        (2, "in_transit", "In transit"),
        (3, "out_for_delivery", "Out for delivery"),
        (4, "delivered", "Delivered"),
    ]
    assert [row["days_since_previous_step"] for row in found] == [None, 1.46, 2.5, 0.5]
    assert {row["reached_at"].utcoffset() for row in found} == {timedelta(0)}


def test_a_custom_status_is_a_step_row() -> None:
    sewing = {"label": "Sewing", "datetime": "2026-10-31T20:00:00Z"}
    found = rows("parcel_steps", order(parcel(status=[*STEPS, sewing])))
    assert found[0]["status"] == "sewing"
    assert len(found) == 5


def test_an_undated_step_comes_first_unless_a_dated_one_exists() -> None:
    undated = [{"key": "in_transit"}, {"key": "Packed"}]
    found = rows("parcel_steps", order(parcel(status=[*STEPS, *undated])))
    assert [(row["status"], row["reached_at"] is None) for row in found[:2]] == [
        ("packed", True),
        ("order_ready", False),
    ]
    assert len(found) == 5
    assert found[1]["days_since_previous_step"] is None


def test_unknown_values_are_none_in_a_row() -> None:
    bare = Order.model_validate({"order_id": 1, "fulfillments": [{"fulfillment_id": 7}]})
    [row] = rows("parcels", bare)
    known = {"order_id", "fulfillment_id", "is_delivered", "is_cancelled"}
    assert {name for name, value in row.items() if value is not None} == known
    assert rows("parcel_steps", bare) == []


def test_the_order_row_names_unreadable_fields() -> None:
    [row] = rows("orders", order(parcel(is_automatic="perhaps"), total_price="a lot"))
    assert row["unreadable_fields"] == "fulfillments.is_automatic, total_price"


def test_parcels_of_another_order_and_duplicates_have_no_row() -> None:
    mixed = order(parcel(7), parcel(8, order_id=2), parcel(7))
    assert [row["fulfillment_id"] for row in rows("parcels", mixed)] == [7]
    assert rows("orders", mixed)[0]["parcel_count"] == 1


@pytest.mark.parametrize("table", TABLES)
def test_rows_hold_no_personal_data_by_default(table: str) -> None:
    whole = order(parcel())
    secrets = [*PERSONAL.values(), *TRACKING.values()]
    text = str(rows(table, whole))
    assert [secret for secret in secrets if secret in text] == []


def test_personal_data_has_separate_columns() -> None:
    [bought] = rows("orders", order(parcel()), include_personal_data=True)
    [sent] = rows("parcels", order(parcel()), include_personal_data=True)
    assert bought["customer_email"] == "ada@shop.example"
    assert {*PERSONAL.values()} <= {*map(str, bought.values())}
    assert {*TRACKING.values()} <= {*map(str, sent.values())}


@pytest.mark.parametrize("personal", [False, True])
def test_the_columns_of_a_row_are_those_of_its_table_in_order(personal: bool) -> None:
    found = tracking_rows([order(parcel())], include_personal_data=personal)
    for name, row in found:
        assert list(row) == list(TABLES[name].all_columns(include_personal_data=personal))


PYTHON_TYPES = {
    "bigint": int,
    "text": str,
    "bool": bool,
    "timestamp": datetime,
    "decimal": Decimal,
    "double": float,
}


def test_row_values_have_the_types_of_their_columns() -> None:
    full = order(parcel(exception_status="expired", is_automatic=False), exception_statuses=["x"])
    for name, row in tracking_rows([full], include_personal_data=True):
        columns = TABLES[name].all_columns(include_personal_data=True)
        for column, value in row.items():
            assert value is None or type(value) is PYTHON_TYPES[columns[column]], column


def test_a_parcel_row_has_its_most_urgent_condition() -> None:
    moving = parcel(shipment_status="in_transit", latest_status=STEPS[1], status=STEPS[:2])
    expired = moving | {"fulfillment_id": 8, "exception_status": "expired"}
    found = rows("parcels", order(moving, expired, parcel(9), statuses=[]), now=utc(12, 19))
    assert [(row["condition"], row["condition_since"]) for row in found] == [
        ("stalled", utc(9, 19)),
        ("exception:expired", None),
        (None, None),
    ]
    later = rows("parcels", order(moving), now=utc(12, 19), thresholds=Thresholds(stalled_days=30))
    assert later[0]["condition"] is None


def test_an_order_row_has_the_orders_condition() -> None:
    waiting = order(order_created_at="2026-11-01T08:00:00Z", statuses=[])
    [row] = rows("orders", waiting, now=utc(12, 19))
    assert (row["condition"], row["condition_since"]) == ("not_shipped", utc(8, 8))


def test_a_contradictory_order_has_an_unclear_condition() -> None:
    moving: dict[str, Any] = {"latest_status": None, "status": []}
    moving["shipment_status"] = "in_transit"
    late = [parcel(n, exception_status="expired", **moving) for n in (7, 8)]
    unclear = order(*late, statuses=["delivered", "in_transit"])
    assert [row["condition"] for row in rows("parcels", unclear)] == ["unclear", "unclear"]


def test_tracking_rows_reads_one_order_at_a_time() -> None:
    taken: list[int] = []

    def endless() -> Any:
        while True:
            taken.append(len(taken))
            yield order(parcel())

    found = tracking_rows(endless())
    next(found)
    assert taken == [0]


@given(st.permutations(STEPS))
def test_rows_do_not_depend_on_the_order_of_steps(steps: list[dict[str, Any]]) -> None:
    usual = list(tracking_rows([order(parcel())]))
    assert list(tracking_rows([order(parcel(status=steps))])) == usual
    assert list(tracking_rows([order(parcel(status={s["key"]: s for s in steps}))])) == usual
