"""Check of the fields that a flow needs: a field missing from all responses stops the run."""

from typing import Any

import pytest

from prefect_tracktor import InvalidResponse, Order
from prefect_tracktor.runs.needs import (
    TO_NOTIFY_OF_EXCEPTIONS,
    TO_NOTIFY_OF_STATUSES,
    Needs,
    ResponseCheck,
)
from tests.support.odd_tracktor import order, parcel

PLACE = ("shipment_status", "latest_status")
UNREADABLE_TIME = {"latest_status": {"key": "delivered", "datetime": "a while ago"}}


def responses(*missing: str, **of_parcel: Any) -> list[Order]:
    """Ten orders with an expired parcel, without some fields."""
    found = []
    for number in range(1, 11):
        of_it = parcel(number, exception_status="expired", **of_parcel)
        kept = {
            name: value for name, value in of_it.items() if f"fulfillments.{name}" not in missing
        }
        whole = order(number, kept)
        found.append(Order.model_validate({n: v for n, v in whole.items() if n not in missing}))
    return found


@pytest.mark.parametrize(
    ("needs", "found", "named"),
    [
        (TO_NOTIFY_OF_EXCEPTIONS, responses("order_email"), "order_email"),
        (TO_NOTIFY_OF_EXCEPTIONS, responses("fulfillments"), "fulfillments"),
        (
            TO_NOTIFY_OF_EXCEPTIONS,
            responses(*(name for name in order(1) if name != "order_id")),
            "fulfillments",
        ),
        (
            TO_NOTIFY_OF_EXCEPTIONS,
            responses(*(f"fulfillments.{name}" for name in PLACE)),
            "fulfillments.shipment_status or fulfillments.latest_status",
        ),
        (
            TO_NOTIFY_OF_EXCEPTIONS,
            responses("fulfillments.exception_status", "exception_statuses"),
            "fulfillments.exception_status or exception_statuses",
        ),
        (
            TO_NOTIFY_OF_STATUSES,
            responses(**UNREADABLE_TIME),
            "fulfillments.latest_status.datetime or fulfillments.status.datetime",
        ),
    ],
)
def test_the_error_names_a_field_missing_from_all_responses(
    needs: Needs, found: list[Order], named: str
) -> None:
    check = ResponseCheck(needs)
    check.take(found)
    with pytest.raises(InvalidResponse, match="none of the 10 responses has") as stopped:
        check.refuse_missing()
    assert named in str(stopped.value)


@pytest.mark.parametrize("needs", [TO_NOTIFY_OF_EXCEPTIONS, TO_NOTIFY_OF_STATUSES])
def test_a_field_of_one_response_is_not_missing(needs: Needs) -> None:
    missing = (
        "order_email",
        "fulfillments.exception_status",
        *(f"fulfillments.{n}" for n in PLACE),
    )
    [whole, *_] = responses()
    check = ResponseCheck(needs)
    check.take([*responses(*missing), whole])
    check.refuse_missing()
