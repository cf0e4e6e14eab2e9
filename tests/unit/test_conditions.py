"""Conditions of orders and parcels, their begin and urgency; thresholds."""

from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor import (
    Condition,
    InvalidInput,
    InvalidResponse,
    Order,
    OrderFacts,
    ThresholdOverride,
    Thresholds,
    conditions_of,
    most_urgent,
)
from prefect_tracktor.conditions import (
    RequestedConditions,
    probable_typos,
    requested_conditions,
)

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday
CARRIERS_STEPS = ("in_transit", "out_for_delivery", "delivered")
DELAYS = {"stalled", "in_transit_too_long", "label_only", "not_shipped"}


def ago(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def step(status: str, days_ago: float | None) -> dict[str, Any]:
    return {"key": status, "datetime": None if days_ago is None else ago(days_ago)}


def parcel(*steps: dict[str, Any], number: int = 1, **fields: Any) -> dict[str, Any]:
    """A parcel whose last step is the latest."""
    return {
        "fulfillment_id": 70 + number,
        "order_id": 1,
        "fulfillment_status": "fulfilled",
        "tracking_number": "1Z",
        "carrier": {"slug": "dhl", "name": "DHL Express"},
        "shipment_status": steps[-1]["key"] if steps else None,
        "latest_status": steps[-1] if steps else None,
        "status": list(steps),
    } | fields


def order(*parcels: dict[str, Any], **fields: Any) -> Order:
    statuses = [p["shipment_status"] for p in parcels if p["shipment_status"]]
    own = {"order_id": 1, "statuses": statuses, "fulfillments": list(parcels)}
    return Order.model_validate(own | fields)


def found(
    of: Order, thresholds: Thresholds | None = None, requested: RequestedConditions | None = None
) -> list[str]:
    more = {"requested": requested} if requested else {}
    conditions = conditions_of(of, thresholds or Thresholds(), NOW, **more)
    return [condition.name for condition in conditions]


def find_one(of: Order, name: str, thresholds: Thresholds | None = None) -> Condition:
    conditions = conditions_of(of, thresholds or Thresholds(), NOW)
    [condition] = [condition for condition in conditions if condition.name == name]
    return condition


MOVING = parcel(step("order_ready", 30), step("in_transit", 10))


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (order(parcel(step("in_transit", 1))), ["status:in_transit"]),
        (order(MOVING), ["stalled", "status:in_transit"]),
        (
            order(parcel(step("in_transit", 21), step("out_for_delivery", 1))),
            ["in_transit_too_long", "status:out_for_delivery"],
        ),
        (
            order(parcel(step("in_transit", 21))),
            ["stalled", "in_transit_too_long", "status:in_transit"],
        ),
        (order(parcel(step("order_ready", 4))), ["label_only", "status:order_ready"]),
        (order(parcel(step("order_ready", 2))), ["status:order_ready"]),
        (order(parcel(step("in_transit", 30), step("delivered", 9))), ["status:delivered"]),
        (
            order(parcel(step("in_transit", 10), exception_status="Tracking Expired")),
            ["exception:expired", "stalled", "status:in_transit"],
        ),
        (
            order(parcel(step("in_transit", 1), exception_status="Customs hold")),
            ["exception:customs_hold", "status:in_transit"],
        ),
        (order(parcel(step("delivered", 1), exception_status="expired")), ["status:delivered"]),
        (order(order_created_at=ago(8)), ["not_shipped"]),
        (order(order_created_at=ago(6)), []),
        (order(order_created_at=ago(8), statuses=["Sewing"]), ["not_shipped", "status:sewing"]),
        (order(order_created_at=ago(30), statuses=["order_ready"]), [
            "not_shipped", "status:order_ready",
        ]),
        (order(parcel(), order_created_at=ago(30)), []),
    ],
)  # fmt: skip
def test_all_conditions_are_found_most_urgent_first(of: Order, names: list[str]) -> None:
    assert found(of) == names


