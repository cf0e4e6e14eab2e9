"""Orders about which no email is sent: cancelled, delivered, inconsistent, or outdated."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_tracktor import (
    EmailTemplate,
    IncompleteRun,
    LimitExceeded,
    Mailer,
    NotificationLedger,
)
from prefect_tracktor.flows import (
    announce_exceptions,
    email_expired_exceptions,
    email_status_changes,
    notify_status_change,
)
from prefect_tracktor.sandbox import MailFaults, MailServer
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState
from tests.support.mailers import changed
from tests.support.orders import OrderServer, expired, order, parcel
from tests.support.tables import (
    OddOrder,
    Table,
    expected_of,
    orders_of,
    outcomes_of,
    report_of,
    sent_of,
)
from tests.system.flows.conftest import written_to

pytestmark = pytest.mark.usefixtures("prefect_api")

Flow = Callable[..., Any]


@pytest.fixture
def server() -> Iterator[OrderServer]:
    with OrderServer() as server:
        yield server


@pytest.fixture
def usual(server: OrderServer, mailer: Mailer) -> dict[str, Any]:
    return {"credentials": server.credentials, "mailer": mailer}


@pytest.fixture
def email_exceptions(usual: dict[str, Any], server: OrderServer) -> Flow:
    def email_exceptions(**options: Any) -> Any:
        return email_expired_exceptions(
            **changed({**usual, "orders": list(server.orders)}, **options)
        )

    return email_exceptions


@pytest.fixture
def email_statuses(usual: dict[str, Any], server: OrderServer) -> Flow:
    def email_statuses(*statuses: str, **options: Any) -> Any:
        chosen = {"orders": list(server.orders), "statuses": frozenset(statuses)}
        return email_status_changes(**changed(usual | chosen, **options))

    return email_statuses


@pytest.fixture
def notify(usual: dict[str, Any]) -> Flow:
    def notify(order_id: int, status: str, /, **options: Any) -> Any:
        event = {"fulfillment_id": 70_000 + order_id, "order_id": order_id, "status": status}
        options = {"retry_delays_seconds": []} | options
        return notify_status_change(**changed(usual | event, **options))

    return notify


CANCELLED: list[dict[str, Any]] = [
    {"cancelled_at": "2026-11-20T10:00:00Z"},
    {"canceledAt": "2026-11-20 10:00:00 -0500"},
    {"cancelled_at": {"$date": "2026-11-20T10:00:00Z"}},
    {"cancel_reason": "customer"},
    {"is_cancelled": True},
    {"financial_status": "refunded"},
    {"financial_status": "VOIDED"},
    {"displayFinancialStatus": "Refunded"},
    {"fulfillment_status": "cancelled"},
    {"status": "Cancelled"},
    {"statuses": ["cancelled"]},
    {"refunded_at": "2026-11-20"},
]
CANCELLED_PARCELS = ["cancelled", "CANCELED", "refunded", "Voided"]
NOT_CANCELLED: list[dict[str, Any]] = [
    {"cancelled_at": None, "cancel_reason": None, "financial_status": "paid"},
    {"cancelled_at": "0000-00-00 00:00:00", "is_cancelled": "false"},
    {"financial_status": "partially_refunded", "refunded": 12.5},
    {"cancelled_items": 1},
]


def test_no_flow_emails_about_a_cancelled_or_refunded_order_or_parcel(
    server: OrderServer,
    email_exceptions: Flow,
    email_statuses: Flow,
    notify: Flow,
    mail: MailServer,
    ledger: NotificationLedger,
) -> None:
    for number, fields in enumerate([*CANCELLED, *NOT_CANCELLED], start=1):
        server.orders[number] = order(number, expired(number), **fields)
    others = set(server.orders) - set(range(1, len(CANCELLED) + 1))
    for number, status in enumerate(CANCELLED_PARCELS, start=101):
        server.orders[number] = order(number, expired(number, fulfillment_status=status))
    cancelled = set(server.orders) - others
    announced = announce_exceptions(server.credentials, list(server.orders), ledger=ledger)
    assert set(announced.cancelled) == cancelled
    assert set(announced.affected) == others
    written = email_exceptions()
    assert set(written.cancelled) == cancelled
    assert set(written.sent) == others
    changed_statuses = email_statuses("in_transit")
    assert set(changed_statuses.cancelled) == cancelled
    assert set(changed_statuses.sent) == others
    for number in (1, 102):
        assert notify(number, "in_transit").cancelled == (number,)
    assert set(written_to(mail)) == {f"c{number}@example.com" for number in others}
    assert set(email_exceptions(include_cancelled=True).sent) == cancelled


def test_a_status_email_can_be_about_a_cancellation(
    server: OrderServer, email_statuses: Flow, mail: MailServer
) -> None:
    server.orders[1] = order(1, parcel(1, "Cancelled"))
    words = EmailTemplate(subject="Cancelled", text="T", html="H")
    assert email_statuses("Cancelled", template=words).sent == (1,)
    assert written_to(mail) == ["c1@example.com"]


def second(make: Callable[..., dict[str, Any]], number: int, *args: Any, **fields: Any) -> Any:
    """Another parcel of the order."""
    return make(number, *args, fulfillment_id=90_000 + number, **fields)


def foreign(number: int) -> int:
    """An order that the shop does not have."""
    return 900 + number


ONLY_THE_ORDER_IS_DELIVERED: Table = {
    "the order alone is delivered": OddOrder(
        lambda n: order(n, expired(n), statuses=["Delivered"]), ""
    ),
    "the order alone is delivered, and has two parcels": OddOrder(
        lambda n: order(n, expired(n), second(expired, n), statuses=["delivered"]), ""
    ),
}
UNCLEAR: Table = {
    "it is unclear which of its parcels was delivered": OddOrder(
        lambda n: order(n, expired(n), second(parcel, n), statuses=["delivered", "in_transit"]),
        "unreadable: it is unknown which parcels arrived",
    ),
}
UNEXPLAINED = "unreadable: names an exception that none of its parcels has"
EXPIRED_IS_NAMED = {"exception_statuses": ["expired"]}
OF_EXCEPTIONS: Table = {
    "nothing is odd": OddOrder(lambda n: order(n, expired(n)), "sent"),
    "one of two parcels is cancelled": OddOrder(
        lambda n: order(n, expired(n), second(expired, n, fulfillment_status="cancelled")),
        "cancelled, sent",
    ),
    **ONLY_THE_ORDER_IS_DELIVERED,
    "one of two parcels is delivered": OddOrder(
        lambda n: order(n, second(parcel, n, "delivered"), expired(n)), "sent"
    ),
    # an order may name no status for a parcel that has none
    "one of two parcels is delivered, and the other has no status": OddOrder(
        lambda n: order(
            n,
            second(parcel, n, "delivered"),
            expired(n, shipment_status=None),
            statuses=["delivered"],
        ),
        "sent",
    ),
    **UNCLEAR,
    "no parcel has the order's exception": OddOrder(
        lambda n: order(n, parcel(n), exception_statuses=["expired"]), UNEXPLAINED
    ),
    "no parcel has the order's exception, in capitals": OddOrder(
        lambda n: order(n, parcel(n), exception_statuses=["EXPIRED"]), UNEXPLAINED
    ),
    "the parcel has another exception than the order": OddOrder(
        lambda n: order(n, parcel(n, exception_status="gone"), exception_statuses=["expired"]),
        UNEXPLAINED,
    ),
    "no parcel has the order's exception, and one of two is delivered": OddOrder(
        lambda n: order(
            n, parcel(n, "delivered"), second(parcel, n), exception_statuses=["expired"]
        ),
        UNEXPLAINED,
    ),
    "the order has an exception and no parcel": OddOrder(
        lambda n: order(n, exception_statuses=["expired"]), UNEXPLAINED
    ),
    "the exception is a delivered parcel's": OddOrder(
        lambda n: order(n, parcel(n, "delivered"), **EXPIRED_IS_NAMED), ""
    ),
    "the exception is a cancelled order's": OddOrder(
        lambda n: order(n, parcel(n), cancelled_at="2026-11-20", **EXPIRED_IS_NAMED), ""
    ),
    "the exception is a cancelled parcel's": OddOrder(
        lambda n: order(n, parcel(n, fulfillment_status="cancelled"), **EXPIRED_IS_NAMED), ""
    ),
    "the parcel is another order's": OddOrder(
        lambda n: order(n, expired(foreign(n))), "unreadable: parcels of another order"
    ),
    "the parcel is another order's, whose id is text": OddOrder(
        lambda n: order(n, expired(n, order_id=str(foreign(n)))),
        "unreadable: parcels of another order",
    ),
    "the parcel is another order's by its name": OddOrder(
        lambda n: order(n, expired(n, order_id=None, order_name=f"#{foreign(n)}")),
        "unreadable: parcels of another order",
    ),
}
OF_STATUSES: Table = {
    "nothing is odd": OddOrder(lambda n: order(n, parcel(n)), "sent"),
    **ONLY_THE_ORDER_IS_DELIVERED,
    **UNCLEAR,
    "no parcel has the order's status": OddOrder(
        lambda n: order(
            n,
            parcel(n, shipment_status=None, latest_status=None),
            statuses=["out_for_delivery"],
        ),
        "unreadable: names a status that none of its parcels has",
    ),
}
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()


def delivered_at(number: int, date: str | None) -> dict[str, Any]:
    step = {"key": "delivered", "datetime": date}
    return order(number, parcel(number, "delivered", latest_status=step))


def listed_twice(number: int) -> dict[str, Any]:
    arrived = parcel(number, "delivered")
    return order(number, arrived, arrived)


OF_DELIVERIES: Table = {
    "nothing is odd": OddOrder(lambda n: order(n, parcel(n, "delivered")), "sent"),
    # the time of the delivery is unknown
    **{name: OddOrder(make, "undated") for name, (make, _) in ONLY_THE_ORDER_IS_DELIVERED.items()},
    "a parcel is listed twice": OddOrder(listed_twice, "sent"),
    "a parcel is listed twice, and not the same": OddOrder(
        lambda n: order(n, parcel(n, "in_transit"), parcel(n, "delivered")),
        "unreadable: lists a parcel twice, and not the same",
    ),
    "there is no date": OddOrder(lambda n: delivered_at(n, None), "undated"),
    "the date is empty": OddOrder(lambda n: delivered_at(n, ""), "undated"),
    "the date is in 2099": OddOrder(lambda n: delivered_at(n, "2099-01-01T00:00:00Z"), "undated"),
    "the date is tomorrow": OddOrder(lambda n: delivered_at(n, TOMORROW), "undated"),
}


def test_an_exception_email_is_sent_only_if_the_order_is_consistent(
    server: OrderServer, email_exceptions: Flow, mail: MailServer, ledger: NotificationLedger
) -> None:
    server.orders = orders_of(OF_EXCEPTIONS)
    announced = report_of(
        announce_exceptions, server.credentials, list(server.orders), ledger=ledger
    )
    assert outcomes_of(OF_EXCEPTIONS, announced) == expected_of(OF_EXCEPTIONS)
    server.calls.clear()
    report = report_of(email_exceptions)
    assert outcomes_of(OF_EXCEPTIONS, report) == expected_of(OF_EXCEPTIONS)
    assert not report.complete
    assert written_to(mail) == [f"c{number}@example.com" for number in sent_of(OF_EXCEPTIONS)]
    # orders that were just read are not read again
    assert report.calls == len(server.calls) == len(server.orders)


def test_a_status_email_is_sent_only_if_the_order_is_consistent(
    server: OrderServer, email_statuses: Flow, mail: MailServer
) -> None:
    server.orders = orders_of(OF_STATUSES)
    report = report_of(email_statuses, "in_transit", "out_for_delivery")
    assert outcomes_of(OF_STATUSES, report) == expected_of(OF_STATUSES)
    assert written_to(mail) == [f"c{number}@example.com" for number in sent_of(OF_STATUSES)]


def test_a_delivery_email_is_sent_only_if_the_delivery_is_certain_and_recent(
    server: OrderServer, email_statuses: Flow, mail: MailServer
) -> None:
    server.orders = orders_of(OF_DELIVERIES)
    report = report_of(email_statuses, "delivered")
    assert outcomes_of(OF_DELIVERIES, report) == expected_of(OF_DELIVERIES)
    assert written_to(mail) == [f"c{number}@example.com" for number in sent_of(OF_DELIVERIES)]
    # a parcel that is listed twice counts as one, so the whole order is delivered
    assert not [m for m in mail.messages if "Part of" in str(m.message["Subject"])]


def test_an_event_with_an_unknown_or_future_time_sends_no_email(
    server: OrderServer, notify: Flow, mail: MailServer
) -> None:
    server.orders = {1: delivered_at(1, None), 2: delivered_at(2, TOMORROW)}
    assert notify(1, "delivered").undated == (1,)
    assert notify(2, "delivered", order_id=None).undated == (2,)
    assert not mail.messages


def test_an_event_about_another_orders_parcel_sends_no_email(
    server: OrderServer, notify: Flow, mail: MailServer
) -> None:
    server.orders[1] = order(1, parcel(1, "delivered", order_id=2))
    with pytest.raises(IncompleteRun, match="parcels of another order"):
        notify(1, "delivered")
    assert not mail.messages


def test_after_the_delivery_no_flow_emails_about_an_earlier_status_or_an_exception(
    server: OrderServer,
    email_exceptions: Flow,
    email_statuses: Flow,
    notify: Flow,
    mail: MailServer,
) -> None:
    server.orders = {number: order(number, parcel(number, "delivered")) for number in range(1, 6)}
    notify(1, "delivered")
    assert email_statuses("delivered").sent == (2, 3, 4, 5)
    earlier = ("in_transit", "order_ready", "in_transit", "out_for_delivery")
    for number, status in enumerate(earlier, start=1):
        server.orders[number] = order(number, parcel(number, status))
    server.orders[5] = order(5, expired(5))
    template = EmailTemplate()
    assert notify(1, "in_transit", template=template).already_told == (1,)
    scanned = email_statuses(*earlier, template=template, orders=[1, 2, 3, 4])
    assert scanned.already_told == (1, 2, 3, 4)
    assert email_exceptions().already_told == (5,)
    assert len(mail.messages) == 5


def test_an_uncertain_delivery_email_holds_back_earlier_statuses(
    server: OrderServer, notify: Flow, ledger: NotificationLedger, mail: MailServer
) -> None:
    server.orders[1] = order(1, parcel(1))
    key = NoticeKey(server.credentials.account, 1, 70_001, "status:delivered")
    ledger.claim([key], run="at work")
    with pytest.raises(IncompleteRun, match="an interrupted run may have sent"):
        notify(1, "in_transit")
    assert not mail.messages


def test_max_emails_limits_a_burst_of_events(
    server: OrderServer, notify: Flow, mail: MailServer
) -> None:
    for number in range(1, 5):
        server.orders[number] = order(number, parcel(number, "delivered"))
    for number in (1, 2):
        assert notify(number, "delivered", max_emails=2).sent
    with pytest.raises(LimitExceeded, match="2 were sent within the last hour"):
        notify(3, "delivered", max_emails=2)
    # a repeated event does not count
    assert notify(1, "delivered", max_emails=2).already_told
    assert notify(4, "delivered").sent
    assert len(mail.messages) == 3


Change = Callable[[OrderServer, int], None]


def without(*fields: str) -> Change:
    def change(server: OrderServer, number: int) -> None:
        response = server.orders[number]
        for field in fields:
            response.pop(field, None)
            response["fulfillments"][0].pop(field, None)

    return change


def with_fields(**fields: Any) -> Change:
    return lambda server, number: server.orders[number].update(fields)


def to_a_delivery(server: OrderServer, number: int) -> None:
    server.orders[number] = order(number, parcel(number, "delivered"))


def to_no_exception(server: OrderServer, number: int) -> None:
    server.orders[number]["fulfillments"][0]["exception_status"] = None


def to_an_unknown_order(server: OrderServer, number: int) -> None:
    server.orders.pop(number, None)


MEANWHILE: dict[str, tuple[Change, str]] = {
    "nothing changes": (lambda _server, _number: None, "sent"),
    "the parcel is delivered": (to_a_delivery, "superseded"),
    "there is a new address": (with_fields(order_email="new@example.com"), "sent"),
    "the order is cancelled": (
        with_fields(cancelled_at="2026-11-25T10:00:00Z"),
        "cancelled, superseded",
    ),
    "there is no address any more": (with_fields(order_email=None), "no_address"),
    # the order still names the exception
    "the parcel has no exception any more": (to_no_exception, "deferred"),
    "Tracktor does not know the order any more": (to_an_unknown_order, "superseded"),
    "the response is another order's": (with_fields(order_id=999), "deferred"),
    "the address is missing": (without("order_email"), "deferred"),
    "the statuses are missing": (
        without("exception_status", "exception_statuses", "shipment_status", "latest_status"),
        "deferred",
    ),
    "the parcels are missing": (
        with_fields(fulfillments=[], statuses=[], exception_statuses=[]),
        "deferred",
    ),
    "the template cannot be rendered": (with_fields(order_name=""), "deferred"),
}


def test_a_change_between_reading_and_sending_decides_about_the_email(
    server: OrderServer, email_exceptions: Flow, mail: MailServer, ledger: NotificationLedger
) -> None:
    table = {
        name: OddOrder(lambda n: order(n, expired(n)), outcome)
        for name, (_, outcome) in MEANWHILE.items()
    }
    server.orders = orders_of(table)
    another_run = len(table) + 1
    server.orders[another_run] = order(another_run, expired(another_run))
    key = NoticeKey(
        server.credentials.account, another_run, 70_000 + another_run, "status:delivered"
    )
    orders = list(server.orders)

    def change_after_the_scan(_path: str) -> None:
        if len(server.calls) == len(orders):
            for number, (change, _) in enumerate(MEANWHILE.values(), start=1):
                change(server, number)
            ledger.complete([key], NoticeState.SENT, run="another")

    server.before_answer = change_after_the_scan
    template = EmailTemplate(subject="{{ order.order_name }}")
    with pytest.raises(IncompleteRun, match="could not be notified now") as raised:
        email_exceptions(orders=orders, template=template, read_again_after_minutes=0)
    report = raised.value.report
    assert outcomes_of(table, report) == expected_of(table)
    assert another_run in report.superseded, "another run sent an email about the delivery"
    assert sorted(written_to(mail)) == ["c1@example.com", "new@example.com"]
    assert report.calls == len(server.calls) == 2 * len(orders)


def test_orders_of_messages_that_are_not_tried_are_not_read_again(
    server: OrderServer, email_exceptions: Flow, mail: MailServer
) -> None:
    for number in range(1, 61):
        server.orders[number] = order(number, expired(number))
    mail.faults = MailFaults(sender_refused=True)
    with pytest.raises(IncompleteRun) as raised:
        email_exceptions(read_again_after_minutes=0)
    assert len(raised.value.report.deferred) == 60
    assert len(server.calls) == 60 + 50
