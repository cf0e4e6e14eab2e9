"""Notification rules: which notices are due, when, and what supersedes them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from prefect_tracktor import (
    HttpChannel,
    NotificationRule,
    Order,
    OrderFacts,
    ShipmentStatus,
    Thresholds,
)
from prefect_tracktor.messages.channel import Content
from prefect_tracktor.rules import (
    Notification,
    Skipped,
    Unreadable,
    channels_of,
    chooser,
    is_later,
    kind_of,
    numbered,
    one_parcel_each,
    unnumbered,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def parcel(number: int, status: str, days_ago: float | None = 1, **fields: Any) -> dict[str, Any]:
    """A parcel that reached a status some days ago, or at an unknown time."""
    step: dict[str, Any] = {"key": status}
    if days_ago is not None:
        step["datetime"] = (NOW - timedelta(days=days_ago)).isoformat()
    return {
        "fulfillment_id": number,
        "shipment_status": status,
        "fulfillment_status": "fulfilled",
        "latest_status": step,
        "status": [step],
    } | fields


def order(*parcels: dict[str, Any], **fields: Any) -> Order:
    return Order.model_validate({"order_id": 1, "fulfillments": list(parcels)} | fields)


def rule(*when: str, **fields: Any) -> NotificationRule:
    return NotificationRule.model_validate({"name": "news", "when": list(when)} | fields)


def choices(
    order: Order, *rules: NotificationRule, now: datetime = NOW, **options: Any
) -> list[Notification | Skipped | Unreadable]:
    """The notices and skips that the rules choose for an order."""
    return list(chooser(rules, now, **options)(order))


def reasons(found: Sequence[Notification | Skipped | Unreadable]) -> list[tuple[int, str]]:
    """The fulfillment id and the ledger's reason of each notice."""
    notifications = [one for one in found if isinstance(one, Notification)]
    return [(r.fulfillment_id, r.reason) for one in notifications for r in one.subjects]


def test_the_ledgers_reason_contains_the_rules_name() -> None:
    arrived = order(parcel(7, "delivered"))
    rules = [rule("status:delivered", name="arrived"), rule("status:delivered", name="thanks")]
    assert reasons(choices(arrived, *rules)) == [
        (7, "arrived:status:delivered"),
        (7, "thanks:status:delivered"),
    ]


@pytest.mark.parametrize("kind", ["status", "exception"])
def test_a_rule_named_like_its_condition_shares_the_ready_made_flows_reason(kind: str) -> None:
    shop = order(parcel(7, "in_transit", exception_status="expired"))
    name = {"status": "status:in_transit", "exception": "exception:expired"}[kind]
    assert reasons(choices(shop, rule(name, name=kind))) == [(7, name)]


@pytest.mark.parametrize(
    ("days_ago", "due"), [(0.5, False), (2.9, False), (3.1, True), (5.9, True), (6.1, False)]
)
def test_a_notice_is_due_from_after_days_until_within_days(days_ago: float, due: bool) -> None:
    how_was_it = rule("status:delivered", after_days=3, within_days=3)
    assert bool(choices(order(parcel(7, "delivered", days_ago)), how_was_it)) is due


def test_an_old_status_gets_no_notice_and_an_old_exception_gets_one() -> None:
    assert choices(order(parcel(7, "delivered", 30)), rule("status:delivered")) == []
    old = order(parcel(7, "in_transit", 300, exception_status="expired"))
    assert reasons(choices(old, rule("exception:expired"))) == [(7, "news:exception:expired")]


def test_a_status_without_a_usable_time_is_skipped_as_undated() -> None:
    for days_ago in (None, -2):
        found = choices(order(parcel(7, "delivered", days_ago)), rule("status:delivered"))
        assert found == [Skipped.UNDATED]


def test_an_order_rule_gives_one_notice_when_all_parcels_have_arrived() -> None:
    whole = rule("status:delivered", per="order")
    assert choices(order(parcel(7, "delivered"), parcel(8, "in_transit")), whole) == []
    both = order(parcel(7, "delivered", 2), parcel(8, "delivered", 1))
    assert reasons(choices(both, whole)) == [(0, "news:status:delivered")]
    [notification] = choices(both, whole)
    assert isinstance(notification, Notification)
    assert isinstance(notification.content, Content)
    assert notification.content.about == "all_delivered"
    assert [p.fulfillment_id for p in notification.subjects[0].parcels] == [7, 8]


def test_an_order_rule_waits_for_a_partially_fulfilled_order() -> None:
    part = order(parcel(7, "delivered")).with_facts(
        OrderFacts(fulfillment_status="partially_fulfilled")
    )
    assert choices(part, rule("status:delivered", per="order")) == []


def test_an_order_rule_counts_from_the_last_parcels_arrival() -> None:
    later = order(parcel(7, "delivered", 9), parcel(8, "delivered", 1))
    assert choices(later, rule("status:delivered", per="order", after_days=2, within_days=30)) == []
    assert choices(later, rule("status:delivered", per="order", after_days=1, within_days=30))


