"""`notify_status_change` and `email_status_changes`: one email for each current status."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_tracktor import (
    CompletedOrders,
    EmailTemplate,
    IncompleteRun,
    InvalidInput,
    Mailer,
    ShopifyCredentials,
    ShopifyOrders,
    TracktorCredentials,
    TransportLimits,
)
from prefect_tracktor.errors import MailServerError, TemplateError
from prefect_tracktor.flows import email_status_changes, notify_status_change
from prefect_tracktor.sandbox import Faults, MailFaults, MailServer, Sandbox, Shop
from tests.support.mailers import changed
from tests.system.flows.conftest import written_to

pytestmark = pytest.mark.usefixtures("prefect_api")

Notify = Callable[..., Any]


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A shop with six affected customers."""
    with Sandbox(Shop(orders=30, expired=6)) as sandbox:
        yield sandbox


@pytest.fixture
def usual(credentials: TracktorCredentials, mailer: Mailer) -> dict[str, Any]:
    return {"credentials": credentials, "mailer": mailer}


@pytest.fixture
def parcel(tracktor: Sandbox) -> dict[str, Any]:
    """A parcel delivered just now, of a customer with an email address."""
    shop = tracktor.shop
    order = shop.order(next(iter(shop.customers_to_write_to())))
    fulfillment_id = order["fulfillments"][0]["fulfillment_id"]
    return shop.set_parcel(fulfillment_id, shipment_status="delivered", exception_status="")


@pytest.fixture
def customer(tracktor: Sandbox, parcel: dict[str, Any]) -> str:
    return str(tracktor.shop.order(parcel["order_id"])["order_email"])


@pytest.fixture
def notify(usual: dict[str, Any], parcel: dict[str, Any]) -> Notify:
    def notify(**options: Any) -> Any:
        event = {"fulfillment_id": parcel["fulfillment_id"], "status": "delivered"}
        return notify_status_change(**changed(usual | event, **options))

    return notify


def test_a_customer_gets_one_email_from_events_and_a_scan_together(
    notify: Notify,
    usual: dict[str, Any],
    tracktor: Sandbox,
    mail: MailServer,
    customer: str,
    parcel: dict[str, Any],
) -> None:
    first, second = notify(), notify()
    assert first.sent == (parcel["order_id"],)
    assert second.already_told == (parcel["order_id"],)
    assert parcel["order_id"] in scan(usual, tracktor).already_told
    assert written_to(mail) == [customer]
    assert "has been delivered" in mail.messages[0].message["Subject"]


def test_an_order_id_in_the_event_saves_one_call(notify: Notify, parcel: dict[str, Any]) -> None:
    assert notify(dry_run=True).calls == 2
    assert notify(dry_run=True, order_id=parcel["order_id"]).calls == 1


def test_an_event_with_an_outdated_status_sends_no_email(
    notify: Notify, mail: MailServer, parcel: dict[str, Any]
) -> None:
    assert notify(status="in_transit").affected == ()
    assert notify(status="in_transit", order_id=parcel["order_id"]).affected == ()
    assert not mail.messages


def test_a_status_older_than_within_hours_sends_no_email(
    notify: Notify, mail: MailServer, tracktor: Sandbox, usual: dict[str, Any]
) -> None:
    old = next(
        parcel
        for order in map(tracktor.shop.order, tracktor.shop.order_ids)
        for parcel in order["fulfillments"]
        if parcel["shipment_status"] == "delivered"
        and order["order_email"]
        and parcel["latest_status"]["datetime"] < "2026-06-01"
    )
    assert notify(fulfillment_id=old["fulfillment_id"]).affected == ()
    assert notify(fulfillment_id=old["fulfillment_id"], within_hours=8000, dry_run=True).due


def test_invalid_retry_delays_are_refused(notify: Notify) -> None:
    with pytest.raises(InvalidInput, match="retry_delays_seconds"):
        notify(retry_delays_seconds=[-1])


def test_each_shipment_status_has_its_own_subject(
    usual: dict[str, Any], mail: MailServer, tracktor: Sandbox
) -> None:
    shop = tracktor.shop
    statuses = ("in_transit", "out_for_delivery", "delivered")
    ids = list(shop.customers_to_write_to())[:3]
    for order_id, status in zip(ids, statuses, strict=True):
        for parcel in shop.order(order_id)["fulfillments"]:
            shop.set_parcel(parcel["fulfillment_id"], shipment_status=status, exception_status="")
    scan(usual, tracktor, orders=ids, statuses=frozenset(statuses))
    subjects = {str(m.message["Subject"]).split(" ", 3)[3] for m in mail.messages}
    assert subjects == {"is on its way", "is out for delivery", "has been delivered"}
    assert len(mail.messages) == 3


def test_a_custom_status_can_have_its_own_template(
    notify: Notify, mail: MailServer, tracktor: Sandbox, parcel: dict[str, Any]
) -> None:
    tracktor.shop.set_parcel(parcel["fulfillment_id"], shipment_status="Ready for pickup")
    words = EmailTemplate(subject="Come and get it", text="T", html="H")
    notify(status="ready_for_pickup", template=words)
    assert [received.message["Subject"] for received in mail.messages] == ["Come and get it"]


def test_a_dry_run_sends_no_email_and_a_rehearsal_one_to_staff(
    notify: Notify, mail: MailServer, customer: str
) -> None:
    assert notify(dry_run=True).due
    assert not mail.messages
    notify(mode="dry_run")
    assert not mail.messages
    notify(mode="rehearsal", rehearsal_address="staff@sandbox-shop.example")
    notify()
    assert written_to(mail) == ["staff@sandbox-shop.example", customer]


