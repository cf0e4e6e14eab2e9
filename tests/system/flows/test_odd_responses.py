"""Missing or unusual fields in responses never end in a silent miss."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from prefect_tracktor import (
    EmailTemplate,
    IncompleteRun,
    InvalidInput,
    InvalidResponse,
    Mailer,
    ReadingOptions,
    StatusStage,
    WantedWebhook,
)
from prefect_tracktor.flows import (
    advance_custom_statuses,
    announce_exceptions,
    email_expired_exceptions,
    email_status_changes,
    notify_status_change,
    reconcile_manual_statuses,
    sync_webhooks,
)
from prefect_tracktor.sandbox import MailServer
from prefect_tracktor.statuses.desired import DesiredStatus
from tests.support.odd_tracktor import OddTracktor, order, parcel
from tests.support.tables import (
    OddOrder,
    Table,
    expected_of,
    orders_of,
    outcomes_of,
    report_of,
)
from tests.system.flows.conftest import written_to

pytestmark = pytest.mark.usefixtures("prefect_api")

Response = dict[str, Any]


@pytest.fixture
def odd() -> Iterator[OddTracktor]:
    with OddTracktor() as tracktor:
        yield tracktor


@pytest.fixture
def mailing(mailer: Mailer) -> dict[str, Any]:
    return {"mailer": mailer}


def expired(number: int, /, **fields: Any) -> Response:
    return order(number, parcel(number, exception_status="expired"), **fields)


def without(response: Response, *names: str) -> Response:
    """The response without these fields; `fulfillments.` begins those of all parcels."""
    parcels = [
        {n: v for n, v in one.items() if f"fulfillments.{n}" not in names}
        for one in response["fulfillments"]
    ]
    left = response | {"fulfillments": parcels}
    return {name: value for name, value in left.items() if name not in names}


def summary(key: str) -> str:
    with get_client(sync_client=True) as client:
        [artifact] = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
            sort=ArtifactSort.UPDATED_DESC,
            limit=1,
        )
    return str(artifact.data)


SPELLINGS = ["expired", "Expired", "EXPIRED", "Tracking Expired", "tracking_expired", " expired",
             "trackingExpired", {"key": "expired", "label": "Tracking Expired"}]  # fmt: skip


def test_an_exception_is_recognized_in_any_spelling_and_sent_once(
    odd: OddTracktor, mailing: dict[str, Any], mail: MailServer
) -> None:
    spelled = dict(enumerate(SPELLINGS, 1))
    ids = odd.put(*(order(n, parcel(n, exception_status=text)) for n, text in spelled.items()))
    report = email_expired_exceptions(odd.credentials, ids, **mailing)
    assert set(report.sent) == set(ids)
    odd.put(*map(expired, ids))
    asked = frozenset({" Tracking expired"})
    again = email_expired_exceptions(odd.credentials, ids, **mailing, exception_statuses=asked)
    assert again.already_told == report.sent
    assert len(written_to(mail)) == len(ids)


def test_a_blank_exception_status_is_refused(odd: OddTracktor, mailing: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="exception_statuses"):
        email_expired_exceptions(
            odd.credentials, [1], **mailing, exception_statuses=frozenset({"expired", " "})
        )


def test_cancelled_and_unknown_alerts_are_handled_as_exceptions(
    odd: OddTracktor, mailing: dict[str, Any], mail: MailServer
) -> None:
    ids = odd.put(
        order(1, parcel(1, exception_status="Cancelled")),
        order(2, parcel(2, exception_status="Customs hold")),
        order(3),
        expired(4),
        # two exceptions have this label
        order(5, parcel(5, exception_status="Needs Attention")),
    )
    report = announce_exceptions(odd.credentials, ids, dry_run=True)
    assert report.due == (1, 2, 4, 5)
    asked = announce_exceptions(
        odd.credentials,
        ids,
        dry_run=True,
        conditions=frozenset({"exception:customs-hold", "exception:Needs Attention"}),
    )
    assert asked.due == (2, 5)
    with pytest.raises(IncompleteRun, match="Needs Attention") as incomplete:
        email_expired_exceptions(odd.credentials, ids, **mailing)
    emailed = incomplete.value.report
    assert [failure.id for failure in emailed.failed] == [5]
    assert written_to(mail) == ["customer-4@example.com"]
    assert "Customs hold (1)" in str(emailed.notes)
    assert "Customs hold" in summary("expired-exceptions-summary")
    of_customs: Any = email_expired_exceptions(
        odd.credentials,
        ids,
        **mailing,
        dry_run=True,
        exception_statuses=frozenset({"customs_hold"}),
        template=EmailTemplate(),
    )
    assert of_customs.due == (2,)


def test_a_field_that_all_responses_lack_stops_the_flow_that_needs_it(
    odd: OddTracktor, mailing: dict[str, Any], mail: MailServer
) -> None:
    ids = odd.put(*(without(expired(number), "order_email") for number in range(1, 11)))
    with pytest.raises(InvalidResponse, match=r"none of the 10 responses has order_email"):
        email_expired_exceptions(odd.credentials, ids, **mailing)
    assert not written_to(mail)
    assert "None of the 10 responses has" in summary("expired-exceptions-summary").replace("&#", "")


Flow = Callable[[OddTracktor, list[int], dict[str, Any]], Any]

NEEDING: dict[str, tuple[Flow, tuple[str, ...]]] = {
    "announce": (
        lambda odd, ids, _: announce_exceptions(odd.credentials, ids),
        ("fulfillments.exception_status", "exception_statuses"),
    ),
    "status changes": (
        lambda odd, ids, mailing: email_status_changes(
            odd.credentials, ids, **mailing, statuses=frozenset({"in_transit"})
        ),
        ("fulfillments.shipment_status", "fulfillments.latest_status"),
    ),
    "reconcile": (
        lambda odd, ids, _: reconcile_manual_statuses(
            odd.credentials, [DesiredStatus(number, "Sewing") for number in ids]
        ),
        ("fulfillments",),
    ),
    "advance": (
        lambda odd, ids, _: advance_custom_statuses(
            odd.credentials, ids, [StatusStage("Sewing", 1)]
        ),
        ("order_created_at",),
    ),
}


@pytest.mark.parametrize(("flow", "lost"), NEEDING.values(), ids=NEEDING)
def test_every_flow_stops_if_all_responses_lack_a_needed_field(
    odd: OddTracktor, mailing: dict[str, Any], mail: MailServer, flow: Flow, lost: tuple[str, ...]
) -> None:
    ids = odd.put(*(without(expired(number), *lost) for number in (1, 2, 3)))
    with pytest.raises(InvalidResponse, match="none of the 3 responses has"):
        flow(odd, ids, mailing)
    assert not written_to(mail)
    assert not odd.writes


def test_a_flow_stops_if_no_response_has_a_readable_time(
    odd: OddTracktor, mailing: dict[str, Any], mail: MailServer
) -> None:
    step = {"key": "delivered", "datetime": "a while ago"}
    delivered = {"shipment_status": "delivered", "latest_status": step}
    ids = odd.put(*(order(n, parcel(n, **delivered)) for n in (1, 2, 3)))
    with pytest.raises(InvalidResponse, match=r"latest_status\.datetime"):
        email_status_changes(odd.credentials, ids, **mailing)
    assert not written_to(mail)


def test_a_run_for_a_single_order_stops_if_a_needed_field_is_missing(
    odd: OddTracktor, mailing: dict[str, Any]
) -> None:
    step = {"key": "delivered", "datetime": datetime.now(UTC).isoformat()}
    arrived = parcel(1, shipment_status="delivered", latest_status=step)
    odd.put(without(order(1, arrived), "order_email"))
    with pytest.raises(InvalidResponse, match="order_email"):
        notify_status_change(
            odd.credentials, 70_001, **mailing, status="delivered", order_id=1,
            retry_delays_seconds=[],
        )  # fmt: skip


def test_a_field_that_some_responses_have_does_not_stop_the_flow(
    odd: OddTracktor, mailing: dict[str, Any]
) -> None:
    ids = odd.put(expired(1), without(expired(2), "order_email"))
    report = email_expired_exceptions(odd.credentials, ids, **mailing)
    assert (report.sent, report.no_address, report.notes) == ((1,), (2,), ())


def test_a_shop_without_exceptions_may_omit_the_exception_field(
    odd: OddTracktor, mailing: dict[str, Any]
) -> None:
    # as documented: "only set when there is an issue"
    ids = odd.put(*(without(order(n), "fulfillments.exception_status") for n in (1, 2)))
    report = email_expired_exceptions(odd.credentials, ids, **mailing)
    assert (report.complete, report.notes) == (True, ())


def test_a_missing_field_that_is_not_needed_gives_one_note(
    odd: OddTracktor, mailing: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    ids = odd.put(*(without(expired(number), "total_price", "order_phone") for number in (1, 2, 3)))
    with caplog.at_level(logging.WARNING):
        report = email_expired_exceptions(
            odd.credentials, ids, **mailing, reading=ReadingOptions(chunk_size=1)
        )
    assert report.sent == (1, 2, 3)
    expected = "None of the 3 responses has order_phone and total_price"
    assert [expected in note for note in report.notes] == [True]
    assert [record.getMessage().startswith(expected) for record in caplog.records] == [True]


ODD = {
    "tracking_number": {"a": 1},
    "line_items": "two mugs",
    "carrier": 7,
    "latest_status": {"key": "in_transit", "datetime": "N/A"},
}


def test_unreadable_fields_that_are_not_needed_give_notes_only(
    odd: OddTracktor, mailing: dict[str, Any]
) -> None:
    unreadable = parcel(1, exception_status="expired", **ODD)
    ids = odd.put(order(1, unreadable, total_price="a lot", days_since_ordered="N/A"), expired(2))
    report = email_expired_exceptions(odd.credentials, ids, **mailing)
    assert report.sent == (1, 2)
    for name in ("total_price", "days_since_ordered", "fulfillments.latest_status.datetime"):
        assert f"{name} could not be read in 1 of 2 orders." in report.notes


def unreadable(**fields: Any) -> OddOrder:
    """An order whose expired parcel has an unreadable value."""

    def make(number: int) -> Response:
        return order(number, parcel(number, **{"exception_status": "expired"} | fields))

    return OddOrder(make, "unreadable: cannot read")


UNREADABLE: Table = {
    "nothing": OddOrder(expired, "sent"),
    "the address is an object": OddOrder(
        lambda n: expired(n, order_email={"a": f"customer-{n}@example.com"}),
        "unreadable: cannot read",
    ),
    "the address is a list": OddOrder(
        lambda n: expired(n, order_email=[f"customer-{n}@example.com"]), "unreadable: cannot read"
    ),
    "the status is a number": unreadable(shipment_status=4),
    "the status is an object without a name": unreadable(shipment_status={"code": 4}),
    "the latest status is a list": unreadable(latest_status=["delivered", "in_transit"]),
    "the fulfillment status is an object": unreadable(fulfillment_status={"cancelled": True}),
    "the exception is true": unreadable(exception_status=True),
    "the parcel's id is too large": unreadable(fulfillment_id=2**70),
    "the parcel has no id": unreadable(fulfillment_id=None),
    "the parcel's order id is text": unreadable(order_id="of another"),
}


def test_an_unreadable_field_that_is_needed_fails_only_its_order(
    odd: OddTracktor, mailing: dict[str, Any], mail: MailServer
) -> None:
    ids = odd.put(*orders_of(UNREADABLE).values())
    report = report_of(email_expired_exceptions, odd.credentials, ids, **mailing)
    assert outcomes_of(UNREADABLE, report) == expected_of(UNREADABLE)
    assert not any("customer-" in failure.reason for failure in report.failed)
    assert written_to(mail) == ["customer-1@example.com"]


def test_an_unreadable_email_address_does_not_stop_a_status_update(odd: OddTracktor) -> None:
    manual = parcel(1, shipment_status="Cutting", exception_status=17, is_automatic=False)
    odd.put(order(1, manual, order_email=["?"], automatic_carrier_updates=False))
    report = reconcile_manual_statuses(odd.credentials, [DesiredStatus(1, "Sewing")], dry_run=True)
    assert report.planned == (1,)


def test_a_status_is_set_only_if_automatic_carrier_updates_is_readable(odd: OddTracktor) -> None:
    odd.put(order(1, automatic_carrier_updates="who knows"))
    with pytest.raises(IncompleteRun, match="automatic_carrier_updates"):
        reconcile_manual_statuses(odd.credentials, [DesiredStatus(1, "Sewing")])
    assert not odd.writes


def test_times_without_an_offset_are_in_the_accounts_time_zone(
    odd: OddTracktor, mailing: dict[str, Any]
) -> None:
    zone = "Australia/Sydney"
    now = datetime.now(ZoneInfo(zone)).replace(tzinfo=None)

    def arrived(number: int, hours: int) -> Response:
        reached = (now - timedelta(hours=hours)).isoformat(sep=" ", timespec="seconds")
        step = {"key": "delivered", "label": "Delivered", "datetime": reached}
        return order(number, parcel(number, shipment_status="delivered", latest_status=step))

    # far apart, as daylight saving may change in between
    ids = odd.put(arrived(1, 1), arrived(2, 5), arrived(3, 20))
    report = email_status_changes(
        odd.credentials_with(time_zone=zone), ids, **mailing, within_hours=3, dry_run=True
    )
    assert report.due == (1,)


def test_sync_webhooks_handles_text_ids(odd: OddTracktor) -> None:
    address = "https://shop.example/hook"
    wanted = [
        WantedWebhook(topic=topic, address=address) for topic in ("order/all", "fulfillment/all")
    ]
    first = sync_webhooks(odd.credentials, wanted)
    assert set(first.created) == set(odd.webhooks)
    [oldest, *_] = odd.webhooks
    double = {"id": "f" * 24, "topic": "order/all", "address": address}
    odd.webhooks |= {"f" * 24: double, "7": double | {"id": 7, "topic": "order/delivered"}}
    second = sync_webhooks(odd.credentials, wanted, prune=True)
    assert set(second.removed) == {"f" * 24, 7}
    assert oldest in odd.webhooks
    assert len(odd.webhooks) == 2
    assert not sync_webhooks(odd.credentials, wanted).due


def test_a_run_is_incomplete_if_no_order_has_a_usable_address(
    odd: OddTracktor, mailing: dict[str, Any]
) -> None:
    unusable = (None, "", "not an address", None, "")
    ids = odd.put(*(expired(n, order_email=email) for n, email in enumerate(unusable, 1)))
    with pytest.raises(IncompleteRun, match="none of the 5 orders to write about has a usable"):
        email_expired_exceptions(odd.credentials, ids, **mailing)
    odd.orders[6] = expired(6)
    report = email_expired_exceptions(odd.credentials, [*ids, 6], **mailing)
    assert (report.no_address, report.sent) == (tuple(ids), (6,))
