"""Simulated movement: timelines from a seed, and their effect on the shop."""

import math
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_tracktor.sandbox import Movement, MovementStep, Moving, Sandbox, Shop

AT_ONCE = math.inf
STATUSES = ["in_transit", "out_for_delivery", "delivered"]

MOVEMENTS = st.builds(Movement, seed=st.integers())


def ready_shop(parcels: int = 40) -> Shop:
    return Shop(orders=parcels, just_ready=parcels)


def parcels_of(shop: Shop) -> dict[int, dict[str, Any]]:
    return {
        parcel["fulfillment_id"]: parcel
        for order_id in shop.order_ids
        for parcel in shop.order(order_id)["fulfillments"]
    }


def by_parcel(steps: list[MovementStep]) -> dict[int, list[MovementStep]]:
    timelines = defaultdict(list)
    for step in steps:
        timelines[step.fulfillment_id].append(step)
    return timelines


def move(shop: Shop, movement: Movement) -> None:
    with Moving(shop, movement) as moving:
        assert moving.wait()


@given(movement=MOVEMENTS)
@settings(max_examples=25)
def test_the_same_seed_gives_the_same_timeline_at_any_speed(movement: Movement) -> None:
    steps = movement.steps(ready_shop(20))
    assert steps == movement.steps(ready_shop(20))
    assert steps == movement.model_copy(update={"speed": AT_ONCE}).steps(ready_shop(20))
    assert [step.after_hours for step in steps] == sorted(step.after_hours for step in steps)


@given(movement=MOVEMENTS, seed=st.integers(0, 50))
@settings(max_examples=25)
def test_every_moving_parcel_is_delivered_and_skips_no_status(
    movement: Movement, seed: int
) -> None:
    shop = Shop(orders=30, seed=seed)
    before = parcels_of(shop)
    for fulfillment_id, timeline in by_parcel(movement.steps(shop)).items():
        reached = [step.shipment_status for step in timeline]
        assert reached == STATUSES[len(STATUSES) - len(reached) :]
        assert before[fulfillment_id]["shipment_status"] not in reached
        assert all(a.after_hours < b.after_hours for a, b in pairwise(timeline))


def test_a_parcels_timeline_does_not_depend_on_other_parcels() -> None:
    shop = ready_shop()
    few, all_ = (by_parcel(Movement(parcels=n).steps(shop)) for n in (5, 40))
    assert len(few) == 5
    assert few.items() < all_.items()


def test_another_seed_gives_another_timeline() -> None:
    assert Movement(seed=1).steps(ready_shop()) != Movement(seed=2).steps(ready_shop())


def test_each_moving_parcel_arrives_once() -> None:
    shop = ready_shop(200)
    move(shop, Movement(parcels=200, speed=AT_ONCE))
    assert Counter(event.fulfillment_id for event in shop.arrivals) == dict.fromkeys(
        parcels_of(shop), 1
    )
    for arrival in shop.arrivals:
        assert arrival.order_email == shop.order(arrival.order_id)["order_email"]


def test_only_parcels_under_way_move() -> None:
    shop, untouched = (Shop(orders=120, expired=10) for _ in range(2))
    move(shop, Movement(speed=AT_ONCE))
    after = parcels_of(shop)
    for fulfillment_id, before in parcels_of(untouched).items():
        stays = (
            before["shipment_status"] == "delivered"
            or before["exception_status"]
            or not before["is_automatic"]
        )
        if stays:
            assert after[fulfillment_id] == before
        else:
            assert after[fulfillment_id]["shipment_status"] == "delivered"
    assert shop.customers_to_write_to() == untouched.customers_to_write_to()


def test_parcels_of_a_manual_order_stop_moving() -> None:
    shop = ready_shop(2)
    manual, automatic = shop.order_ids
    moving = Moving(shop, Movement(speed=AT_ONCE))
    shop.set_status(manual, status="Sewing", automatic_carrier_updates=False)
    with moving:
        assert moving.wait()
    assert shop.order(manual)["statuses"] == ["Sewing"]
    assert shop.order(automatic)["statuses"] == ["delivered"]


def test_carrier_updates_do_not_change_manual_orders() -> None:
    shop = ready_shop(1)
    [order_id] = shop.order_ids
    [fulfillment_id] = parcels_of(shop)
    shop.set_status(order_id, status="Sewing", automatic_carrier_updates=False)
    before = shop.order(order_id)
    parcel = shop.set_parcel(
        fulfillment_id, shipment_status="delivered", exception_status="expired", if_automatic=True
    )
    assert [parcel] == before["fulfillments"]
    assert shop.order(order_id) == before
    assert shop.arrivals == []


def test_a_movement_of_too_many_parcels_is_refused() -> None:
    with pytest.raises(ValueError, match="only 3 can move, not 4"):
        Moving(ready_shop(3), Movement(parcels=4))


@pytest.mark.parametrize("fields", [{"speed": 0.5}, {"parcels": -1}, {"sped": 3600}])
def test_invalid_movement_settings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Movement.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"just_ready": 4}, r"just_ready must be between 0 and orders \(3\), not 4"),
        ({"just_ready": 2, "expired": 2}, r"between 0 and orders - just_ready \(1\), not 2"),
    ],
)
def test_just_ready_and_expired_must_not_exceed_orders(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Shop(orders=3, **fields)


def test_just_ready_orders_do_not_change_the_other_orders() -> None:
    plain, ready = Shop(orders=60, expired=5), Shop(orders=60, expired=5, just_ready=20)
    changed = [i for i in plain.order_ids if plain.order(i) != ready.order(i)]
    assert 15 < len(changed) <= 20
    assert plain.customers_to_write_to() == ready.customers_to_write_to()
    assert list(plain.order_ids) == list(ready.order_ids)


def test_stopping_the_sandbox_stops_the_movement() -> None:
    with Sandbox(ready_shop(3)) as tracktor:
        moving = tracktor.move(Movement(speed=1))
        before = moving.is_running
        with pytest.raises(RuntimeError, match="already move"):
            tracktor.move()
    assert (before, moving.is_running) == (True, False)
    assert moving.steps_left == 9
    with pytest.raises(RuntimeError, match="start it"):
        tracktor.move()


def test_a_stopped_movement_can_be_followed_by_another() -> None:
    with Sandbox(ready_shop(3)) as tracktor:
        tracktor.move(Movement(speed=1)).stop()
        assert tracktor.move(Movement(speed=AT_ONCE)).wait()
        assert len(tracktor.shop.arrivals) == 3