def test_an_event_with_an_unknown_parcel_sends_no_email(notify: Notify, mail: MailServer) -> None:
    assert notify(fulfillment_id=1).sent == ()
    assert not mail.messages


def test_an_event_with_the_id_of_another_order_sends_no_email(
    notify: Notify, mail: MailServer, tracktor: Sandbox, parcel: dict[str, Any]
) -> None:
    another = next(i for i in tracktor.shop.order_ids if i != parcel["order_id"])
    assert notify(order_id=another).affected == ()
    assert not mail.messages


def test_a_deferred_email_is_sent_by_a_retry(
    notify: Notify, mail: MailServer, customer: str
) -> None:
    mail.faults = MailFaults(deferred=frozenset({customer}), deferrals=2)
    report = notify(retry_delays_seconds=[0, 0])
    assert report.sent
    assert written_to(mail) == [customer]


def test_retries_wait_for_an_unreachable_mail_server(
    notify: Notify, mail: MailServer, customer: str
) -> None:
    mail.stop()
    with pytest.raises(MailServerError):
        notify(retry_delays_seconds=[])
    again = threading.Timer(1, mail.start)
    again.start()
    notify(retry_delays_seconds=[0.5] * 20)
    again.join()
    assert written_to(mail) == [customer]


def test_a_run_fails_if_the_last_retry_fails(
    notify: Notify, tracktor: Sandbox, usual: dict[str, Any]
) -> None:
    tracktor.faults = Faults(server_error=1)
    hasty = usual["credentials"].model_copy(update={"limits": TransportLimits(max_attempts=1)})
    with pytest.raises(IncompleteRun, match="could not be read"):
        notify(credentials=hasty, retry_delays_seconds=[0])
    assert len(tracktor.calls) == 2


def test_a_template_error_is_not_retried(
    notify: Notify, mail: MailServer, tracktor: Sandbox
) -> None:
    with pytest.raises(TemplateError):
        notify(template=EmailTemplate(subject="{{ 1 // 0 }}"))
    assert len([path for _, path in tracktor.calls if path.startswith("orders/")]) == 1


def scan(usual: dict[str, Any], tracktor: Sandbox, **options: Any) -> Any:
    orders = list(tracktor.shop.order_ids)
    return email_status_changes(**changed({**usual, "orders": orders}, **options))


def test_a_scan_emails_new_statuses_and_skips_old_ones(
    usual: dict[str, Any],
    tracktor: Sandbox,
    mail: MailServer,
    parcel: dict[str, Any],
    customer: str,
) -> None:
    report = scan(usual, tracktor)
    assert report.sent == (parcel["order_id"],)
    assert written_to(mail) == [customer]
    assert scan(usual, tracktor).already_told == report.sent


def test_an_order_gets_one_email_for_each_status_of_its_parcels(
    usual: dict[str, Any], tracktor: Sandbox, mail: MailServer
) -> None:
    shop = tracktor.shop
    order = next(
        order
        for order in map(shop.order, shop.order_ids)
        if len(order["fulfillments"]) == 3 and order["order_email"]
    )
    statuses = ("delivered", "in_transit", "delivered")
    for entry, status in zip(order["fulfillments"], statuses, strict=True):
        for step in ("Ready for pickup", status):
            shop.set_parcel(entry["fulfillment_id"], shipment_status=step)
    both = frozenset({"delivered", "In transit"})
    report = scan(usual, tracktor, orders=[order["order_id"]], statuses=both)
    assert report.sent == (order["order_id"],)
    subjects = sorted(str(received.message["Subject"]) for received in mail.messages)
    assert [subject.endswith("delivered") for subject in subjects] == [True, False]


def test_within_hours_sets_how_old_a_status_may_be(
    usual: dict[str, Any], tracktor: Sandbox, parcel: dict[str, Any]
) -> None:
    old = datetime.now(UTC) - datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    everything = scan(usual, tracktor, within_hours=old / timedelta(hours=1), dry_run=True)
    assert len(everything.due) > 10


def test_a_shopify_source_must_include_delivered_orders(
    usual: dict[str, Any], tracktor: Sandbox, shopify: ShopifyCredentials
) -> None:
    with pytest.raises(InvalidInput, match="set include_delivered of the ShopifyOrders"):
        scan(usual, tracktor, orders=ShopifyOrders(credentials=shopify))
    every = ShopifyOrders(credentials=shopify, include_delivered=True)
    assert scan(usual, tracktor, orders=every, allow_empty=True, dry_run=True).complete


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"within_hours": float("inf")}, "within_hours"),
        (
            {"within_hours": 72, "completed_orders": CompletedOrders(after_days=3)},
            "not read after 3 days",
        ),
        ({"statuses": frozenset({" "})}, "name at least one status"),
        ({"max_emails": -1}, "max_emails"),
    ],
)
def test_invalid_parameters_of_a_status_scan_are_refused_before_reading(
    usual: dict[str, Any], tracktor: Sandbox, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        scan(usual, tracktor, **options)
    assert tracktor.calls == []


def test_an_unknown_status_is_refused_before_any_order_is_read(
    usual: dict[str, Any], tracktor: Sandbox
) -> None:
    with pytest.raises(InvalidInput, match=r"delivred.*did you mean"):
        scan(usual, tracktor, statuses=frozenset({"delivred"}))
    assert len(tracktor.calls) == 1
