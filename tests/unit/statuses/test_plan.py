"""Status plan: reconciliation with desired statuses, and progression by stages."""

import datetime as dt
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor import (
    DesiredStatus,
    InvalidInput,
    Order,
    OrderFacts,
    StatusOption,
    TracktorCredentials,
)
from prefect_tracktor.runs.cases import Outcome
from prefect_tracktor.runs.needs import TO_SET_STATUSES
from prefect_tracktor.runs.set_statuses import StatusJob
from prefect_tracktor.statuses.plan import (
    Change,
    Progression,
    Protected,
    Reconciliation,
    StatusStage,
    checked_stages,
    current,
    is_carriers,
)

OPTIONS = {
    option.label: option
    for option in (
        StatusOption(key="order_ready", label="Order ready"),
        StatusOption(key="in_transit", label="In transit"),
        StatusOption(key="delivered", label="Delivered"),
        StatusOption(key="cutting", label="Cutting"),
        StatusOption(key="sewing", label="Sewing"),
        StatusOption(label="Gravur läuft"),
    )
}
NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
STAGES = [
    (StatusStage("Cutting", 1), OPTIONS["Cutting"]),
    (StatusStage("Sewing", 3), OPTIONS["Sewing"]),
    (StatusStage("Gravur läuft", 5), OPTIONS["Gravur läuft"]),
]

labels = st.sampled_from(list(OPTIONS))
# statuses of orders: keys and labels in any letter case, and some that are not options any more
shown = st.one_of(
    labels,
    st.sampled_from([option.key for option in OPTIONS.values() if option.key]),
    labels.map(str.upper),
    st.sampled_from(["Retired status", "out_for_delivery"]),
)
flags = st.sampled_from([True, False, None])
parcels = st.lists(
    st.fixed_dictionaries(
        {
            "fulfillment_id": st.integers(1, 9),
            "shipment_status": st.none() | shown,
            "fulfillment_status": st.sampled_from(["fulfilled", "partial", None]),
            "is_automatic": flags,
        }
    ),
    max_size=3,
)
orders = st.builds(
    lambda **fields: Order.model_validate(fields),
    order_id=st.just(7),
    order_name=st.just("#7"),
    order_created_at=st.none() | st.integers(0, 9).map(lambda days: NOW - dt.timedelta(days=days)),
    automatic_carrier_updates=flags,
    statuses=st.lists(shown, max_size=1),
    fulfillments=parcels,
)
desired_statuses = st.builds(
    lambda status, automatic: DesiredStatus(7, status, None if status and automatic else automatic),
    st.none() | labels,
    flags,
)


def order(**fields: Any) -> Order:
    return Order.model_validate({"order_id": 7, "order_name": "#7"} | fields)


def parcel(shown: str | None = "order_ready", /, **fields: Any) -> dict[str, Any]:
    return {"fulfillment_id": 1, "shipment_status": shown} | fields


def applied(before: Order, update: DesiredStatus) -> Order:
    """Return the order after an update; Tracktor shows a built-in status by its key."""
    fields = before.model_dump()
    if update.automatic_carrier_updates is not None:
        fields["automatic_carrier_updates"] = update.automatic_carrier_updates
    if update.status is not None:
        option = OPTIONS[update.status]
        shows = option.key if option.label in {"Order ready", "In transit", "Delivered"} else None
        fields["statuses"] = [shows or option.label]
        for entry in fields["fulfillments"]:
            entry["shipment_status"] = shows or option.label
    return Order.model_validate(fields)


def reconciliation(desired: DesiredStatus, **options: bool) -> Reconciliation:
    return Reconciliation({7: desired}, list(OPTIONS.values()), **options)


@given(orders, desired_statuses, st.booleans(), st.booleans())
def test_an_updated_order_needs_no_further_change(
    before: Order, desired: DesiredStatus, takeover: bool, release: bool
) -> None:
    decide = reconciliation(desired, takeover=takeover, release_fulfilled=release)
    decision = decide(before)
    if isinstance(decision, Change):
        assert decide(applied(before, decision.update)) is None


@given(orders, desired_statuses, st.booleans())
def test_carrier_and_delivered_orders_get_no_status_without_takeover(
    before: Order, desired: DesiredStatus, release: bool
) -> None:
    decision = reconciliation(desired, release_fulfilled=release)(before)
    if isinstance(decision, Change) and decision.update.status:
        assert not is_carriers(before)
        assert not before.is_partly_delivered or decision.update.status == "Delivered"


