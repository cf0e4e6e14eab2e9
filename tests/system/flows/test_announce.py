"""`announce_exceptions`: one Prefect event for each exception or delay."""

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_tracktor import (
    IncompleteRun,
    InvalidInput,
    LimitExceeded,
    NotificationLedger,
    Thresholds,
    TracktorCredentials,
)
from prefect_tracktor.events import send_events
from prefect_tracktor.flows import announce_exceptions
from prefect_tracktor.sandbox import Sandbox
from tests.support.webhooks import events_at_prefect, eventually

CHANNEL = import_module("prefect_tracktor.events.channel")

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def usual(
    credentials: TracktorCredentials, tracktor: Sandbox, ledger: NotificationLedger
) -> dict[str, Any]:
    return {
        "credentials": credentials,
        "orders": list(tracktor.shop.order_ids),
        "ledger": ledger,
    }


@pytest.fixture
def with_exception(tracktor: Sandbox) -> list[dict[str, Any]]:
    """The undelivered parcels with an exception, from the shop."""
    return [
        parcel
        for order in map(tracktor.shop.order, tracktor.shop.order_ids)
        for parcel in order["fulfillments"]
        if parcel["exception_status"] and parcel["shipment_status"] != "delivered"
    ]


def events_of(parcel: dict[str, Any]) -> list[str]:
    resource_id = f"tracktor.fulfillment.{parcel['fulfillment_id']}"
    return [event.event for event in events_at_prefect(resource_id)]


def test_each_parcel_with_an_exception_is_announced_once(
    usual: dict[str, Any], tracktor: Sandbox, with_exception: list[dict[str, Any]]
) -> None:
    first = announce_exceptions(**usual)
    second = announce_exceptions(**usual)
    assert set(first.announced) == {parcel["order_id"] for parcel in with_exception}
    assert second.due == second.announced == ()
    assert second.affected == first.affected
    # at least: other tests use the same ids
    for parcel in with_exception:
        name = f"tracktor.fulfillment.exception.{parcel['exception_status']}"
        for attempt in eventually():
            with attempt:
                assert events_of(parcel).count(name) >= 1


def test_after_a_record_only_run_only_new_exceptions_are_announced(
    usual: dict[str, Any], tracktor: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(CHANNEL, "send_events")
        assert announce_exceptions(**usual, record_only=True, max_events=0).announced
    parcel = next(
        parcel
        for order in map(tracktor.shop.order, tracktor.shop.order_ids)
        for parcel in order["fulfillments"]
        if not parcel["exception_status"] and parcel["shipment_status"] != "delivered"
    )
    tracktor.shop.set_parcel(parcel["fulfillment_id"], exception_status="undelivered")
    report = announce_exceptions(**usual)
    assert report.due == report.announced == (parcel["order_id"],)
    for attempt in eventually():
        with attempt:
            events = events_at_prefect(f"tracktor.fulfillment.{parcel['fulfillment_id']}")
            names = [event.event for event in events]
            assert names[-1:] == ["tracktor.fulfillment.exception.undelivered"]
    [event] = events[-1:]
    assert event.payload["order_id"] == parcel["order_id"]
    customer = tracktor.shop.order(parcel["order_id"])
    assert customer["customer_full_name"] not in event.model_dump_json()


def test_a_dry_run_and_a_run_above_its_limit_announce_and_record_nothing(
    usual: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(CHANNEL, "send_events")
    first = announce_exceptions(**usual, dry_run=True)
    assert first.due
    assert first.announced == ()
    with pytest.raises(LimitExceeded, match="max_events is 1"):
        announce_exceptions(**usual, max_events=1)
    assert announce_exceptions(**usual, dry_run=True).due == first.due


def test_only_the_requested_exceptions_are_announced(
    usual: dict[str, Any], with_exception: list[dict[str, Any]]
) -> None:
    expired = frozenset({"exception:Tracking Expired"})
    report = announce_exceptions(**usual, conditions=expired)
    assert set(report.announced) == {
        parcel["order_id"] for parcel in with_exception if parcel["exception_status"] == "expired"
    }
    assert 0 < len(report.announced) < len(with_exception)


def test_events_that_prefect_rejected_are_announced_by_the_next_run(
    usual: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_to_closed_port(events: Any) -> Any:
        with temporary_settings(updates={PREFECT_API_URL: "http://127.0.0.1:9/api"}):
            return send_events(events)

    def send(events: Any) -> Any:
        # in another thread, as the flow run has a client with the right address
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(send_to_closed_port, events).result()

    monkeypatch.setattr(CHANNEL, "send_events", send)
    with pytest.raises(IncompleteRun, match="could not be notified now") as caught:
        announce_exceptions(**usual)
    report = caught.value.report
    assert report.announced == ()
    assert report.unannounced == report.due
    monkeypatch.undo()
    assert announce_exceptions(**usual).announced == report.due


def test_delays_are_announced_once(usual: dict[str, Any], tracktor: Sandbox) -> None:
    late = frozenset({"stalled", "in_transit_too_long"})
    thresholds = Thresholds(stalled_days=0.5, in_transit_too_long_days=0.5)
    first = announce_exceptions(**usual, conditions=late, thresholds=thresholds)
    assert first.announced
    assert announce_exceptions(**usual, conditions=late, thresholds=thresholds).due == ()
    # other conditions give other events
    assert announce_exceptions(**usual).announced
    parcels = tracktor.shop.order(first.announced[0])["fulfillments"]
    for attempt in eventually():
        with attempt:
            names = {name for parcel in parcels for name in events_of(parcel)}
            assert {f"tracktor.fulfillment.delay.{delay}" for delay in late} & names


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"conditions": frozenset()}, "conditions is empty"),
        ({"conditions": frozenset({"expired"})}, "conditions: 'expired' is not a condition"),
        ({"max_events": -1}, "max_events"),
    ],
)
def test_invalid_parameters_of_announce_exceptions_are_refused_before_reading(
    usual: dict[str, Any], tracktor: Sandbox, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        announce_exceptions(**(usual | options))
    assert tracktor.calls == []