def test_a_condition_has_the_time_when_it_began() -> None:
    assert find_one(order(MOVING), "stalled").since == NOW - timedelta(days=3)
    too_long = order(parcel(step("in_transit", 25), step("out_for_delivery", 1)))
    assert find_one(too_long, "in_transit_too_long").since == NOW - timedelta(days=5)
    ready = order(parcel(step("order_ready", 4)))
    assert find_one(ready, "label_only").since == NOW - timedelta(days=1)
    waiting = order(order_created_at=ago(8))
    assert find_one(waiting, "not_shipped").since == NOW - timedelta(days=1)
    assert find_one(waiting, "not_shipped").parcel is None
    delivered = find_one(order(parcel(step("delivered", 3))), "status:delivered")
    assert delivered.since == NOW - timedelta(days=3)
    assert delivered.parcel is not None


def test_only_a_tracking_step_dates_an_exception() -> None:
    dated = parcel(step("in_transit", 3), step("exception", 1), exception_status="exception")
    undated = parcel(step("in_transit", 3), exception_status="exception")
    assert find_one(order(dated), "exception:exception").since == NOW - timedelta(days=1)
    assert find_one(order(undated), "exception:exception").since is None


def test_a_delay_ends_when_the_parcel_moves() -> None:
    moved = parcel(*MOVING["status"], step("out_for_delivery", 0.5))
    assert "stalled" not in found(order(moved))
    picked_up = parcel(step("order_ready", 4), step("in_transit", 0.5))
    assert "label_only" not in found(order(picked_up))
    assert "not_shipped" not in found(order(picked_up, order_created_at=ago(30)))


@pytest.mark.parametrize(
    "unknown",
    [
        parcel(step("in_transit", None)),
        parcel(step("in_transit", 30), step("out_for_delivery", None)),
        parcel(step("in_transit", 30), latest_status={"key": "in_transit", "datetime": "soon"}),
        parcel(step("in_transit", 30), status=[{"key": "in_transit", "datetime": "soon"}]),
        parcel(step("order_ready", None)),
        parcel(step("order_ready", 9), status=[{"key": "in_transit", "datetime": "soon"}]),
        parcel(step("in_transit", -30)),
        parcel(shipment_status="in_transit"),
    ],
)
def test_a_parcel_with_an_unknown_time_has_no_delay(unknown: dict[str, Any]) -> None:
    assert not DELAYS & set(found(order(unknown)))


@pytest.mark.parametrize("days_ago", [None, -2])
def test_a_status_with_a_missing_or_future_time_has_no_begin(days_ago: float | None) -> None:
    assert find_one(order(parcel(step("delivered", days_ago))), "status:delivered").since is None


def test_a_delivery_known_only_from_the_order_has_no_begin() -> None:
    late = parcel(step("in_transit", 30))
    of = order(late, statuses=["delivered"])
    assert found(of) == ["status:delivered"]
    assert find_one(of, "status:delivered").since is None


def test_a_status_set_by_hand_ends_the_carriers_delays() -> None:
    by_hand = parcel(step("in_transit", 30), step("Sent again", 20), is_automatic=False)
    assert found(order(by_hand)) == ["status:sent_again"]
    new_word = parcel(step("in_transit", 30), step("At customs", 20), is_automatic=True)
    assert "stalled" in found(order(new_word))
    cutting = parcel(step("Cutting", 20), is_automatic=False)
    assert found(order(cutting)) == ["status:cutting"]


@pytest.mark.parametrize(
    ("of", "requested"),
    [
        (order(exception_statuses=["expired"]), "exception:expired"),
        (order(MOVING, exception_statuses=["expired"]), "exception:all"),
        (order(statuses=["delivered"]), "status:delivered"),
        (
            order(MOVING, parcel(step("in_transit", 9), number=2), statuses=["delivered", "x"]),
            "stalled",
        ),
        (
            order(parcel(step("in_transit", 9), exception_status="Needs Attention")),
            "exception:expired",
        ),
    ],
)
def test_a_contradictory_order_is_unreadable_only_for_the_conditions_concerned(
    of: Order, requested: str
) -> None:
    with pytest.raises(InvalidResponse):
        found(of, requested=requested_conditions([requested]))
    others = {"exception:pending", "status:out_for_delivery", "label_only"}
    assert found(of, requested=requested_conditions(others)) == []