@given(orders, desired_statuses)
def test_takeover_protects_no_order(before: Order, desired: DesiredStatus) -> None:
    decision = reconciliation(desired, takeover=True)(before)
    assert not isinstance(decision, Protected)


@given(orders)
def test_an_order_stays_at_its_stage(before: Order) -> None:
    decide = Progression(STAGES, list(OPTIONS.values()), now=NOW)
    decision = decide(before)
    if isinstance(decision, Change):
        assert decide(applied(before, decision.update)) is None
        assert not is_carriers(before)
        assert not before.is_partly_delivered


@given(orders, st.integers(0, 9))
def test_orders_only_move_to_later_stages(before: Order, days: int) -> None:
    names = [stage.status for stage, _ in STAGES]
    first = Progression(STAGES, list(OPTIONS.values()), now=NOW)(before)
    if not isinstance(first, Change):
        return
    after = applied(before, first.update)
    later = Progression(STAGES, list(OPTIONS.values()), now=NOW + dt.timedelta(days=days))(after)
    if isinstance(later, Change):
        assert names.index(later.new) > names.index(first.new)


@given(st.lists(st.integers(1, 50), unique=True, max_size=20), st.randoms(use_true_random=False))
def test_every_order_appears_once_in_the_plan(ids: list[int], chance: Random) -> None:
    def decide(order: Order) -> Change | Protected | None:
        decisions: list[Change | Protected | None] = [
            None,
            Change(DesiredStatus(order.order_id, "Sewing"), "#", "", "Sewing"),
            Protected(order.order_id, "#", "", "Sewing", "it is delivered"),
        ]
        return decisions[chance.randrange(3)]

    job = StatusJob(
        TracktorCredentials(uuid="00000000-0000-4000-8000-000000000001", api_key="s3cret"),
        decide,
        title="Set",
        key="set",
        dry_run=True,
        max_updates=0,
        needs=TO_SET_STATUSES,
    )
    job.choose([Order(order_id=order_id) for order_id in ids])
    right = job.report_fields()["right"]
    assert sorted([case.id for case in job.cases] + [*right]) == sorted(ids)
    assert all(case.planned == (case.outcome is Outcome.DUE) for case in job.cases)


def test_setting_a_status_turns_off_carrier_updates() -> None:
    decision = reconciliation(DesiredStatus(7, "Sewing"))(
        order(automatic_carrier_updates=True, statuses=["Cutting"])
    )
    assert decision == Change(DesiredStatus(7, "Sewing", False), "#7", "Cutting", "Sewing")


def test_an_order_without_parcels_can_be_set() -> None:
    decision = reconciliation(DesiredStatus(7, "Cutting"))(order(automatic_carrier_updates=True))
    assert isinstance(decision, Change)


@pytest.mark.parametrize("status", ["in_transit", "In transit", "IN TRANSIT"])
def test_a_status_matches_its_key_and_its_label(status: str) -> None:
    desired = DesiredStatus(7, "In transit")
    assert reconciliation(desired)(order(fulfillments=[parcel(status)])) is None


def test_a_status_key_matches_an_option_that_has_only_a_label() -> None:
    options = [StatusOption(label="In transit")]
    decide = Reconciliation({7: DesiredStatus(7, "In transit")}, options)
    assert decide(order(fulfillments=[parcel("in_transit")])) is None


def test_an_order_is_as_desired_only_if_all_its_parcels_are() -> None:
    two = order(automatic_carrier_updates=False, fulfillments=[parcel("Sewing"), parcel("Cutting")])
    decision = reconciliation(DesiredStatus(7, "Sewing"))(two)
    assert isinstance(decision, Change)
    assert decision.old == "Sewing, Cutting"


def test_a_delivered_parcel_protects_its_order() -> None:
    two = order(
        automatic_carrier_updates=False, fulfillments=[parcel("delivered"), parcel("Cutting")]
    )
    decision = reconciliation(DesiredStatus(7, "Sewing"))(two)
    assert isinstance(decision, Protected)
    assert decision.reason == "it is delivered"


def test_carrier_updates_off_does_not_override_protection_of_carrier_orders() -> None:
    carriers = order(automatic_carrier_updates=True, fulfillments=[parcel("in_transit")])
    decision = reconciliation(DesiredStatus(7, "Sewing", False))(carriers)
    assert isinstance(decision, Protected)
    assert decision.reason == "the carrier updates it"


