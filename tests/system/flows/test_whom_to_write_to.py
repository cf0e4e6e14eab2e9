"""Orders whose customers are not written to: cancelled, delivered, mixed up, or told more."""

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
def write(usual: dict[str, Any], server: OrderServer) -> Flow:
    def write(**options: Any) -> Any:
        return email_expired_exceptions(
            **changed({**usual, "orders": list(server.orders)}, **options)
        )

    return write


@pytest.fixture
def tell(usual: dict[str, Any], server: OrderServer) -> Flow:
    def tell(*statuses: str, **options: Any) -> Any:
        chosen = {"orders": list(server.orders), "statuses": frozenset(statuses)}
        return email_status_changes(**changed(usual | chosen, **options))

    return tell


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
NOT_CANCELLED: list[dict[str, Any]] = [
    {"cancelled_at": None, "cancel_reason": None, "financial_status": "paid"},
    {"cancelled_at": "0000-00-00 00:00:00", "is_cancelled": "false"},
    {"financial_status": "partially_refunded", "refunded": 12.5},
    {"cancelled_items": 1},
]


def test_no_order_that_is_cancelled_or_refunded_is_written_to(
    server: OrderServer, write: Flow, mail: MailServer
) -> None:
    for number, fields in enumerate([*CANCELLED, *NOT_CANCELLED], start=1):
        server.orders[number] = order(number, expired(number), **fields)
    report = write()
    cancelled = tuple(range(1, len(CANCELLED) + 1))
    assert report.cancelled == cancelled
    assert written_to(mail) == [
        f"c{number}@example.com" for number in server.orders if number not in cancelled
    ]
    assert write(include_cancelled=True).sent == cancelled


@pytest.mark.parametrize("status", ["cancelled", "CANCELED", "refunded", "Voided"])
def test_a_cancelled_parcel_is_no_news_in_any_flow(
    server: OrderServer,
    write: Flow,
    tell: Flow,
    notify: Flow,
    mail: MailServer,
    ledger: NotificationLedger,
    status: str,
) -> None:
    server.orders[1] = order(1, expired(1, fulfillment_status=status))
    announced = announce_exceptions(server.credentials, [1], ledger=ledger)
    assert announced.cancelled == (1,)
    assert announced.affected == ()
    for report in (write(), tell("in_transit"), notify(1, "in_transit")):
        assert report.cancelled == (1,)
    assert not mail.messages


def test_a_cancellation_can_be_the_news(server: OrderServer, tell: Flow, mail: MailServer) -> None:
    server.orders[1] = order(1, parcel(1, "Cancelled"))
    words = EmailTemplate(subject="Cancelled", text="T", html="H")
    assert tell("Cancelled", template=words).sent == (1,)
    assert written_to(mail) == ["c1@example.com"]


def test_one_parcel_that_is_cancelled_keeps_the_other_from_nothing(
    server: OrderServer, write: Flow
) -> None:
    other = expired(1, fulfillment_id=9, fulfillment_status="cancelled")
    server.orders[1] = order(1, expired(1), other)
    report = write()
    assert report.sent == report.cancelled == (1,)


def test_what_the_order_itself_calls_delivered_is_not_written_to_as_lost(
    server: OrderServer, write: Flow, tell: Flow, mail: MailServer
) -> None:
    server.orders[1] = order(1, expired(1), statuses=["Delivered"])
    server.orders[2] = order(2, expired(2), expired(2, fulfillment_id=9), statuses=["delivered"])
    assert write().affected == ()
    assert tell("in_transit").affected == ()
    # that it has arrived is news, but nobody knows of when
    assert tell("delivered").undated == (1, 2)
    assert not mail.messages


def test_of_a_part_that_has_arrived_the_rest_is_told(server: OrderServer, write: Flow) -> None:
    server.orders[1] = order(1, parcel(1, "delivered", fulfillment_id=9), expired(1))
    # an order may name no status for a parcel that has none
    here, lost = parcel(2, "delivered", fulfillment_id=9), expired(2, shipment_status=None)
    server.orders[2] = order(2, here, lost, statuses=["delivered"])
    assert write().sent == (1, 2)


def test_which_of_its_parcels_arrived_must_be_clear(
    server: OrderServer, write: Flow, tell: Flow, mail: MailServer
) -> None:
    server.orders[1] = order(
        1, expired(1), parcel(1, fulfillment_id=9), statuses=["delivered", "in_transit"]
    )
    with pytest.raises(IncompleteRun, match="it is unknown which parcels arrived"):
        write()
    with pytest.raises(IncompleteRun, match="it is unknown which parcels arrived"):
        tell("in_transit")
    assert not mail.messages


UNEXPLAINED = [
    order(1, parcel(1), exception_statuses=["expired"]),
    order(1, parcel(1), exception_statuses=["EXPIRED"]),
    order(1, parcel(1, exception_status="gone"), exception_statuses=["expired"]),
    order(1, parcel(1, "delivered"), parcel(1, fulfillment_id=9), exception_statuses=["expired"]),
    order(1, exception_statuses=["expired"]),
]