@pytest.mark.parametrize(
    "cancelled",
    [
        order(MOVING | {"exception_status": "expired"}, cancelled_at=ago(1)),
        order(MOVING | {"exception_status": "expired", "fulfillment_status": "cancelled"}),
        order(MOVING | {"exception_status": "expired"}).with_facts(OrderFacts(cancelled=True)),
        order(MOVING | {"exception_status": "expired"}).with_facts(
            OrderFacts(financial_status="refunded")
        ),
    ],
)
def test_cancelled_parcels_are_marked_and_have_no_delay(cancelled: Order) -> None:
    conditions = conditions_of(cancelled, Thresholds(), NOW)
    assert [c.name for c in conditions] == ["exception:expired", "status:in_transit"]
    assert all(condition.cancelled for condition in conditions)


@pytest.mark.parametrize(
    "facts",
    [
        OrderFacts(cancelled=True),
        OrderFacts(financial_status="voided"),
        OrderFacts(fulfillment_status="fulfilled"),
        OrderFacts(fulfillment_status="on_hold"),
        OrderFacts(fulfillment_status="scheduled"),
    ],
)
def test_orders_cancelled_fulfilled_or_on_hold_in_the_shop_are_not_late(facts: OrderFacts) -> None:
    assert found(order(order_created_at=ago(30)).with_facts(facts)) == []


def test_the_creation_time_may_come_from_the_orders_source() -> None:
    facts = OrderFacts(created_at=NOW - timedelta(days=8), fulfillment_status="unfulfilled")
    assert found(order().with_facts(facts)) == ["not_shipped"]


def test_most_urgent_keeps_one_condition_per_parcel_or_one_of_the_order() -> None:
    second = parcel(step("order_ready", 5), number=2, exception_status="pending")
    of = order(MOVING, second)
    kept = most_urgent(conditions_of(of, Thresholds(), NOW))
    assert [(c.name, c.parcel and c.parcel.fulfillment_id) for c in kept] == [
        ("exception:pending", 72),
        ("stalled", 71),
    ]
    unshipped = parcel(step("Cutting", 9), fulfillment_status=None, tracking_number=None)
    waiting = order(unshipped, order_created_at=ago(9))
    [kept_one] = most_urgent(conditions_of(waiting, Thresholds(), NOW))
    assert (kept_one.name, kept_one.parcel) == ("not_shipped", None)
    assert most_urgent([]) == ()


def test_conditions_of_refuses_a_naive_time() -> None:
    with pytest.raises(InvalidInput, match="now must be an aware time"):
        conditions_of(order(), Thresholds(), datetime(2026, 11, 25))  # noqa: DTZ001


def test_conditions_have_labels_for_people() -> None:
    of = order(parcel(step("Sent again", 1), exception_status="not_found"))
    labels = [condition.label for condition in conditions_of(of, Thresholds(), NOW)]
    assert labels == ["Needs Attention", "Sent again"]
    assert Condition("in_transit_too_long").label == "In transit too long"
    assert Condition("status:out_for_delivery").label == "Out for delivery"


@pytest.mark.parametrize(
    "name", ["", "delivered", "exception", "exception:", "status: ", "stalled:x", "exception:none"]
)
def test_an_invalid_condition_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="when: "):
        requested_conditions([name])


def test_an_empty_list_of_conditions_is_refused() -> None:
    with pytest.raises(InvalidInput, match="conditions is empty"):
        requested_conditions([], field="conditions")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("expird", "expired"), ("Undeliverd", "undelivered"), ("not_fuond", "not_found")],
)
def test_a_note_suggests_the_exception_that_a_typo_resembles(name: str, meant: str) -> None:
    [note] = probable_typos(requested_conditions([f"exception:{name}", "exception:pending"]))
    assert note.endswith(f"did you mean {meant}?")


@pytest.mark.parametrize("name", ["all", "Tracking Expired", "cancelled", "customs_hold", "lost"])
def test_an_unknown_exception_without_a_similar_name_gets_no_note(name: str) -> None:
    assert not list(probable_typos(requested_conditions([f"exception:{name}"])))


def test_conditions_can_be_requested_in_any_spelling() -> None:
    requested = requested_conditions(
        ["Exception: Tracking Expired", "status:In transit", "Label only"]
    )
    assert "exception:expired" in requested
    assert "status:in_transit" in requested
    assert "label_only" in requested
    for other in ("exception:pending", "status:delivered", "stalled", "exception", "other:x"):
        assert other not in requested
    assert "exception:anything" in requested_conditions(["exception:all"])
    assert "exception:needs_attention" in requested_conditions(["exception:not_found"])


