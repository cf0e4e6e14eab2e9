"""Statistics of parcels: percentiles, carriers by period, the digest's rows."""

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor import Order
from prefect_tracktor.conditions import Condition
from prefect_tracktor.figures import CarrierFigures, Digest, percentile
from prefect_tracktor.reporting.markdown import Link

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


def order(order_id: int = 1, *parcels: dict[str, Any], **fields: Any) -> Order:
    numbered = [{"fulfillment_id": n} | parcel for n, parcel in enumerate(parcels, 1)]
    return Order.model_validate({"order_id": order_id, "fulfillments": numbered} | fields)


def parcel(*steps: tuple[str, float], carrier: str = "UPS", **fields: Any) -> dict[str, Any]:
    """A parcel with steps, as pairs of a status and days ago."""
    times = [{"key": key, "datetime": NOW - timedelta(days=ago)} for key, ago in steps]
    return {"carrier": carrier, "status": times, "shipment_status": steps[-1][0]} | fields


def week(*orders: Order, cases: list[Condition] | None = None) -> dict[str, tuple[Any, Any]]:
    figures = CarrierFigures(NOW - WEEK, NOW)
    for one in orders:
        figures.take(one, cases or [])
    return {carrier: (now, before) for carrier, now, before in figures}


@given(st.lists(st.integers(0, 400), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_value_at_its_rank(values: list[int], percent: int) -> None:
    share = percent / 100
    rank = math.ceil(percent * len(values) / 100)
    assert percentile(Counter(values), share) == sorted(values)[rank - 1]


def test_empty_counts_have_no_percentile() -> None:
    assert percentile({}, 0.5) is None


def test_days_to_delivery_count_from_the_in_transit_step() -> None:
    ways = [parcel(("order_ready", 9), ("in_transit", n + 1), ("delivered", 1)) for n in (1, 2, 6)]
    now, before = week(order(1, *ways))["UPS"]
    assert (now.delivered, before.delivered) == (3, 0)
    assert now.days_to_delivery(0.5) == 2
    assert now.days_to_delivery(0.9) == 6
    assert before.days_to_delivery(0.5) is None


@pytest.mark.parametrize("steps", [[("delivered", 1)], [("out_for_delivery", 2), ("delivered", 1)]])
def test_a_delivery_with_an_unknown_start_has_no_days_to_delivery(
    steps: list[tuple[str, float]],
) -> None:
    now, _ = week(order(1, parcel(*steps)))["UPS"]
    assert now.delivered == 1
    assert now.days_to_delivery(0.5) is None


def test_a_delivery_counts_in_the_period_in_which_it_arrived() -> None:
    now, before = week(order(1, parcel(("in_transit", 10), ("delivered", 8))))["UPS"]
    assert (now.parcels, before.parcels) == (0, 1)
    assert (now.delivered, before.delivered) == (0, 1)


def test_a_parcel_in_transit_counts_until_tracking_ends() -> None:
    figures = week(
        order(1, parcel(("in_transit", 36)), parcel(("in_transit", 38))),
        order(2, parcel(("in_transit", 50), carrier="DPD")),
    )
    now, before = figures["UPS"]
    assert (now.parcels, before.parcels) == (1, 2)
    assert "DPD" not in figures


def test_cancelled_parcels_count_for_no_carrier() -> None:
    assert not week(order(1, parcel(("in_transit", 2), fulfillment_status="cancelled")))


def test_an_exception_counts_in_each_period_in_which_the_parcel_was_in_transit() -> None:
    late = order(
        1, parcel(("in_transit", 20)), parcel(("in_transit", 36)), parcel(("in_transit", 5))
    )
    cases = [Condition("exception:expired", each) for each in late.fulfillments[:2]]
    now, before = week(late, cases=cases)["UPS"]
    assert (now.parcels, now.with_exceptions) == (3, 2)
    assert (before.parcels, before.with_exceptions) == (2, 2)
    assert now.exception_share == pytest.approx(2 / 3)


def test_a_stall_counts_in_the_period_in_which_it_began() -> None:
    late = order(1, parcel(("in_transit", 20)), parcel(("in_transit", 50)))
    first, second = late.fulfillments
    cases = [
        Condition("stalled", first, NOW - timedelta(days=9)),
        Condition("stalled", second, NOW - timedelta(days=2)),
        Condition("not_shipped", None, NOW),
    ]
    now, before = week(late, cases=cases)["UPS"]
    assert (now.parcels, now.stalled) == (2, 1)
    assert (before.parcels, before.stalled) == (1, 1)


def test_an_exception_among_the_steps_counts_after_it_has_ended() -> None:
    ended = parcel(("in_transit", 6), ("undelivered", 3), ("delivered", 1))
    now, before = week(order(1, ended))["UPS"]
    assert (now.with_exceptions, before.with_exceptions) == (1, 0)


STEP = st.tuples(
    st.sampled_from(["order_ready", "in_transit", "out_for_delivery", "undelivered", "delivered"]),
    st.floats(-3, 60),
)


@given(st.lists(st.lists(STEP, min_size=1, max_size=6), max_size=12), st.randoms())
def test_carrier_figures_do_not_depend_on_the_order_of_steps(
    ways: list[list[tuple[str, float]]], random: Any
) -> None:
    def figures_of(ways: list[list[tuple[str, float]]]) -> list[Any]:
        made = CarrierFigures(NOW - WEEK, NOW)
        for number, way in enumerate(ways):
            made.take(order(number + 1, parcel(*way) | {"shipment_status": None}))
        return made.table()

    mixed = [random.sample(way, len(way)) for way in random.sample(ways, len(ways))]
    assert figures_of(mixed) == figures_of(ways)
    for figures in week(*(order(n + 1, parcel(*way)) for n, way in enumerate(ways))).values():
        for period in figures:
            assert period.delivered <= period.parcels
            assert period.with_exceptions <= period.parcels
            assert period.hours_to_delivery.total() <= period.delivered


def test_the_carrier_table_shows_the_previous_period_in_brackets() -> None:
    figures = CarrierFigures(NOW - WEEK, NOW)
    figures.take(order(1, parcel(("in_transit", 3), ("delivered", 1))))
    assert figures.table() == [
        {
            "Carrier": "UPS",
            "Parcels": "1 (0)",
            "Delivered": "1 (0)",
            "Median days": "2.0 (-)",
            "90% within days": "2.0 (-)",
            "With exceptions": "0% (-)",
            "Newly stalled": "0 (0)",
        }
    ]


def test_carriers_beyond_a_hundred_are_grouped_as_other() -> None:
    figures = week(*(order(n, parcel(("in_transit", 2), carrier=f"C{n}")) for n in range(1, 200)))
    assert len(figures) == 101
    assert figures["Other"][0].parcels == 99


def case(one: Order, key: str = "exception:expired", days: float = 3) -> Condition:
    return Condition(key, next(iter(one.fulfillments), None), NOW - timedelta(days=days))


def test_digest_rows_are_sorted_by_new_then_value_then_age() -> None:
    digest = Digest(NOW)
    for order_id, price, days in [(1, "999", 9), (2, "5", 9), (3, "80", 1), (4, "80", 2)]:
        one = order(order_id, total_price=price)
        digest.take(one, [case(one, "not_shipped", days)], is_new=order_id != 1)
    digest.take(order(5), [])
    assert [row["Order id"] for row in digest.rows] == ["4", "3", "2", "1"]
    assert [row["New"] for row in digest.rows] == ["New", "New", "New", ""]
    assert (digest.orders, digest.new) == (4, 3)
    assert dict(digest.charts()[0].counts) == {"Not shipped": 4}


def test_an_order_is_one_digest_row_with_links_to_shop_and_carrier() -> None:
    shop = {"shop_url": "https://my-shop.myshopify.com", "tracking_url": "https://ups.example/1"}
    one = order(7, parcel(("in_transit", 9), **shop), order_name="#7", total_price="1200.5")
    digest = Digest(NOW)
    digest.take(one, [case(one), case(one, "stalled", 5)])
    [row] = digest.rows
    assert row == {
        "New": "New",
        "Order": Link("#7", "https://admin.shopify.com/store/my-shop/orders/7"),
        "Condition": "Tracking Expired and Stalled",
        "Carrier": Link("UPS", "https://ups.example/1"),
        "Days": "5",
        "Value": "1,200.50",
        "Order id": "7",
    }


def test_a_condition_without_a_begin_is_as_old_as_the_last_update() -> None:
    one = order(1, parcel(("in_transit", 9)))
    digest = Digest(NOW)
    digest.take(one, [Condition("exception:expired", one.fulfillments[0])])
    assert digest.rows[0]["Days"] == "9"


def test_several_carriers_of_an_order_share_a_digest_cell() -> None:
    one = order(1, {"carrier": "UPS"}, {"carrier": "DPD"})
    digest = Digest(NOW)
    digest.take(one, [Condition("stalled", each, None) for each in one.fulfillments])
    assert digest.rows[0]["Carrier"] == "UPS, DPD"
    assert digest.rows[0]["Days"] == ""


@given(
    st.lists(st.tuples(st.booleans(), st.none() | st.integers(0, 50), st.integers(-5, 99))),
    st.integers(1, 9),
)
def test_the_digest_keeps_the_most_important_rows(
    orders: list[tuple[bool, int | None, int]], kept: int
) -> None:
    def rows(at_most: int) -> list[Any]:
        digest = Digest(NOW, rows_at_most=at_most)
        for number, (is_new, price, days) in enumerate(orders, 1):
            one = order(number, total_price=price)
            digest.take(one, [case(one, days=days)], is_new=is_new)
        assert digest.orders == len(orders)
        assert digest.new == sum(is_new for is_new, *_ in orders)
        assert all(sum(chart.counts.values()) == len(orders) for chart in digest.charts())
        return digest.rows

    everything = rows(1000)
    assert rows(kept) == everything[:kept]
    assert [row["New"] for row in everything] == sorted(
        (row["New"] for row in everything), reverse=True
    )


def test_statuses_and_cancelled_parcels_are_not_in_the_digest() -> None:
    digest = Digest(NOW)
    one = order(1, parcel(("in_transit", 9)))
    shown = one.fulfillments[0]
    digest.take(one, [Condition("status:in_transit", shown, NOW)])
    digest.take(one, [Condition("exception:expired", shown, NOW, cancelled=True)])
    assert (digest.orders, digest.rows, digest.charts()) == (0, [], [])


def test_an_order_without_a_price_comes_last_in_the_digest() -> None:
    digest = Digest(NOW)
    for order_id, price in [(1, None), (2, Decimal(0))]:
        one = order(order_id, total_price=price)
        digest.take(one, [case(one)])
    assert [row["Order id"] for row in digest.rows] == ["2", "1"]
