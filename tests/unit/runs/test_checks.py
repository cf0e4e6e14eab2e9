"""Checks of parameters and rules before a flow reads."""

from datetime import UTC, datetime
from typing import Any

import pytest

from prefect_tracktor import (
    CompletedOrders,
    EventOrders,
    InvalidInput,
    NotificationLedger,
    NotificationRule,
    OrderFile,
    ReadingOptions,
    ShopifyCredentials,
    ShopifyOrders,
    TracktorCredentials,
)
from prefect_tracktor.runs.checks import checked_rules, checked_statuses, within_days
from prefect_tracktor.runs.notification_jobs import event_job
from prefect_tracktor.runs.one_parcel import with_retries
from prefect_tracktor.runs.report import MailReport
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS

ACCOUNT = TracktorCredentials(uuid="a" * 32, api_key="k")
SHOPIFY = ShopifyOrders(
    credentials=ShopifyCredentials(shop="a-shop.myshopify.com", access_token="none"),
    created_within_days=45,
)


def rule(name: str, *when: str, **fields: Any) -> NotificationRule:
    return NotificationRule.model_validate({"name": name, "when": list(when)} | fields)


VIP = rule("vip", "status:delivered", tags=["VIP"])
ARRIVED = rule("arrived", "status:delivered")


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ([], "rules is empty"),
        ([ARRIVED, rule("arrived", "stalled")], "arrived is the name of several rules"),
        (
            [
                ARRIVED,
                rule("arrived", "stalled", channel={"address": "https://x.example", "body": "{}"}),
            ],
            "arrived is the name of several rules",
        ),
        ([rule("digest", "stalled")], "digest is reserved"),
    ],
)
def test_rules_with_equal_or_reserved_names_or_no_rules_are_refused(
    rules: list[NotificationRule], problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        checked_rules(ACCOUNT, rules, orders=[1], reading=ReadingOptions())


@pytest.mark.parametrize(
    ("about", "options", "remedy"),
    [
        (
            rule("thanks", "status:delivered", after_days=40),
            {"reading": ReadingOptions(completed_orders=CompletedOrders())},
            "not read after 30 days",
        ),
        (rule("late", "not_shipped"), {"orders": OrderFile(path="x.csv")}, "include_unfulfilled"),
        (VIP, {}, "neither a list of ids nor events"),
        (
            VIP,
            {"orders": EventOrders(since=datetime.now(UTC))},
            "neither a list of ids nor events",
        ),
        (rule("late", "stalled", after_days=45), {"orders": SHOPIFY}, "raise created_within_days"),
        (
            rule("late", "stalled", times=8, repeat_after_days=7),
            {"orders": SHOPIFY},
            "49 days after its condition began",
        ),
    ],
)
def test_a_rule_about_orders_that_are_not_read_is_refused(
    about: NotificationRule, options: dict[str, Any], remedy: str
) -> None:
    usual: dict[str, Any] = {"orders": [1], "reading": ReadingOptions()}
    with pytest.raises(InvalidInput, match=remedy):
        checked_rules(ACCOUNT, [about], **usual | options)


@pytest.mark.parametrize(
    ("condition", "orders", "remedy"),
    [
        ("status:delivered", SHOPIFY, "conditions: an event .* set include_delivered"),
        ("not_shipped", SHOPIFY, "conditions: an event .* set fulfillment of the ShopifyOrders"),
        ("not_shipped", OrderFile(path="x.csv"), "conditions: an event .* include_unfulfilled"),
    ],
)
def test_an_event_about_orders_that_are_not_read_is_refused(
    condition: str, orders: Any, remedy: str
) -> None:
    with pytest.raises(InvalidInput, match=remedy):
        event_job(
            ACCOUNT,
            NotificationLedger(),
            [condition],
            orders=orders,
            reading=ReadingOptions(),
            thresholds=DEFAULT_THRESHOLDS,
            dry_run=False,
            max_events=1,
            include_cancelled=False,
        )


@pytest.mark.parametrize("hours", [0, -1, float("inf"), float("nan")])
def test_an_invalid_within_hours_is_refused(hours: float) -> None:
    with pytest.raises(InvalidInput, match="within_hours"):
        within_days(hours)


@pytest.mark.parametrize("statuses", [[], [" "], ["delivered", ""]])
def test_a_blank_status_is_refused(statuses: list[str]) -> None:
    with pytest.raises(InvalidInput, match="name at least one status"):
        checked_statuses(ACCOUNT, statuses)


@pytest.mark.parametrize("delays", [[-1], [float("nan")], [0, float("inf")], [1] * 51])
def test_invalid_retry_delays_are_refused(delays: list[float]) -> None:
    with pytest.raises(InvalidInput, match="retry_delays_seconds"):
        with_retries(MailReport, delays)
