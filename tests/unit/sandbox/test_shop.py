"""Simulated shop: orders from a seed, and the state that updates change."""

import csv
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_tracktor.models import ExceptionStatus, Order, ShipmentStatus
from prefect_tracktor.sandbox import RefusedValue, Shop, StatusChange, UnknownId

SIZES = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


def all_orders(shop: Shop) -> list[dict[str, Any]]:
    return [shop.order(order_id) for order_id in shop.order_ids]


def brute_force(shop: Shop) -> dict[int, str]:
    return {
        order["order_id"]: order["order_email"]
        for order in all_orders(shop)
        if order["order_email"]
        and any(
            parcel["exception_status"] == "expired" and parcel["shipment_status"] != "delivered"
            for parcel in order["fulfillments"]
        )
    }


@pytest.fixture(scope="module")
def orders() -> list[dict[str, Any]]:
    return all_orders(Shop(orders=400, seed=5, expired=20))


@given(size=SIZES, seed=st.integers())
@settings(max_examples=25, deadline=None)
def test_the_same_seed_gives_the_same_shop(size: tuple[int, int], seed: int) -> None:
    first, second = (Shop(orders=size[0], expired=size[1], seed=seed) for _ in range(2))
    backwards = [second.order(order_id) for order_id in reversed(second.order_ids)]
    assert all_orders(first) == backwards[::-1]


def test_another_seed_gives_another_shop() -> None:
    assert all_orders(Shop(orders=20, seed=1)) != all_orders(Shop(orders=20, seed=2))


@given(
    size=SIZES,
    seed=st.integers(0, 99),
    changes=st.lists(
        st.tuples(st.integers(0, 59), st.sampled_from(["delivered", "Sewing", "in_transit"])),
        max_size=6,
    ),
)
@settings(max_examples=40, deadline=None)
def test_customers_to_write_to_agrees_with_a_scan_of_all_orders(
    size: tuple[int, int], seed: int, changes: list[tuple[int, str]]
) -> None:
    shop = Shop(orders=size[0], expired=size[1], seed=seed)
    assert len(shop.customers_to_write_to()) == size[1]
    for place, new in changes:
        shop.set_status(shop.order_ids[place % size[0]], status=new)
    assert shop.customers_to_write_to() == brute_force(shop)


def test_customers_to_write_to_includes_parcels_that_expire_later() -> None:
    shop = Shop(orders=24, expired=0)
    by_email = [order for order in all_orders(shop) if order["order_email"]]
    order = next(order for order in by_email if "in_transit" in order["statuses"])
    parcel = next(p for p in order["fulfillments"] if p["shipment_status"] == "in_transit")
    shop.set_parcel(parcel["fulfillment_id"], exception_status="expired")
    assert shop.customers_to_write_to() == {order["order_id"]: order["order_email"]}
    assert shop.order(order["order_id"])["exception_statuses"] == ["expired"]
    shop.set_parcel(parcel["fulfillment_id"], exception_status="")
    assert shop.customers_to_write_to() == {}


def test_all_orders_of_a_small_shop_can_be_expired() -> None:
    shop = Shop(orders=3, expired=3)
    assert list(shop.customers_to_write_to()) == list(shop.order_ids)
    assert len(Shop(orders=2).customers_to_write_to()) == 2
    assert list(Shop(orders=0).order_ids) == []


