"""Charts of exceptions: each parcel counts once, without personal data."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import Artifact

from prefect_tracktor import AuthenticationError, NotificationLedger, Order, TracktorCredentials
from prefect_tracktor.figures import ExceptionStats
from prefect_tracktor.flows import announce_exceptions
from prefect_tracktor.sandbox import Sandbox
from tests.system.flows.conftest import Run

CHARTS = ("By exception", "By carrier", "By time since the last update")


def order(*parcels: dict[str, Any]) -> Order:
    numbered = [{"fulfillment_id": number} | parcel for number, parcel in enumerate(parcels, 1)]
    return Order.model_validate({"order_id": 1, "fulfillments": numbered})


def with_exception(exception: str = "expired", /, **fields: Any) -> dict[str, Any]:
    return {"exception_status": exception, "shipment_status": "in_transit"} | fields


def last_update(**ago: float) -> dict[str, Any]:
    return {
        "latest_status": {"key": "in_transit", "datetime": datetime.now(UTC) - timedelta(**ago)}
    }


def counts_of(*orders: Order) -> list[dict[str, int]]:
    stats = ExceptionStats()
    stats.take(orders)
    charts = stats.charts()
    assert tuple(chart.title for chart in charts) in {CHARTS, ()}
    return [dict(chart.counts) for chart in charts]


def test_parcels_are_counted_by_the_dashboards_exception_label() -> None:
    first = order(
        with_exception("expired"), with_exception("undelivered"), with_exception("expired")
    )
    by_exception, *_ = counts_of(first, order(with_exception("brand new")))
    assert by_exception == {"Tracking Expired": 2, "Failed Attempt": 1, "Brand new": 1}


def test_parcels_are_counted_by_carrier_or_as_unknown() -> None:
    _, by_carrier, _ = counts_of(
        order(
            with_exception(carrier={"slug": "ups", "name": "UPS"}),
            with_exception(carrier={"name": "UPS"}),
            with_exception(carrier={"slug": "dpd"}),
            with_exception(shopify_carrier="Canada Post"),
            with_exception(),
        )
    )
    assert by_carrier == {"UPS": 2, "dpd": 1, "Canada Post": 1, "Unknown": 1}


@pytest.mark.parametrize(
    ("ago", "bucket"),
    [
        ({"days": -1}, "0 to 3 days"),
        ({"days": 0}, "0 to 3 days"),
        ({"days": 3, "hours": 23}, "0 to 3 days"),
        ({"days": 4}, "4 to 7 days"),
        ({"days": 7, "hours": 23}, "4 to 7 days"),
        ({"days": 8}, "8 to 14 days"),
        ({"days": 15}, "15 to 30 days"),
        ({"days": 30, "hours": 23}, "15 to 30 days"),
        ({"days": 31}, "More than 30 days"),
    ],
)
def test_the_age_of_an_exception_is_in_whole_days_since_the_last_update(
    ago: dict[str, float], bucket: str
) -> None:
    *_, by_age = counts_of(order(with_exception(**last_update(**ago))))
    assert by_age.pop(bucket) == 1
    assert set(by_age.values()) == {0}, "the other age groups are empty"


def test_the_last_update_may_be_among_the_steps() -> None:
    old, fresh = (last_update(days=days)["latest_status"] for days in (40, 5))
    *_, by_age = counts_of(order(with_exception(status=[old, fresh], latest_status=old)))
    assert by_age["4 to 7 days"] == 1


def test_the_age_of_a_parcel_without_a_time_is_unknown() -> None:
    *_, by_age = counts_of(
        order(with_exception(), with_exception(latest_status={"key": "in_transit"}))
    )
    assert by_age["Unknown"] == 2


def test_delivered_parcels_and_those_without_exception_are_not_counted() -> None:
    healthy: list[dict[str, Any]] = [
        {"shipment_status": "in_transit"},
        with_exception(shipment_status="delivered"),
        with_exception(latest_status={"key": "delivered"}),
        with_exception(""),
    ]
    assert counts_of(order(*healthy)) == []


def test_a_chart_groups_the_smallest_carriers_beyond_ten() -> None:
    parcels = [with_exception(carrier=f"Carrier {n}") for n in range(12) for _ in range(20 - n)]
    _, by_carrier, _ = counts_of(order(*parcels))
    assert len(by_carrier) == 10
    assert next(iter(by_carrier.items())) == ("Carrier 0", 20)
    assert list(by_carrier.items())[-1] == ("3 others", 11 + 10 + 9)


PARCEL = st.fixed_dictionaries(
    {
        "fulfillment_id": st.integers(1, 10**12),
        "exception_status": st.one_of(st.sampled_from(["expired", "pending", "", None]), st.text()),
        "shipment_status": st.sampled_from(["in_transit", "delivered", "Sewing", None]),
        "carrier": st.one_of(st.none(), st.text(), st.sampled_from(["UPS", "2 others"])),
        "latest_status": st.one_of(
            st.none(),
            st.builds(lambda days: last_update(days=days)["latest_status"], st.integers(-9, 99)),
        ),
    }
)


PARCELS = st.lists(PARCEL, max_size=20, unique_by=lambda parcel: parcel["fulfillment_id"])


@given(st.lists(PARCELS, max_size=5))
def test_each_chart_counts_each_parcel_with_an_exception_once(
    parcels: list[list[dict[str, Any]]],
) -> None:
    orders = [
        Order.model_validate({"order_id": number, "fulfillments": some})
        for number, some in enumerate(parcels, 1)
    ]
    expected = sum(
        bool(parcel.exception_status) and not parcel.is_delivered
        for order in orders
        for parcel in order.fulfillments
    )
    stats = ExceptionStats()
    stats.take(orders)
    assert stats.orders == len(orders)
    assert stats.parcels == sum(map(len, parcels))
    assert len(stats.charts()) == (3 if expected else 0)
    assert all(sum(chart.counts.values()) == expected for chart in stats.charts())


def charts_of_all_runs() -> list[Artifact]:
    with get_client(sync_client=True) as client:
        return client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["parcels-with-exceptions"]))
        )


def charts_of(flow_run_id: Any) -> list[Artifact]:
    with get_client(sync_client=True) as client:
        return client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["parcels-with-exceptions"])),
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        )


def expected_rows(tracktor: Sandbox) -> Counter[str]:
    """The number of undelivered parcels by exception, from the shop."""
    return Counter(
        str(parcel["exception_status"])
        for order in map(tracktor.shop.order, tracktor.shop.order_ids)
        for parcel in order["fulfillments"]
        if parcel["exception_status"] and parcel["shipment_status"] != "delivered"
    )


def check_chart(state: Any, tracktor: Sandbox) -> None:
    [chart] = charts_of(state.state_details.flow_run_id)
    expected = expected_rows(tracktor)
    assert str(chart.description).endswith(". Charts of all exceptions.")
    markdown = str(chart.data)
    assert f"{expected.total()} of " in markdown
    assert f"| Tracking Expired | {expected['expired']} | " in markdown
    for order in map(tracktor.shop.order, tracktor.shop.order_ids):
        assert str(order["order_email"] or "no address") not in markdown
        assert str(order["customer_last_name"] or "no name") not in markdown


def test_the_email_flow_charts_all_exceptions_without_extra_calls(
    run: Run, tracktor: Sandbox
) -> None:
    check_chart(run(return_state=True, max_emails=0), tracktor)
    assert len(tracktor.calls) == len(tracktor.shop.order_ids)


@pytest.mark.usefixtures("prefect_api")
def test_announce_exceptions_charts_all_exceptions_without_extra_calls(
    tracktor: Sandbox, credentials: TracktorCredentials, ledger: NotificationLedger
) -> None:
    state: Any = announce_exceptions(
        credentials,
        list(tracktor.shop.order_ids),
        ledger=ledger,
        dry_run=True,
        return_state=True,
    )
    check_chart(state, tracktor)
    assert len(tracktor.calls) == len(tracktor.shop.order_ids)


def test_a_run_that_reads_no_order_publishes_no_chart(
    run: Run, credentials: TracktorCredentials
) -> None:
    wrong = TracktorCredentials(uuid=credentials.uuid, api_key="x", base_url=credentials.base_url)
    before = len(charts_of_all_runs())
    with pytest.raises(AuthenticationError):
        run(credentials=wrong)
    assert len(charts_of_all_runs()) == before