def test_an_order_with_unknown_carrier_updates_is_protected() -> None:
    unknown = order(fulfillments=[parcel("in_transit")])
    assert isinstance(reconciliation(DesiredStatus(7, "Sewing"))(unknown), Protected)


def test_carrier_updates_on_returns_an_order_to_the_carrier() -> None:
    manual = order(automatic_carrier_updates=False, fulfillments=[parcel("Sewing")])
    desired = DesiredStatus(7, automatic_carrier_updates=True)
    decision = reconciliation(desired)(manual)
    assert isinstance(decision, Change)
    assert decision.update == desired


def test_release_fulfilled_returns_a_fulfilled_order_to_the_carrier() -> None:
    fulfilled = order(
        automatic_carrier_updates=False,
        fulfillments=[parcel("Sewing", fulfillment_status="fulfilled")],
    )
    desired = DesiredStatus(7, "Cutting")
    released = reconciliation(desired, release_fulfilled=True, takeover=True)(fulfilled)
    assert isinstance(released, Change)
    assert released.update == DesiredStatus(7, automatic_carrier_updates=True)
    assert (
        reconciliation(desired, release_fulfilled=True)(applied(fulfilled, released.update)) is None
    )


@pytest.mark.parametrize("status", ["Delivered", "delivered", "DELIVERED"])
def test_a_delivered_order_is_protected_in_any_letter_case(status: str) -> None:
    manual = order(automatic_carrier_updates=False, fulfillments=[parcel(status)])
    decision = reconciliation(DesiredStatus(7, "Sewing"))(manual)
    assert isinstance(decision, Protected)
    assert decision.reason == "it is delivered"


def test_an_order_with_a_carrier_status_and_no_parcels_is_protected() -> None:
    without = order(automatic_carrier_updates=True, statuses=["in_transit"])
    decision = reconciliation(DesiredStatus(7, "Sewing"))(without)
    assert isinstance(decision, Protected)
    assert decision.reason == "the carrier updates it"


def test_status_options_that_differ_only_in_letter_case_are_distinct() -> None:
    options = [StatusOption(label="Ready"), StatusOption(label="READY")]
    decide = Reconciliation({7: DesiredStatus(7, "Ready")}, options)
    shown = order(automatic_carrier_updates=False, statuses=["READY"])
    assert isinstance(decide(shown), Change)
    assert decide(order(automatic_carrier_updates=False, statuses=["Ready"])) is None


def test_a_label_takes_precedence_over_another_options_key() -> None:
    options = [StatusOption(key="sewing", label="Cutting"), StatusOption(key="x", label="sewing")]
    decide = Reconciliation({7: DesiredStatus(7, "sewing")}, options)
    assert decide(order(automatic_carrier_updates=False, statuses=["sewing"])) is None


def test_an_order_with_unknown_carrier_updates_is_not_released() -> None:
    unknown = order(fulfillments=[parcel("in_transit", fulfillment_status="fulfilled")])
    decide = reconciliation(DesiredStatus(7), release_fulfilled=True)
    undecided = decide(unknown)
    assert isinstance(undecided, Protected)
    assert undecided.reason == "it is not known who updates it"
    surely_manual = order(
        fulfillments=[parcel("Sewing", fulfillment_status="fulfilled", is_automatic=False)]
    )
    assert isinstance(decide(surely_manual), Change)


@pytest.mark.parametrize(
    "parcels",
    [
        [],
        [parcel("Sewing", fulfillment_status="partial")],
        [parcel("delivered", fulfillment_status="fulfilled")],
    ],
)
def test_unfulfilled_and_delivered_orders_are_not_released(parcels: list[Any]) -> None:
    manual = order(automatic_carrier_updates=False, fulfillments=parcels)
    decision = reconciliation(DesiredStatus(7), release_fulfilled=True)(manual)
    assert decision is None


