"""Orders about which nothing can change: recognised without doubt, remembered per account."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from prefect_tracktor import Order, SettledOrders
from prefect_tracktor.database import DatabaseError
from prefect_tracktor.settled import is_settled

BEFORE = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
LONG_AGO, RECENTLY = "2026-09-01T10:00:00Z", "2026-10-02T10:00:00Z"


@pytest.fixture
def settled(database_url: str) -> SettledOrders:
    return SettledOrders(url=database_url)


def parcel(time: str | None = LONG_AGO, **fields: Any) -> dict[str, Any]:
    delivered = {"key": "delivered", "datetime": time}
    usual = {"fulfillment_id": 1, "shipment_status": "delivered", "latest_status": delivered}
    return usual | fields


def order(*parcels: dict[str, Any], order_id: int = 7) -> Order:
    return Order.model_validate({"order_id": order_id, "fulfillments": parcels})


def test_an_order_is_settled_once_its_last_parcel_arrived_long_ago() -> None:
    assert is_settled(order(parcel(), parcel()), before=BEFORE)


@pytest.mark.parametrize(
    "parcels",
    [
        [],
        [parcel(RECENTLY)],
        [parcel(), parcel(RECENTLY)],
        [parcel(None)],
        [parcel(), parcel(shipment_status="in_transit", latest_status=None)],
        [parcel(fulfillment_status="partial")],
        [parcel(status=[{"key": "delivered", "datetime": RECENTLY}])],
    ],
)
def test_any_doubt_leaves_an_order_open(parcels: list[dict[str, Any]]) -> None:
    assert not is_settled(order(*parcels), before=BEFORE)


def test_settled_orders_are_remembered_and_others_are_not(settled: SettledOrders) -> None:
    settled.remember("shop", [order(parcel(), order_id=1), order(order_id=2)])
    assert settled.among("shop", [1, 2, 3]) == {1}


def test_accounts_do_not_share_what_is_settled(settled: SettledOrders) -> None:
    settled.remember("one", [order(parcel(), order_id=1)])
    assert settled.among("another", [1]) == set()


def test_to_remember_twice_does_no_harm(settled: SettledOrders) -> None:
    for _ in range(2):
        settled.remember("shop", [order(parcel(), order_id=1)])
    assert settled.among("shop", [1]) == {1}


def test_many_orders_are_looked_up_at_once(settled: SettledOrders) -> None:
    settled.remember("shop", [order(parcel(), order_id=n) for n in range(1, 1801)])
    assert settled.among("shop", range(1, 4001)) == set(range(1, 1801))


def test_forgetting_some_keeps_the_rest(settled: SettledOrders) -> None:
    settled.remember("shop", [order(parcel(), order_id=n) for n in (1, 2, 3)])
    settled.forget("shop", [2])
    assert settled.among("shop", [1, 2, 3]) == {1, 3}
    settled.forget("shop")
    assert settled.among("shop", [1, 2, 3]) == set()


def test_the_wait_is_the_owners_choice(tmp_path: Path) -> None:
    patient = SettledOrders(url=f"sqlite:///{tmp_path / 's.sqlite3'}", after_days=3650)
    patient.remember("shop", [order(parcel(), order_id=1)])
    assert patient.among("shop", [1]) == set()


def test_a_database_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broken = SettledOrders(url=f"sqlite:///{tmp_path / 'file' / 'settled.sqlite3'}")
    with pytest.raises(DatabaseError, match="SettledOrders block cannot be used"):
        broken.among("shop", [1])
