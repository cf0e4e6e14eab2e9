"""Each rule of the audit reports records that break it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.system.audit import rules
from tests.system.audit.records import WHOLE_ORDER, Due, Notice, ReceivedNotice, Run
from tests.system.audit.rules import DAY, due_of
from tests.system.audit.world import MADE_TO_ORDER, VIP, Snapshot, StatusUpdate

HOUR = timedelta(hours=1)
START = datetime(2026, 3, 2, tzinfo=UTC)
ORDER, PARCEL, SECOND = 5, 71, 72
EVERY_RULE = rules.BY_MAIL | rules.BY_POST


def order(*statuses: str, shows: str = "") -> dict[str, Any]:
    """Return an order of two lines, with a parcel in each status."""
    parcels = [
        {
            "fulfillment_id": PARCEL + number,
            "shipment_status": status,
            "exception_status": None,
            "latest_status": {"label": status, "datetime": START.isoformat()},
            "line_items": [{"id": number}] if len(statuses) > 1 else [{"id": 0}, {"id": 1}],
        }
        for number, status in enumerate(statuses)
    ]
    return {
        "order_id": ORDER,
        "order_email": "ada@example.com",
        "order_created_at": START.isoformat(),
        "line_item_count": 2,
        "automatic_carrier_updates": True,
        "statuses": [shows] if shows else list(statuses),
        "fulfillments": parcels,
    }


def with_exception(status: str, exception: str) -> dict[str, Any]:
    found = order(status)
    found["fulfillments"][0]["exception_status"] = exception
    return found


def snapshots(*shown: tuple[timedelta, dict[str, Any]], cancelled: bool = False) -> list[Snapshot]:
    """Return snapshots of an order at times after the start."""
    return [Snapshot(START + after, entry, is_cancelled=cancelled) for after, entry in shown]


DELIVERY = snapshots(
    (0 * HOUR, order()),
    (10 * HOUR, order("order_ready")),
    (20 * HOUR, order("in_transit")),
    (60 * HOUR, order("out_for_delivery")),
    (66 * HOUR, order("delivered")),
)
HISTORY = {ORDER: DELIVERY}


def runs(*hours: int, **fields: Any) -> list[Run]:
    """Return runs over the order, each an hour long."""
    return [
        Run(
            name="a run",
            begin=START + begin * HOUR,
            end=START + (begin + 1) * HOUR,
            rules=EVERY_RULE,
            orders=frozenset({ORDER}),
            **fields,
        )
        for begin in hours
    ]


def received(
    rule: str, about: str, hours: float, parcel: int = PARCEL, message: int = 0
) -> ReceivedNotice:
    by_mail = "ada@example.com" if rule in rules.BY_MAIL else ""
    return ReceivedNotice(
        Notice(rule, ORDER, parcel, about), START + hours * HOUR, message, by_mail
    )


def due(history: list[Snapshot] = DELIVERY, *tags: str) -> list[Due]:
    return list(due_of(ORDER, history, tags))


CORRECT = [
    received("status", "in_transit", 24.5, message=1),
    received("status", "out_for_delivery", 61.5, message=2),
    received("pushed", "out_for_delivery", 61.5),
    received("status", "delivered", 70.5, message=3),
    received("whole", "delivered", 70.5, WHOLE_ORDER, message=4),
    received("pushed", "delivered", 70.5),
    received("survey", "delivered", 96.5, message=5),
]
RUNS = runs(24, 61, 70, 96)


def test_correct_records_pass_all_rules() -> None:
    assert {one.notice for one in due()} == {one.notice for one in CORRECT}
    assert rules.sent_too_often(CORRECT, due()) == []
    assert rules.sent_without_reason(CORRECT, due(), RUNS) == []
    assert rules.not_sent(due(), CORRECT, RUNS) == []
    assert rules.earlier_stage_after_later(CORRECT) == []
    assert rules.sent_to_cancelled(CORRECT, HISTORY, RUNS) == []
    assert rules.sent_to_others(CORRECT, HISTORY) == []
    assert rules.too_many_a_day(CORRECT) == []


@pytest.mark.parametrize(
    "missing", CORRECT, ids=lambda one: f"{one.notice.rule}-{one.notice.about}"
)
def test_a_missing_notice_is_reported(missing: ReceivedNotice) -> None:
    left = [one for one in CORRECT if one != missing]
    [problem] = rules.not_sent(due(), left, RUNS)
    assert problem.startswith(str(missing.notice))


def test_a_late_notice_is_reported_for_the_run_before() -> None:
    late = [replace(one, at=START + 90 * HOUR) if one is CORRECT[3] else one for one in CORRECT]
    assert len(rules.not_sent(due(), late, runs(24, 61, 70, 89, 96))) == 1


@pytest.mark.parametrize(
    "reported", [{"left": frozenset({ORDER})}, {"failed": True}], ids=["left", "failed"]
)
def test_orders_left_by_a_run_are_not_reported_for_it(reported: dict[str, Any]) -> None:
    silent_runs = [*runs(24), *runs(61), *runs(70, **reported)]
    assert rules.not_sent(due(), CORRECT[:3], silent_runs) == []
    assert len(rules.not_sent(due(), CORRECT[:3], [*silent_runs, *runs(71)])) == 3


def test_a_repeated_notice_is_reported() -> None:
    again = [*CORRECT, received("status", "in_transit", 24.7)]
    assert rules.sent_too_often(again, due()) == [f"{again[0].notice} was sent 2 times"]


@pytest.mark.parametrize(
    "wrong",
    [
        received("status", "in_transit", 19),
        received("status", "in_transit", 66),
        received("survey", "delivered", 80),
        received("survey", "delivered", 200),
        received("lost", "expired", 30),
        received("whole", "delivered", 61, WHOLE_ORDER),
        received("vip", "out_for_delivery", 61),
    ],
    ids=lambda one: f"{one.notice.rule}-{one.notice.about}-{one.at:%d%H}",
)
def test_a_notice_without_a_reason_is_reported(wrong: ReceivedNotice) -> None:
    [problem] = rules.sent_without_reason([*CORRECT, wrong], due(), RUNS)
    assert str(wrong.notice) in problem


def test_an_earlier_stage_after_a_later_one_is_reported() -> None:
    [problem] = rules.earlier_stage_after_later([*CORRECT, received("late", "stalled", 71)])[:1]
    assert "after" in problem
    assert rules.earlier_stage_after_later([CORRECT[2], received("status", "in_transit", 62)])


def test_a_notice_about_a_cancelled_order_is_reported() -> None:
    history = {
        ORDER: [
            *DELIVERY[:3],
            *snapshots((50 * HOUR, order("in_transit")), cancelled=True),
            *DELIVERY[3:],
        ]
    }
    assert len(rules.sent_to_cancelled(CORRECT, history, RUNS)) == len(CORRECT) - 1
    assert {one.notice.rule for one in due(snapshots(*_times(DELIVERY), cancelled=True))} == set()


def _times(history: list[Snapshot]) -> list[tuple[timedelta, dict[str, Any]]]:
    return [(one.at - START, one.order) for one in history]


def test_a_wrong_recipient_is_reported() -> None:
    wrong = replace(CORRECT[0], to="bob@example.com")
    assert rules.sent_to_others([wrong], HISTORY) == [f"{wrong.notice} was sent to bob@example.com"]


def test_a_fourth_message_in_a_day_is_reported() -> None:
    same_day = [received("status", "delivered", 70, message=number) for number in range(4)]
    assert rules.too_many_a_day(same_day) == [
        f"ada@example.com had 4 messages on {START + 70 * HOUR:%F}"
    ]
    assert rules.too_many_a_day(same_day[:3]) == []


def test_an_order_in_parts_is_complete_with_its_last_parcel() -> None:
    one_of_two = order("delivered")
    one_of_two["fulfillments"][0]["line_items"] = [{"id": 0}]
    parts = snapshots(
        (0 * HOUR, one_of_two),
        (5 * HOUR, order("delivered", "in_transit")),
        (9 * HOUR, order("delivered", "delivered")),
    )
    [whole] = [one for one in due(parts) if one.notice.rule == "whole"]
    assert [span.begin for span in whole.spans] == [START + 9 * HOUR]


def test_delays_exceptions_stages_and_tags_are_due_on_time() -> None:
    history = snapshots(
        (0 * HOUR, order(shows="Cutting")),
        (130 * HOUR, order("in_transit")),
        (140 * HOUR, with_exception("in_transit", "expired")),
        (150 * HOUR, order("in_transit")),
        (220 * HOUR, order("out_for_delivery")),
    )
    spans = {(one.notice.rule, one.notice.about): one.spans for one in due(history, VIP)}
    assert spans["made", "Cutting"][0].end == START + 130 * HOUR
    assert spans["waiting", "not_shipped"] == ((START + 5 * DAY, START + 130 * HOUR),)
    assert spans["lost", "expired"] == ((START + 140 * HOUR, START + 150 * HOUR),)
    assert spans["late", "stalled"][0] == (START + 202 * HOUR, START + 220 * HOUR)
    assert ("vip", "out_for_delivery") in spans


WITH_EXCEPTION = snapshots((0 * HOUR, with_exception("in_transit", "expired")))


def test_early_excess_and_missing_reminders_are_reported() -> None:
    first, second, third = (received("lost", "expired", hours) for hours in (1, 73, 150))
    only = [one for one in due(WITH_EXCEPTION) if one.notice.rule == "lost"]
    assert rules.not_sent(only, [first, second], runs(0, 40, 73, 150)) == []
    assert len(rules.not_sent(only, [first], runs(0, 40, 73, 150))) == 1
    assert len(rules.sent_too_often([first, second, third], only)) == 1
    soon = received("lost", "expired", 60)
    assert len(rules.reminded_too_soon([first, soon], only)) == 1
    assert rules.reminded_too_soon([first, second], only) == []


def update(
    status: str, hours: float, before: dict[str, Any], *, cancelled: bool = False
) -> StatusUpdate:
    return StatusUpdate(
        START + hours * HOUR, status, Snapshot(START, before, is_cancelled=cancelled)
    )


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (update("cutting", 5, order()), "old"),
        (update("cutting", 30, order("in_transit")), "it was shipped"),
        (update("cutting", 70, order(shows="Sewing")), "it was sewing"),
        (update("cutting", 30, order(), cancelled=True), "it is cancelled"),
        (update("delivered", 30, order()), "it is no stage"),
    ],
)
def test_an_invalid_status_update_is_reported(wrong: StatusUpdate, problem: str) -> None:
    tags = {ORDER: (MADE_TO_ORDER,)}
    right = update("cutting", 30, order())
    assert rules.invalid_updates([right], tags) == []
    assert problem in rules.invalid_updates([right, wrong], tags)[0]
    assert "not made to order" in rules.invalid_updates([right], {ORDER: ()})[0]


def test_a_missing_status_update_is_reported() -> None:
    tags = {ORDER: (MADE_TO_ORDER,)}
    by_hand = order("Sewing") | {"automatic_carrier_updates": False}
    for history in ([(0 * HOUR, order())], [(0 * HOUR, by_hand)]):
        assert len(rules.missing_updates({ORDER: snapshots(*history)}, tags, runs(30))) == 1
    right = snapshots((0 * HOUR, order()), (30.5 * HOUR, order(shows="Cutting")))
    assert rules.missing_updates({ORDER: right}, tags, runs(30)) == []