@pytest.mark.parametrize("answer", UNEXPLAINED)
def test_an_exception_that_no_parcel_explains_is_said_loudly(
    server: OrderServer, write: Flow, ledger: NotificationLedger, answer: dict[str, Any]
) -> None:
    server.orders[1] = answer
    with pytest.raises(IncompleteRun, match="names an exception that none of its parcels has"):
        write()
    with pytest.raises(IncompleteRun, match="names an exception that none of its parcels has"):
        announce_exceptions(server.credentials, [1], ledger=ledger)


def test_an_exception_of_what_has_arrived_or_was_cancelled_needs_no_explanation(
    server: OrderServer, write: Flow
) -> None:
    named = {"exception_statuses": ["expired"]}
    server.orders[1] = order(1, parcel(1, "delivered"), **named)
    server.orders[2] = order(2, parcel(2), cancelled_at="2026-11-20", **named)
    server.orders[3] = order(3, parcel(3, fulfillment_status="cancelled"), **named)
    assert write().complete


def test_a_status_that_no_parcel_explains_is_said_loudly(server: OrderServer, tell: Flow) -> None:
    unnamed = parcel(1, shipment_status=None, latest_status=None)
    server.orders[1] = order(1, unnamed, statuses=["out_for_delivery"])
    with pytest.raises(IncompleteRun, match="names a status that none of its parcels has"):
        tell("out_for_delivery")


