"""Completed orders: when they arrive, and how they are remembered."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from prefect_tracktor import CompletedOrders, InvalidInput, Order
from prefect_tracktor.errors import DatabaseError
from prefect_tracktor.storage.completed_orders import arrived_at

LONG_AGO, RECENTLY = "2026-09-01T10:00:00Z", "2026-10-02T10:00:00Z"
ARRIVED = dt.datetime(2026, 9, 1, 10, tzinfo=dt.UTC)


@pytest.fixture
def completed(database_url: str) -> CompletedOrders:
    return CompletedOrders(url=database_url)


def parcel(time: str | None = LONG_AGO, **fields: Any) -> dict[str, Any]:
    delivered = {"key": "delivered", "datetime": time}
    usual = {
        "fulfillment_id": 1,
        "fulfillment_status": "fulfilled",
        "shipment_status": "delivered",
        "latest_status": delivered,
        "line_items": [{"id": 1, "quantity": 1}],
    }
    return usual | fields


def order(*parcels: dict[str, Any], **fields: Any) -> Order:
    return Order.model_validate({"order_id": 7, "fulfillments": parcels} | fields)


def test_an_order_arrives_with_its_last_parcel() -> None:
    assert arrived_at(order(parcel())) == ARRIVED
    last = arrived_at(order(parcel(), parcel(RECENTLY)))
    assert last == dt.datetime(2026, 10, 2, 10, tzinfo=dt.UTC)


@pytest.mark.parametrize("status", ["delivered", "Delivered", "DELIVERED"])
def test_a_delivered_status_is_recognized_by_key_or_label(status: str) -> None:
    latest = {"label": status, "datetime": LONG_AGO}
    assert arrived_at(order(parcel(shipment_status=status, latest_status=latest))) == ARRIVED


@pytest.mark.parametrize(
    "unclear",
    [
        order(),
        order(parcel(None)),
        order(parcel(), parcel(shipment_status="in_transit", latest_status=None)),
        order(parcel(fulfillment_status="partial")),
        order(parcel(fulfillment_status=None)),
        order(parcel(), line_item_count=2),
        order(parcel(line_items=[{"id": 1, "quantity": 2}]), line_item_count=2),
    ],
)
def test_an_order_with_an_unclear_parcel_has_not_arrived(unclear: Order) -> None:
    assert arrived_at(unclear) is None


def test_only_orders_that_arrived_long_ago_are_completed(completed: CompletedOrders) -> None:
    completed.remember("shop", {1: ARRIVED, 2: dt.datetime.now(dt.UTC)})
    assert completed.among("shop", [1, 2, 3]) == {1}


def test_a_higher_after_days_reopens_completed_orders(
    completed: CompletedOrders, database_url: str
) -> None:
    completed.remember("shop", {1: ARRIVED})
    longer = CompletedOrders(url=SecretStr(database_url), after_days=3650)
    assert longer.among("shop", [1]) == set()


def test_completed_orders_are_kept_per_account(completed: CompletedOrders) -> None:
    completed.remember("one", {1: ARRIVED})
    assert completed.among("another", [1]) == set()


def test_an_order_can_be_remembered_twice(completed: CompletedOrders) -> None:
    for _ in range(2):
        completed.remember("shop", {1: ARRIVED})
    assert completed.among("shop", [1]) == {1}


def test_thousands_of_completed_orders_are_found(completed: CompletedOrders) -> None:
    completed.remember("shop", dict.fromkeys(range(1, 1801), ARRIVED))
    assert completed.among("shop", range(1, 4001)) == set(range(1, 1801))


def test_forgetting_some_completed_orders_keeps_the_others(completed: CompletedOrders) -> None:
    completed.remember("shop", dict.fromkeys((1, 2, 3), ARRIVED))
    assert completed.forget("shop", [2, 77]) == 1
    assert completed.among("shop", [1, 2, 3]) == {1, 3}
    with pytest.raises(InvalidInput, match=r"order_ids\[1\]"):
        completed.forget("shop", [1, "#1003"])  # type: ignore[list-item]
    assert completed.forget("shop", "3") == 1  # type: ignore[arg-type]
    assert completed.forget("shop") == 1
    assert completed.among("shop", [1, 2, 3]) == set()


def test_an_unusable_database_raises_an_error_with_the_block_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broken = CompletedOrders(url=f"sqlite:///{tmp_path / 'file' / 'completed.sqlite3'}")
    with pytest.raises(DatabaseError, match="CompletedOrders block cannot be used"):
        broken.among("shop", [1])


def test_a_path_in_a_missing_folder_creates_no_database(tmp_path: Path) -> None:
    mistyped = CompletedOrders(url=f"sqlite:///{tmp_path / 'dta' / 'completed.sqlite3'}")
    with pytest.raises(DatabaseError, match=r"there is no directory .*dta; create it, or correct"):
        mistyped.verify()
    assert not any(tmp_path.iterdir())
