"""Orders with invalid values, and the daily limit of messages to one address."""

import datetime as dt
from typing import Any

import pytest

from prefect_tracktor import (
    CompletedOrders,
    EmailTemplate,
    IncompleteRun,
    NotificationLedger,
    ReadingOptions,
    TracktorCredentials,
    TransportLimits,
)
from prefect_tracktor.flows import (
    MailReport,
    announce_exceptions,
    email_expired_exceptions,
    email_status_changes,
)
from prefect_tracktor.sandbox import MailServer
from tests.support.mailers import mailer_of
from tests.support.orders import OrderServer
from tests.system.flows.conftest import written_to

pytestmark = pytest.mark.usefixtures("prefect_api")

NOW = dt.datetime.now(dt.UTC).isoformat()


@pytest.fixture
def ledger(database_url: str) -> NotificationLedger:
    return NotificationLedger(url=database_url)


def order(order_id: int, *, email: str = "", **parcel: Any) -> dict[str, Any]:
    """An order with one parcel whose tracking has expired, unless a field says otherwise."""
    usual = {
        "fulfillment_id": order_id + 70_000,
        "shipment_status": "in_transit",
        "exception_status": "expired",
    }
    return {
        "order_id": order_id,
        "order_name": f"#{order_id}",
        "order_email": email or f"c{order_id}@example.com",
        "exception_statuses": ["expired"],
        "fulfillments": [usual | parcel],
    }


def written(
    flow: Any, stub: OrderServer, mail: MailServer, ledger: NotificationLedger, **more: Any
) -> MailReport:
    mailer = mailer_of(mail, ledger=ledger)
    # half of a surrogate pair is no JSON, and would be requested eight times
    credentials = stub.credentials_with(limits=TransportLimits(max_attempts=2))
    try:
        report: MailReport = flow(credentials, list(stub.orders), mailer, **more)
    except IncompleteRun as incomplete:
        report = incomplete.report
    return report


ODD: list[dict[str, Any]] = [
    {"fulfillment_id": 2**70},
    {"fulfillment_id": -(2**70)},
    {"exception_status": "x" * 300},
    {"exception_status": "e\0pired"},
    {"exception_status": "e\ud800pired"},
    {"shipment_status": "\0" * 300},
]
ODD_NAMES = ["#\0", "#\ud800", "#" * 10_000]


def test_an_order_with_an_invalid_value_does_not_stop_other_emails(
    mail: MailServer, ledger: NotificationLedger
) -> None:
    orders = [order(number) for number in range(1, 10)]
    odd = [order(number, **fields) for number, fields in enumerate(ODD, start=77)]
    odd += [order(n) | {"order_name": name} for n, name in enumerate(ODD_NAMES, start=87)]
    with OrderServer(*orders[:4], *odd, *orders[4:]) as stub:
        reading = ReadingOptions(completed_orders=CompletedOrders(url=ledger.url))
        report = written(email_expired_exceptions, stub, mail, ledger, reading=reading)
    assert set(written_to(mail)) >= {f"c{number}@example.com" for number in range(1, 10)}
    assert {failure.id for failure in report.failed} <= {one["order_id"] for one in odd}


# stricter than SQLite
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_status_too_long_for_the_ledger_fails_its_order_alone(
    mail: MailServer, ledger: NotificationLedger
) -> None:
    long = "x" * 250
    step: dict[str, Any] = {"latest_status": {"key": "delivered", "datetime": NOW}}
    orders = [order(n, shipment_status="delivered", **step) for n in range(1, 6)]
    with OrderServer(
        *orders,
        order(77, shipment_status=long, latest_status={"key": long, "datetime": NOW}),
        order(78, shipment_status="delivered", fulfillment_id=2**70, **step),
    ) as stub:
        stub.options = [*stub.options, long]
        report = written(
            email_status_changes,
            stub,
            mail,
            ledger,
            statuses=frozenset({"delivered", long}),
            template=EmailTemplate(),
        )
    assert {failure.id for failure in report.failed} == {77, 78}
    assert len(written_to(mail)) == 5
    assert any("reason has 257 characters" in failure.reason for failure in report.failed)


# stricter than SQLite
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_order_with_an_invalid_id_does_not_stop_other_events(ledger: NotificationLedger) -> None:
    with (
        OrderServer(order(1), order(77, fulfillment_id=2**70), order(2)) as stub,
        pytest.raises(IncompleteRun) as incomplete,
    ):
        announce_exceptions(stub.credentials, [1, 77, 2], ledger=ledger)
    report = incomplete.value.report
    assert report.announced == (1, 2)
    assert [failure.id for failure in report.failed] == [77]


def test_completed_orders_ignore_impossible_times(database_url: str) -> None:
    completed = CompletedOrders(url=database_url)
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    far_east = dt.timezone(dt.timedelta(hours=14))
    completed.remember("shop", {1: long_ago, 2: dt.datetime.min.replace(tzinfo=far_east)})
    assert completed.among("shop", [1, 2]) == {1}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_one_address_gets_no_more_messages_a_day_than_the_ledger_allows(
    mail: MailServer, ledger: NotificationLedger
) -> None:
    ada = ("Ada@example.com", "ada@EXAMPLE.com")
    many = [order(number, email=ada[number % 2]) for number in range(1, 13)]
    generous = ledger.model_copy(update={"messages_a_day": 7})
    with OrderServer(*many, order(99)) as stub:
        first = written(email_expired_exceptions, stub, mail, ledger)
        second = written(email_expired_exceptions, stub, mail, generous)
    assert (len(first.sent), len(first.deferred)) == (3 + 1, 9)
    assert (len(second.sent), len(second.deferred)) == (7 - 3, 5)
    recipients = [recipient.lower() for recipient in written_to(mail)]
    assert recipients.count("ada@example.com") == 7
    assert recipients.count("c99@example.com") == 1
    # the address is not stored
    with ledger.transaction() as database:
        for table in ledger.tables:
            assert "@example" not in str(database.execute(table.select()).all()).lower()


def test_a_message_that_was_not_accepted_does_not_count_for_the_day(
    mail: MailServer, ledger: NotificationLedger, credentials: TracktorCredentials
) -> None:
    assert [ledger.admit("shop", "hash") for _ in range(3)] == [True] * 3
    ledger.discount("shop", "hash")
    assert [ledger.admit("shop", "hash") for _ in range(2)] == [True, False]