@pytest.mark.parametrize(
    ("orders", "expired", "field"), [(-1, None, "orders"), (3, 4, "expired"), (3, -1, "expired")]
)
def test_invalid_shop_sizes_are_refused_with_their_field(
    orders: int, expired: int | None, field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be between"):
        Shop(orders=orders, expired=expired)


def test_a_shop_of_a_million_orders_generates_orders_on_request() -> None:
    shop = Shop(orders=1_000_000)
    last = shop.order(shop.order_ids[-1])
    assert last["order_name"] == "#1001000"
    assert len(shop.customers_to_write_to()) == 20


def test_the_shop_has_an_order_for_every_scenario(orders: list[dict[str, Any]]) -> None:
    parcels = [parcel for order in orders for parcel in order["fulfillments"]]
    # no scenario has this exception
    usual = set(ExceptionStatus) - {ExceptionStatus.CANCELLED}
    assert {p["exception_status"] for p in parcels} == {None, *usual}
    assert {p["shipment_status"] for p in parcels} > set(ShipmentStatus)
    assert {len(order["fulfillments"]) for order in orders} == {0, 1, 2, 3}
    expired = [p for p in parcels if p["exception_status"] == "expired"]
    assert any(p["shipment_status"] == "delivered" for p in expired)
    names = " ".join(order["customer_full_name"] for order in orders)
    assert all(name in names for name in ("Zoë", "Łukasz", "李", "Müller-Lüdenscheidt", "O'Brien"))


def test_some_expired_orders_have_only_a_phone_number(orders: list[dict[str, Any]]) -> None:
    by_phone = [order for order in orders if not order["order_email"]]
    assert all(order["order_phone"] for order in by_phone)
    assert any("expired" in order["exception_statuses"] for order in by_phone)


def test_some_expired_orders_have_a_second_parcel() -> None:
    shop = Shop(orders=20, expired=20)
    kinds = Counter(
        (len(order["fulfillments"]), len(order["exception_statuses"])) for order in all_orders(shop)
    )
    assert kinds == {(1, 1): 14, (2, 2): 2, (2, 1): 4}


def test_orders_with_custom_statuses_are_not_automatic(orders: list[dict[str, Any]]) -> None:
    custom = [order for order in orders if set(order["statuses"]) - set(ShipmentStatus)]
    labels = {option["label"] for option in Shop(orders=0).status_options}
    for order in custom:
        assert not order["automatic_carrier_updates"]
        for parcel in order["fulfillments"]:
            assert parcel["shipment_status"] in labels
            assert not parcel["is_automatic"]
            assert parcel["latest_status"]["label"] == parcel["shipment_status"]
    assert custom


def test_email_addresses_are_unique_and_use_example_domains(orders: list[dict[str, Any]]) -> None:
    addresses = [order["order_email"] for order in orders if order["order_email"]]
    assert len(addresses) == len(set(addresses))
    assert all(address.isascii() for address in addresses)
    domains = {address.split("@")[1] for address in addresses}
    assert domains == {"example.com", "example.org", "example.net"}


def test_ids_ascend_and_identify_their_orders_and_parcels(orders: list[dict[str, Any]]) -> None:
    shop = Shop(orders=400, seed=5, expired=20)
    ids = list(shop.order_ids)
    assert ids == sorted(set(ids)) == [order["order_id"] for order in orders]
    for order in orders[:50]:
        for parcel in order["fulfillments"]:
            assert shop.fulfillment(parcel["fulfillment_id"]) == parcel
    for wrong in (0, -7, ids[0] + 1, 2**63):
        assert wrong not in shop.order_ids
        with pytest.raises(UnknownId):
            shop.order(wrong)
        with pytest.raises(UnknownId):
            shop.fulfillment(wrong)


def test_the_models_parse_every_generated_order(orders: list[dict[str, Any]]) -> None:
    for fields in orders:
        order = Order.model_validate(fields)
        assert not order.model_extra
        assert list(map(str, order.statuses)) == fields["statuses"]
        for parcel in order.fulfillments:
            assert not parcel.model_extra
            times = [step.datetime for step in parcel.status if step.datetime]
            assert parcel.latest_status is not None
            assert parcel.latest_status.datetime == max(times)


def test_changing_a_returned_order_does_not_change_the_shop() -> None:
    shop = Shop(orders=1, expired=1)
    order_id = shop.order_ids[0]
    shop.set_status(order_id, status="Sewing")
    shop.order(order_id)["fulfillments"].clear()
    assert shop.order(order_id)["fulfillments"]


@pytest.mark.parametrize(
    ("given", "shown", "key"),
    [
        ("Sewing", "Sewing", "sewing"),
        ("gravur_läuft", "Gravur läuft", "gravur_läuft"),
        ("Out for delivery", "out_for_delivery", "out_for_delivery"),
        (" DELIVERED ", "delivered", "delivered"),
    ],
)
def test_a_status_is_set_by_label_or_key(given: str, shown: str, key: str) -> None:
    shop = Shop(orders=1, expired=1)
    order = shop.set_status(shop.order_ids[0], status=given)
    assert order == shop.order(order["order_id"])
    assert set(order["statuses"]) == {shown}
    parcel = order["fulfillments"][0]
    assert (parcel["shipment_status"], parcel["latest_status"]["key"]) == (shown, key)
    reached = next(step for step in parcel["status"] if step["key"] == key)
    assert reached == parcel["latest_status"]


def test_setting_the_present_status_changes_nothing() -> None:
    shop = Shop(orders=1, expired=1)
    order_id = shop.order_ids[0]
    old = shop.order(order_id)["statuses"][0]
    first = shop.set_status(order_id, status="Sewing")
    assert shop.set_status(order_id, status="sewing") == first
    assert shop.status_changes == [StatusChange(order_id, old, "Sewing")]
    assert shop.revision(order_id) == 1


def test_a_status_can_be_set_on_an_order_without_parcels() -> None:
    shop = Shop(orders=48, expired=0)
    order_id = next(o["order_id"] for o in all_orders(shop) if not o["fulfillments"])
    for _ in range(2):
        assert shop.set_status(order_id, status="Cutting")["statuses"] == ["Cutting"]
    assert shop.status_changes == [(order_id, None, "Cutting")]


def test_switching_carrier_updates_is_not_a_status_change() -> None:
    shop = Shop(orders=1, expired=1)
    order_id = shop.order_ids[0]
    order = shop.set_status(order_id, automatic_carrier_updates=False, force=True)
    assert order["automatic_carrier_updates"] is False
    assert order["fulfillments"][0]["is_automatic"] is False
    assert shop.status_changes == []


def test_unknown_statuses_are_refused_with_their_field() -> None:
    shop = Shop(orders=1, expired=1)
    order = shop.order(shop.order_ids[0])
    parcel = order["fulfillments"][0]["fulfillment_id"]
    with pytest.raises(RefusedValue) as status:
        shop.set_status(order["order_id"], status="Lost")
    with pytest.raises(RefusedValue) as exception:
        shop.set_parcel(parcel, exception_status="gone")
    assert (status.value.field, exception.value.field) == ("status", "exception_status")
    assert shop.order(order["order_id"]) == order


def test_the_orders_export_has_a_row_for_each_line_item(tmp_path: Path) -> None:
    shop = Shop(orders=40, seed=2)
    path = tmp_path / "orders_export.csv"
    shop.write_orders_csv(path)
    with path.open(encoding="utf-8", newline="") as file:
        rows_by_name = defaultdict(list)
        for row in csv.DictReader(file):
            rows_by_name[row["Name"]].append(row)
    assert len(rows_by_name) == 40
    repeated = set()
    exported = zip(all_orders(shop), rows_by_name.values(), strict=True)
    for place, (order, rows) in enumerate(exported):
        assert len(rows) == order["line_item_count"]
        assert rows[0]["Id"] == str(order["order_id"])
        assert rows[0]["Email"] == (order["order_email"] or "")
        assert float(rows[0]["Total"]) == order["total_price"]
        assert all(row["Financial Status"] == "" for row in rows[1:])
        repeated |= {(place % 2, row["Id"] == rows[0]["Id"]) for row in rows[1:]}
    assert repeated == {(0, True), (1, False)}


def test_the_orders_export_has_the_present_state_of_changed_orders(tmp_path: Path) -> None:
    shop = Shop(orders=1, just_ready=1)
    order = shop.order(shop.order_ids[0])
    shop.replace(order | {"order_email": "new@example.com", "fulfillments": [], "statuses": []})
    shop.write_orders_csv(tmp_path / "orders_export.csv")
    with (tmp_path / "orders_export.csv").open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["Email"], row["Fulfillment Status"]) == ("new@example.com", "unfulfilled")


def test_a_replaced_order_has_the_statuses_of_its_parcels() -> None:
    shop = Shop(orders=2, just_ready=2)
    order = shop.order(shop.order_ids[0])
    [parcel] = order["fulfillments"]
    second = parcel | {"fulfillment_id": parcel["fulfillment_id"] + 4_500}
    shop.replace(order | {"fulfillments": [parcel, second | {"shipment_status": "in_transit"}]})
    assert shop.order(order["order_id"])["statuses"] == ["order_ready", "in_transit"]
    assert shop.revision(order["order_id"]) == 1
    moved = shop.set_parcel(second["fulfillment_id"], shipment_status="delivered")
    assert moved["order_id"] == order["order_id"]
    with pytest.raises(UnknownId):
        shop.replace(order | {"order_id": 7})