# --- thresholds -------------------------------------------------------------------------------


BUSINESS = Thresholds(business_days=True, holidays=[date(2026, 11, 26)])


@pytest.mark.parametrize(
    ("start", "days", "end"),
    [
        ("2026-11-20T18:00Z", 1, "2026-11-23T18:00Z"),  # Friday
        ("2026-11-20T18:00Z", 2.5, "2026-11-25T06:00Z"),
        ("2026-11-21T10:00Z", 1, "2026-11-24T00:00Z"),  # Saturday
        ("2026-11-25T12:00Z", 1, "2026-11-27T12:00Z"),  # over the holiday
        ("2026-11-27T12:00Z", 5, "2026-12-04T12:00Z"),
        ("2026-11-23T00:00Z", 1, "2026-11-24T00:00Z"),
    ],
)
def test_weekends_and_holidays_do_not_count_as_business_days(
    start: str, days: float, end: str
) -> None:
    begun, expected = datetime.fromisoformat(start), datetime.fromisoformat(end)
    assert BUSINESS.later(begun, days=days) == expected
    assert Thresholds().later(begun, days=days) == begun + timedelta(days=days)


def test_business_days_begin_at_midnight_in_the_time_zone() -> None:
    tokyo = Thresholds(business_days=True, time_zone="Asia/Tokyo")
    sunday_evening = datetime(2026, 11, 22, 18, tzinfo=UTC)  # Monday 03:00 in Tokyo
    assert tokyo.later(sunday_evening, days=1) == sunday_evening + timedelta(days=1)


OVERRIDES = Thresholds(
    overrides=[
        ThresholdOverride(carrier="DHL Express", country="us", stalled_days=30),
        ThresholdOverride(carrier="dhl", label_only_days=9),
        ThresholdOverride(carrier="dhl", stalled_days=12),
        ThresholdOverride(shipping_method="Express", stalled_days=1, not_shipped_days=1),
    ]
)


@pytest.mark.parametrize(
    ("carrier", "facts", "days"),
    [
        ({"slug": "dhl", "name": "DHL Express"}, OrderFacts(country="US"), 30),
        ({"slug": "dhl", "name": "DHL Express"}, OrderFacts(country="DE"), 12),
        ({"slug": "dhl", "name": "DHL Express"}, OrderFacts(), 30),
        ({"slug": "dpd", "name": "DPD"}, OrderFacts(), 7),
        ({"slug": "ups"}, OrderFacts(country="US"), 7),
        ({"slug": "ups"}, OrderFacts(shipping_method="express"), 1),
        (None, OrderFacts(country="DE", shipping_method="Standard"), 12),
        (None, OrderFacts(), 30),
    ],
)
def test_the_first_matching_override_wins_and_an_uncertain_one_only_lengthens(
    carrier: Any, facts: OrderFacts, days: float
) -> None:
    of = order(parcel(step("in_transit", 40), carrier=carrier)).with_facts(facts)
    assert find_one(of, "stalled", OVERRIDES).since == NOW - timedelta(days=40 - days)


def test_an_order_without_parcels_has_a_shipping_method_and_no_carrier() -> None:
    of = order(order_created_at=ago(2)).with_facts(OrderFacts(shipping_method="Express"))
    assert found(of, OVERRIDES) == ["not_shipped"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"stalled_days": 0}, "stalled_days"),
        ({"stalled_days": float("nan")}, "stalled_days"),
        ({"label_only_days": 100_000}, "label_only_days"),
        ({"holidays": ["2026-12-25"]}, "turn it on"),
        ({"time_zone": "Mars"}, "Europe/Berlin"),
        ({"stall_days": 3}, "stall_days"),
        ({"overrides": [{"carrier": "dhl"}]}, "overrides.0.*set one of its numbers"),
        ({"overrides": [{"carrier": " ", "stalled_days": 3}]}, "carrier, country and shipping_m"),
        ({"overrides": [{"carrier": "dhl", "not_shipped_days": 3}]}, "leave one of them out"),
        ({"overrides": [{"country": "Germany", "stalled_days": 3}]}, "two-letter country code"),
        ({"overrides": [{"country": "DE", "stalled_days": -3}]}, "overrides.0.stalled_days"),
    ],
)
def test_an_invalid_threshold_is_refused_with_field_and_remedy(
    fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=rf"(?s){problem}"):
        Thresholds.model_validate(fields)