def test_an_order_rule_skips_deliveries_without_a_time() -> None:
    whole = rule("status:delivered", per="order")
    assert choices(order(parcel(7, "delivered", None)), whole) == [Skipped.UNDATED]
    unseen = order(parcel(7, "delivered", 400), parcel(8, "", None), statuses=["Delivered"] * 2)
    assert reasons(choices(unseen, whole)) == []


def test_an_order_rule_waits_until_the_parcels_hold_all_items() -> None:
    one = parcel(7, "delivered", line_items=[{"name": "Shirt", "quantity": 1}])
    whole = rule("status:delivered", per="order")
    assert choices(order(one, line_item_count=3), whole) == []
    assert choices(order(one, line_item_count=1), whole)
    several = parcel(7, "delivered", line_items=[{"id": 1, "name": "Shirt", "quantity": 2}])
    assert choices(order(several, line_item_count=2), whole) == []
    rest = parcel(8, "delivered", line_items=[{"id": 2, "name": "Mug", "quantity": 1}])
    assert choices(order(several, rest, line_item_count=2), whole)


def test_an_order_rule_waits_for_the_items_of_a_cancelled_parcel() -> None:
    sent = parcel(7, "delivered", line_items=[{"id": 1}])
    taken_back = parcel(8, "in_transit", fulfillment_status="cancelled", line_items=[{"id": 2}])
    whole = rule("status:delivered", per="order")
    assert choices(order(sent, taken_back, line_item_count=2), whole) == []
    again = parcel(9, "delivered", line_items=[{"id": 2}])
    assert choices(order(sent, taken_back, again, line_item_count=2), whole)


def test_a_fulfilled_order_is_whole_with_lines_that_are_never_shipped() -> None:
    with_a_gift_card = order(parcel(7, "delivered", line_items=[{"id": 1}]), line_item_count=2)
    whole = rule("status:delivered", per="order")
    assert choices(with_a_gift_card, whole) == []
    facts = OrderFacts(fulfillment_status="fulfilled")
    assert reasons(choices(with_a_gift_card.with_facts(facts), whole)) == [
        (0, "news:status:delivered")
    ]


def test_an_order_rules_notice_leaves_cancelled_parcels_out() -> None:
    gone = parcel(8, "in_transit", fulfillment_status="cancelled")
    [notification] = choices(
        order(parcel(7, "delivered"), gone), rule("status:delivered", per="order")
    )
    assert isinstance(notification, Notification)
    assert [p.fulfillment_id for p in notification.subjects[0].parcels] == [7]


def test_a_messages_content_leaves_out_conditions_sent_before() -> None:
    both = order(
        parcel(7, "in_transit", exception_status="expired"),
        parcel(8, "in_transit", exception_status="undelivered"),
    )
    [notification] = choices(both, rule("exception:all"))
    assert isinstance(notification, Notification)
    content = notification.content_about({(8, "news:exception:undelivered")})
    assert [condition.name for condition in content.conditions] == ["exception:undelivered"]


def test_a_custom_status_gives_a_notice_before_there_is_a_parcel() -> None:
    sewing = order(statuses=["Sewing"])
    assert reasons(choices(sewing, rule("status:sewing"))) == [(0, "news:status:sewing")]


def test_cancelled_orders_are_skipped_unless_included() -> None:
    gone = order(parcel(7, "in_transit", exception_status="expired")).with_facts(
        OrderFacts(financial_status="refunded")
    )
    lost = rule("exception:expired")
    assert choices(gone, lost) == [Skipped.CANCELLED]
    assert reasons(choices(gone, lost, include_cancelled=True)) == [(7, "news:exception:expired")]


def test_a_rule_with_tags_applies_to_tagged_orders_only() -> None:
    arrived = order(parcel(7, "delivered"))
    vip = rule("status:delivered", tags=[" VIP "])
    assert choices(arrived, vip) == []
    assert choices(arrived.with_facts(OrderFacts(tags=frozenset({"vip", "gift"}))), vip)


def test_one_notification_covers_all_parcels_with_the_same_status() -> None:
    shop = order(parcel(7, "delivered"), parcel(8, "delivered"), parcel(9, "out_for_delivery"))
    found = choices(shop, rule("status:delivered", "status:out_for_delivery"))
    parcels = [[r.fulfillment_id for r in one.subjects] for one in found]  # type: ignore[union-attr]
    assert sorted(parcels) == [[7, 8], [9]]
    split = one_parcel_each(chooser([rule("status:delivered")], NOW))(shop)
    assert reasons(list(split)) == [(7, "news:status:delivered"), (8, "news:status:delivered")]