@pytest.mark.parametrize(
    ("days", "status"),
    [(0.5, None), (1, "Cutting"), (2.9, "Cutting"), (3, "Sewing"), (100, "Gravur läuft")],
)
def test_the_age_of_an_order_decides_its_stage(days: float, status: str | None) -> None:
    placed = NOW - dt.timedelta(days=days)
    decision = Progression(STAGES, list(OPTIONS.values()), now=NOW)(order(order_created_at=placed))
    assert (decision.new if isinstance(decision, Change) else decision) == status


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"statuses": ["Gravur läuft"]}, "it is further on"),
        ({"statuses": ["Ready for pickup"]}, "it has a status that is none of the stages"),
        ({"statuses": ["delivered"]}, "it is delivered"),
        ({"order_created_at": None}, "its age is not known"),
        (
            {"automatic_carrier_updates": True, "fulfillments": [parcel("order_ready")]},
            "the carrier updates it",
        ),
        ({"cancelled_at": "2026-11-22T08:00:00Z"}, "it is cancelled"),
        ({"financial_status": "refunded", "statuses": ["Cutting"]}, "it is cancelled"),
    ],
)
def test_an_order_that_cannot_move_gives_the_reason(fields: dict[str, Any], reason: str) -> None:
    placed = {"order_created_at": NOW - dt.timedelta(days=3)}
    decision = Progression(STAGES, list(OPTIONS.values()), now=NOW)(order(**(placed | fields)))
    assert isinstance(decision, Protected)
    assert decision.reason == reason


def staged(stages: list[StatusStage], facts: OrderFacts) -> str | None:
    """Return the status that a day-old order with these facts gets."""
    options = [StatusOption(label=stage.status, key=stage.status.lower()) for stage in stages]
    placed = NOW - dt.timedelta(days=1)
    order = Order(order_id=1, order_created_at=placed, statuses=("Order ready",))
    decide = Progression(checked_stages(stages, options), options, NOW)
    decision = decide(order.with_facts(facts))
    return decision.new if isinstance(decision, Change) else None


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        (OrderFacts(), "Cutting"),
        (OrderFacts(tags=frozenset({"Engraved"})), "Engraving"),
        (OrderFacts(shipping_method="express"), "Priority"),
        (OrderFacts(tags=frozenset({"engraved"}), shipping_method="Express"), "Priority"),
    ],
)
def test_a_stage_may_require_a_tag_or_a_shipping_method(facts: OrderFacts, status: str) -> None:
    stages = [
        StatusStage("Cutting"),
        StatusStage("Engraving", tag="engraved"),
        StatusStage("Priority", shipping_method="Express"),
    ]
    assert staged(stages, facts) == status


def test_an_order_that_is_ready_can_move_to_a_stage() -> None:
    ready = order(
        order_created_at=NOW - dt.timedelta(days=3),
        automatic_carrier_updates=False,
        fulfillments=[parcel("order_ready"), parcel(None)],
    )
    assert isinstance(Progression(STAGES, list(OPTIONS.values()), now=NOW)(ready), Change)


SHIPPED: list[dict[str, Any]] = [
    {"fulfillment_status": "fulfilled"},
    {"fulfillment_status": "Fulfilled"},
    {"tracking_number": "1Z1"},
    {"latest_status": {"key": "in_transit"}},
    {"status": {"in_transit": {"label": "In transit", "datetime": "2026-11-24T08:00:00Z"}}},
]


@pytest.mark.parametrize("fields", SHIPPED)
def test_a_shipped_order_returns_to_its_carrier(fields: dict[str, Any]) -> None:
    shipped = order(
        order_created_at=NOW - dt.timedelta(days=4),
        automatic_carrier_updates=False,
        statuses=["Cutting"],
        fulfillments=[parcel("Cutting", **fields)],
    )
    decide = Progression(STAGES, list(OPTIONS.values()), now=NOW)
    decision = decide(shipped)
    assert isinstance(decision, Change)
    assert decision.update == DesiredStatus(7, automatic_carrier_updates=True)
    assert decide(applied(shipped, decision.update)) is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"fulfillments": [parcel("Cutting", fulfillment_status="partial")]}, "a part of it was"),
        (
            {"fulfillments": [parcel("Cutting", **SHIPPED[0]), parcel("Cutting")]},
            "a part of it was",
        ),
        ({"statuses": ["in_transit"]}, "a part of it was shipped"),
        (
            {"fulfillments": [parcel("Cutting", **SHIPPED[0])], "cancel_reason": "customer"},
            "it is cancelled",
        ),
    ],
)
def test_a_shipped_order_that_cannot_be_returned_is_protected(
    fields: dict[str, Any], reason: str
) -> None:
    shown = {
        "order_created_at": NOW - dt.timedelta(days=4),
        "automatic_carrier_updates": False,
        "statuses": ["Cutting"],
    }
    decision = Progression(STAGES, list(OPTIONS.values()), now=NOW)(order(**(shown | fields)))
    assert isinstance(decision, Protected)
    assert reason in decision.reason