def test_the_form_of_thresholds_has_positions_and_descriptions() -> None:
    schema = Thresholds.model_json_schema()
    fields = schema["properties"]
    assert [form["position"] for form in fields.values()] == list(range(len(fields)))
    assert all(form["description"] for form in fields.values())
    assert Thresholds.model_validate_json(OVERRIDES.model_dump_json()) == OVERRIDES


# --- properties -------------------------------------------------------------------------------

DAYS = st.floats(min_value=0.1, max_value=60).map(lambda days: round(days, 3))
STEPS = st.lists(
    st.builds(step, st.sampled_from(["order_ready", "Sewing", *CARRIERS_STEPS]), st.none() | DAYS),
    max_size=4,
)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    parcels = [
        parcel(
            *sorted(draw(STEPS), key=lambda taken: taken["datetime"] or ""),
            number=number,
            exception_status=draw(st.sampled_from([None, None, "expired", "pending", "Customs"])),
            is_automatic=draw(st.booleans()),
            fulfillment_status=draw(st.sampled_from(["fulfilled", None, "cancelled"])),
            tracking_number=draw(st.sampled_from(["1Z", None])),
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    return order(*parcels, order_created_at=ago(draw(DAYS)))


THRESHOLDS = st.builds(
    Thresholds,
    stalled_days=DAYS,
    in_transit_too_long_days=DAYS,
    label_only_days=DAYS,
    not_shipped_days=DAYS,
    business_days=st.booleans(),
)


@given(orders(), THRESHOLDS)
def test_most_urgent_returns_at_most_one_condition_per_parcel(
    of: Order, thresholds: Thresholds
) -> None:
    conditions = conditions_of(of, thresholds, NOW)
    kept = most_urgent(conditions)
    parcels = [condition.parcel and condition.parcel.fulfillment_id for condition in kept]
    assert len(set(parcels)) == len(parcels)
    assert None not in parcels or len(parcels) == 1
    assert set(kept) <= set(conditions)
    assert bool(kept) == bool(conditions)
    ranks = [condition.urgency for condition in conditions]
    assert ranks == sorted(ranks)


@given(orders(), THRESHOLDS)
def test_conditions_do_not_depend_on_the_order_of_steps_and_parcels(
    of: Order, thresholds: Thresholds
) -> None:
    def as_set(of: Order) -> set[tuple[Any, ...]]:
        return {
            (c.name, c.parcel and c.parcel.fulfillment_id, c.since, c.cancelled)
            for c in conditions_of(of, thresholds, NOW)
        }

    expected = as_set(of)
    for parcels in permutations(of.fulfillments):
        turned = [p.model_copy(update={"status": p.status[::-1]}) for p in parcels]
        assert as_set(of.model_copy(update={"fulfillments": tuple(turned)})) == expected


@given(orders(), THRESHOLDS, st.floats(min_value=0, max_value=90))
def test_later_times_only_add_conditions(of: Order, thresholds: Thresholds, days: float) -> None:
    later = NOW + timedelta(days=days)
    before = {(c.name, c.since) for c in conditions_of(of, thresholds, NOW)}
    after = {(c.name, c.since) for c in conditions_of(of, thresholds, later)}
    assert before <= after
    assert all(NOW < since <= later for name, since in after - before if since)
    assert {name for name, _ in after - before} <= DELAYS


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    DAYS,
    DAYS,
    st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"]),
)
def test_business_days_add_up_and_are_never_shorter_than_days(
    start: datetime, first: float, second: float, zone: str
) -> None:
    thresholds = BUSINESS.model_copy(update={"time_zone": zone})
    middle = thresholds.later(start, days=first)
    end = thresholds.later(middle, days=second)
    assert start + timedelta(days=first) <= middle + timedelta(hours=1)  # daylight saving
    assert middle <= end
    assert abs(thresholds.later(start, days=first + second) - end) < timedelta(hours=2)