def test_a_contradiction_about_one_rules_condition_does_not_affect_other_rules() -> None:
    odd = order(parcel(7, "delivered"), parcel(8, "in_transit"), exception_statuses=["expired"])
    found = choices(odd, rule("exception:expired", name="lost"), rule("status:delivered"))
    assert any(isinstance(one, Unreadable) for one in found)
    assert reasons(found) == [(7, "news:status:delivered")]


def test_a_rule_about_delays_uses_the_thresholds() -> None:
    slow = order(parcel(7, "in_transit", 5, tracking_number="1Z"))
    late = rule("stalled")
    assert choices(slow, late, thresholds=Thresholds(stalled_days=7)) == []
    assert choices(slow, late, thresholds=Thresholds(stalled_days=4))


@pytest.mark.parametrize(
    ("problem", "fields"),
    [
        ("when is empty", {"when": []}),
        ("is not a condition", {"when": ["deliverd"]}),
        ("name", {"name": "What now?"}),
        ("per: an exception is about a parcel", {"when": ["exception:expired"], "per": "order"}),
        ("per: with per=order", {"when": ["status:delivered", "status:sewing"], "per": "order"}),
        ("after_days", {"after_days": -1}),
        ("times", {"times": 0}),
        ("set within_days to more", {"when": ["status:delivered"], "times": 2}),
        ("set within_days to more", {"times": 3, "within_days": 10}),
        # in any spelling of the condition
        ("per: an exception is about a parcel", {"when": [" Exception:Expired"], "per": "order"}),
        ("per: with per=order", {"when": ["Status: All"], "per": "order"}),
        ("set within_days to more", {"when": ["STATUS:delivered"], "times": 2}),
        ("(?s)tags.*without a comma", {"tags": ["vip,gift"]}),
        ("(?s)tags.*must be one tag", {"tags": [" "]}),
        ("Extra inputs", {"channels": "mail"}),
    ],
)
def test_an_invalid_rule_is_refused_with_its_field(problem: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=problem):
        NotificationRule.model_validate({"name": "news", "when": ["stalled"]} | fields)


STEPS = [str(status) for status in ShipmentStatus]
step = st.sampled_from(STEPS)
name = st.sampled_from(["", "arrived:", "how-was-it:"])


@given(name, step, name, step)
def test_a_notice_is_superseded_only_by_a_later_step_of_any_rule(
    own: str, status: str, other: str, other_status: str
) -> None:
    later = STEPS.index(other_status) > STEPS.index(status)
    assert is_later(f"{other}status:{other_status}", f"{own}status:{status}") is later


@given(name, st.sampled_from(["exception:expired", "stalled", "exception:customs_hold"]), step)
def test_a_delivery_supersedes_exceptions_and_delays(own: str, condition: str, status: str) -> None:
    assert is_later(f"status:{status}", own + condition) is (status == "delivered")
    assert not is_later(own + condition, f"status:{status}")


def test_events_and_custom_statuses_supersede_nothing() -> None:
    assert not is_later("status:delivered", "event:exception:expired")
    assert not is_later("event:exception:expired", "status:in_transit")
    assert not is_later("status:delivered", "made:status:sewing")


@given(name, step, st.integers(1, 20))
def test_a_repeated_notice_has_another_key_and_the_same_reason(
    own: str, status: str, number: int
) -> None:
    reason = f"{own}status:{status}"
    assert unnumbered(numbered(reason, number)) == reason
    assert (numbered(reason, number) == reason) is (number == 1)
    assert is_later(numbered("status:delivered", number), "status:in_transit")


def test_the_kind_of_a_reason_comes_from_its_condition_not_the_rules_name() -> None:
    assert kind_of("late-status:stalled") == "stalled"
    assert kind_of("status:exception:expired") == kind_of("exception:expired#2") == "exception"
    assert kind_of("made:status:sewing") == "status"


@pytest.mark.parametrize("marks", ["#", "##", "#-", "#²"])
def test_an_exception_of_number_signs_alone_is_a_valid_reason(marks: str) -> None:
    reason = f"lost:exception:{marks}"
    assert unnumbered(numbered(reason, 2)) == unnumbered(reason) == reason


@given(st.floats(0, 60), st.floats(0, 10), st.floats(0.5, 10))
def test_a_notice_is_due_in_one_unbroken_period(
    days_ago: float, after: float, within: float
) -> None:
    news = rule("status:delivered", after_days=after, within_days=within)
    arrived = order(parcel(7, "delivered", days_ago))
    due = [bool(choices(arrived, news, now=NOW + timedelta(days=d))) for d in range(0, 80, 2)]
    assert "".join("x" if one else "." for one in due).strip(".").count(".") == 0


def test_channels_of_accepts_rules_as_dictionaries() -> None:
    channel = HttpChannel(address=SecretStr("https://hooks.example"), body="{}")
    rules = [
        {"name": "mail", "when": ["stalled"]},
        {"name": "post", "when": ["stalled"], "channel": channel},
        NotificationRule(name="again", when=["stalled"], channel=channel),
    ]
    assert channels_of(rules) == [None, channel]