CUTTING = order(
    order_created_at=NOW - dt.timedelta(days=4),
    automatic_carrier_updates=False,
    statuses=["Cutting"],
)


@pytest.mark.parametrize("facts", [OrderFacts(), OrderFacts(fulfillment_status="unfulfilled")])
def test_an_order_with_an_unshipped_item_is_not_returned_to_the_carrier(
    facts: OrderFacts,
) -> None:
    shipped_parcel = parcel("Cutting", **SHIPPED[0], line_items=[{"id": 1, "quantity": 2}])
    part = order(**CUTTING.model_dump() | {"line_item_count": 2, "fulfillments": [shipped_parcel]})
    decision = Progression(STAGES, list(OPTIONS.values()), now=NOW)(part.with_facts(facts))
    assert isinstance(decision, Protected)
    assert decision.reason == "a part of it was shipped"


def test_the_fulfillment_status_from_shopify_takes_precedence_over_parcels() -> None:
    decide = Progression(STAGES, list(OPTIONS.values()), now=NOW)
    shipped_parcel = parcel("Cutting", **SHIPPED[0], line_items=[{"id": 1}])
    shipped = order(
        **CUTTING.model_dump() | {"line_item_count": 2, "fulfillments": [shipped_parcel]}
    )
    whole = decide(shipped.with_facts(OrderFacts(fulfillment_status="fulfilled")))
    assert isinstance(whole, Change)
    assert whole.update == DesiredStatus(7, automatic_carrier_updates=True)
    part = order(**CUTTING.model_dump() | {"fulfillments": [shipped_parcel]})
    left = decide(part.with_facts(OrderFacts(fulfillment_status="partially_fulfilled")))
    assert isinstance(left, Protected)
    assert left.reason == "a part of it was shipped"


def test_an_order_just_fulfilled_in_shopify_gets_no_stage() -> None:
    just_fulfilled = CUTTING.with_facts(OrderFacts(fulfillment_status="fulfilled"))
    decision = Progression(STAGES, list(OPTIONS.values()), now=NOW)(just_fulfilled)
    assert isinstance(decision, Protected)
    assert decision.reason == "Tracktor does not show it as shipped yet"


@given(orders)
def test_a_shipped_order_never_gets_a_stage(before: Order) -> None:
    for release in (True, False):
        decide = Progression(STAGES, list(OPTIONS.values()), now=NOW, release_fulfilled=release)
        decision = decide(before)
        if isinstance(decision, Change) and before.has_shipped:
            assert release
            assert decision.update == DesiredStatus(7, automatic_carrier_updates=True)


def test_a_carrier_status_that_is_a_stage_does_not_mean_shipped() -> None:
    stages = [*STAGES, (StatusStage("In transit", 8), OPTIONS["In transit"])]
    decide = Progression(stages, list(OPTIONS.values()), now=NOW)
    by_hand = order(order_created_at=NOW - dt.timedelta(days=9), automatic_carrier_updates=False)
    decision = decide(by_hand)
    assert isinstance(decision, Change)
    assert decision.new == "In transit"
    assert decide(applied(by_hand, decision.update)) is None


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        ([], "stages is empty"),
        (
            [StatusStage("Cutting", 2), StatusStage("Sewing", 2)],
            r"stages\[1\] \('Sewing'\) must start later",
        ),
        (
            [StatusStage("Cutting", 1), StatusStage("Sowing", 2)],
            r"stages\[1\] \('Sowing'\): .* is not one of the .*; did you mean 'Sewing'\?",
        ),
        (
            [StatusStage("Cutting", 1), StatusStage("Sewing", 2), StatusStage("cutting", 3)],
            r"stages\[2\] is 'Cutting' like stages\[0\]",
        ),
    ],
)
def test_stages_out_of_order_are_rejected(stages: list[StatusStage], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        checked_stages(stages, list(OPTIONS.values()))


def test_a_stage_tag_with_a_comma_is_rejected() -> None:
    with pytest.raises(ValidationError, match="without a comma"):
        StatusStage("Cutting", tag="engraved,gift")


def test_a_stage_may_be_given_by_key_in_any_letter_case() -> None:
    [(_, option)] = checked_stages([StatusStage("IN_TRANSIT", 1)], list(OPTIONS.values()))
    assert option.label == "In transit"


def test_an_order_shows_each_of_its_statuses_once() -> None:
    assert (
        current(order(fulfillments=[parcel("Sewing"), parcel(None), parcel("Sewing")])) == "Sewing"
    )