FOREIGN = [
    expired(2),
    expired(1, order_id="2"),
    expired(1, order_id=None, order_name="#2"),
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_belongs_to_another_order_is_told_to_nobody(
    server: OrderServer, write: Flow, mail: MailServer, foreign: dict[str, Any]
) -> None:
    server.orders[1] = order(1, foreign)
    server.orders[3] = order(3, expired(3))
    with pytest.raises(IncompleteRun, match="parcels of another order") as raised:
        write()
    assert [failure.id for failure in raised.value.report.failed] == [1]
    assert written_to(mail) == ["c3@example.com"]


def test_a_parcel_that_is_listed_twice_is_one(
    server: OrderServer, tell: Flow, mail: MailServer
) -> None:
    arrived = parcel(1, "delivered")
    server.orders[1] = order(1, arrived, arrived)
    tell("delivered")
    [message] = mail.messages
    assert "Part of" not in str(message.message["Subject"])


def test_a_parcel_that_contradicts_itself_is_told_to_nobody(
    server: OrderServer, tell: Flow, mail: MailServer
) -> None:
    server.orders[1] = order(1, parcel(1, "in_transit"), parcel(1, "delivered"))
    with pytest.raises(IncompleteRun, match="lists a parcel twice, and not the same"):
        tell("delivered")
    assert not mail.messages


def test_an_event_about_another_orders_parcel_is_told_to_nobody(
    server: OrderServer, notify: Flow, mail: MailServer
) -> None:
    server.orders[1] = order(1, parcel(1, "delivered", order_id=2))
    with pytest.raises(IncompleteRun, match="parcels of another order"):
        notify(1, "delivered")
    assert not mail.messages


@pytest.mark.parametrize("earlier", ["order_ready", "in_transit", "out_for_delivery"])
def test_after_the_delivery_nothing_before_it_is_told(
    server: OrderServer, tell: Flow, notify: Flow, mail: MailServer, earlier: str
) -> None:
    words = EmailTemplate()
    server.orders[1] = order(1, parcel(1, "delivered"))
    notify(1, "delivered")
    server.orders[1] = order(1, parcel(1, earlier))
    assert notify(1, earlier, template=words).already_told == (1,)
    assert tell(earlier, template=words).already_told == (1,)
    assert len(mail.messages) == 1


def test_after_the_delivery_nobody_hears_that_the_parcel_is_lost(
    server: OrderServer, write: Flow, notify: Flow, mail: MailServer
) -> None:
    server.orders[1] = order(1, parcel(1, "delivered"))
    notify(1, "delivered")
    server.orders[1] = order(1, expired(1))
    assert write().already_told == (1,)
    assert len(mail.messages) == 1


def test_a_delivery_that_may_have_been_told_keeps_the_rest_back(
    server: OrderServer, notify: Flow, ledger: NotificationLedger, mail: MailServer
) -> None:
    server.orders[1] = order(1, parcel(1))
    key = NoticeKey(server.credentials.account, 1, 70_001, "status:delivered")
    ledger.claim([key], run="at work")
    with pytest.raises(IncompleteRun, match="an interrupted run may have sent"):
        notify(1, "in_transit")
    assert not mail.messages


DATES = [None, "", "2099-01-01T00:00:00Z", (datetime.now(UTC) + timedelta(days=1)).isoformat()]


@pytest.mark.parametrize("date", DATES, ids=["none", "empty", "2099", "tomorrow"])
def test_what_has_no_date_or_one_to_come_is_no_news(
    server: OrderServer, tell: Flow, notify: Flow, mail: MailServer, date: str | None
) -> None:
    steps = {"latest_status": {"key": "delivered", "datetime": date}}
    server.orders[1] = order(1, parcel(1, "delivered", **steps))
    assert tell("delivered").undated == (1,)
    assert notify(1, "delivered").undated == (1,)
    assert notify(1, "delivered", order_id=None).undated == (1,)
    assert not mail.messages


def test_a_burst_of_events_is_capped_like_a_scan(
    server: OrderServer, notify: Flow, mail: MailServer
) -> None:
    for number in range(1, 6):
        server.orders[number] = order(number, parcel(number, "delivered"))
    for number in (1, 2, 3):
        assert notify(number, "delivered", max_emails=3).sent
    with pytest.raises(LimitExceeded, match="3 were sent within the last hour"):
        notify(4, "delivered", max_emails=3)
    # what was told already is no burst
    assert notify(1, "delivered", max_emails=3).already_told
    assert notify(5, "delivered").sent
    assert len(mail.messages) == 4


def test_what_happens_between_reading_and_sending_is_obeyed(
    server: OrderServer, write: Flow, mail: MailServer
) -> None:
    for number in range(1, 8):
        server.orders[number] = order(number, expired(number))
    reads = list(server.orders)

    def go_on(_path: str) -> None:
        if len(server.calls) == len(reads):
            server.orders[1] = order(1, parcel(1, "delivered"))
            server.orders[2]["order_email"] = "new@example.com"
            server.orders[3]["cancelled_at"] = "2026-11-25T10:00:00Z"
            server.orders[4]["order_email"] = None
            server.orders[5]["fulfillments"][0]["exception_status"] = None
            server.orders.pop(6, None)

    server.before_answer = go_on
    with pytest.raises(IncompleteRun) as raised:
        write(orders=reads, read_again_after_minutes=0)
    report = raised.value.report
    assert sorted(written_to(mail)) == ["c7@example.com", "new@example.com"]
    assert report.superseded == (1, 3, 6)
    assert report.no_address == (4,)
    assert report.cancelled == (3,)
    # the order still names the exception that its parcel has lost
    assert report.deferred == (5,)
    assert report.calls == len(server.calls) == 14


def test_what_was_read_just_now_is_not_looked_up_again(server: OrderServer, write: Flow) -> None:
    server.orders[1] = order(1, expired(1))
    assert write().calls == len(server.calls) == 1


def test_what_cannot_be_read_again_waits_for_the_next_run(
    server: OrderServer, write: Flow, mail: MailServer
) -> None:
    server.orders[1] = order(1, expired(1))

    def lose_track(_path: str) -> None:
        if server.calls:
            server.orders[1]["order_id"] = 2

    server.before_answer = lose_track
    with pytest.raises(IncompleteRun, match="could not be notified now") as raised:
        write(read_again_after_minutes=0)
    assert raised.value.report.deferred == (1,)
    assert not mail.messages


def without(*fields: str) -> Callable[[dict[str, Any]], None]:
    def change(answer: dict[str, Any]) -> None:
        for field in fields:
            answer.pop(field, None)
            answer["fulfillments"][0].pop(field, None)

    return change


@pytest.mark.parametrize(
    "change",
    [
        without("order_email"),
        without("exception_status", "exception_statuses", "shipment_status", "latest_status"),
        lambda answer: answer.update(fulfillments=[], statuses=[], exception_statuses=[]),
        lambda answer: answer.update(order_name=""),
    ],
)
def test_an_answer_that_lacks_something_by_then_waits_for_the_next_run(
    server: OrderServer, write: Flow, mail: MailServer, change: Callable[[dict[str, Any]], None]
) -> None:
    for number in (1, 2, 3):
        server.orders[number] = order(number, expired(number))
    template = EmailTemplate(subject="{{ order.order_name }}")

    def lose(_path: str) -> None:
        if len(server.calls) == 3:
            change(server.orders[2])

    server.before_answer = lose
    with pytest.raises(IncompleteRun) as raised:
        write(orders=[1, 2, 3], template=template, read_again_after_minutes=0)
    assert raised.value.report.deferred == (2,)
    assert raised.value.report.sent == (1, 3)


def test_a_delivery_that_another_run_tells_of_in_between_is_the_last_word(
    server: OrderServer, tell: Flow, ledger: NotificationLedger, mail: MailServer
) -> None:
    server.orders[1] = order(1, parcel(1))
    key = NoticeKey(server.credentials.account, 1, 70_001, "status:delivered")

    def another_run(_path: str) -> None:
        if server.calls:
            ledger.complete([key], NoticeState.SENT, run="another")

    server.before_answer = another_run
    report = tell("in_transit", read_again_after_minutes=0)
    assert report.superseded == (1,)
    assert not mail.messages


def test_for_messages_that_are_not_tried_nothing_is_looked_up(
    server: OrderServer, write: Flow, mail: MailServer
) -> None:
    for number in range(1, 61):
        server.orders[number] = order(number, expired(number))
    mail.faults = MailFaults(sender_refused=True)
    with pytest.raises(IncompleteRun) as raised:
        write(read_again_after_minutes=0)
    assert len(raised.value.report.deferred) == 60
    assert len(server.calls) == 60 + 50
