"""`notify_customers`: each notice once, in the right order, and not too many."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from prefect_tracktor import (
    EmailTemplate,
    IncompleteRun,
    InvalidInput,
    InvalidResponse,
    Mailer,
    NotificationLedger,
    NotificationRule,
    OrderFile,
    ReadingOptions,
    ShopifyCredentials,
    ShopifyOrders,
    Words,
)
from prefect_tracktor.flows import email_status_changes, notify_customers
from prefect_tracktor.sandbox import MailServer
from tests.support.mailers import changed
from tests.support.orders import OrderServer, expired, order, parcel
from tests.system.flows.conftest import written_to

pytestmark = pytest.mark.usefixtures("prefect_api")

Flow = Callable[..., Any]
AT_ONCE = 1e-9


@pytest.fixture
def server() -> Iterator[OrderServer]:
    with OrderServer() as server:
        yield server


@pytest.fixture
def notify(server: OrderServer, mailer: Mailer) -> Flow:
    def notify(*rules: NotificationRule, **options: Any) -> Any:
        usual = {
            "credentials": server.credentials,
            "orders": list(server.orders),
            "mailer": mailer,
            "rules": list(rules),
        }
        return notify_customers(**changed(usual, **options))

    return notify


def rule(name: str, *when: str, **fields: Any) -> NotificationRule:
    return NotificationRule.model_validate({"name": name, "when": list(when)} | fields)


ARRIVED = rule("arrived", "status:delivered")
LOST = rule("lost", "exception:expired")
SHOPIFY = ShopifyOrders(
    credentials=ShopifyCredentials(shop="a-shop.myshopify.com", access_token="none"),
    created_within_days=45,
)


def subjects(mail: MailServer) -> list[str]:
    return [str(received.message["Subject"]) for received in mail.messages]


def test_each_rule_sends_one_email_to_each_customer(
    notify: Flow, server: OrderServer, mail: MailServer
) -> None:
    server.orders = {1: order(1, parcel(1, "delivered")), 2: order(2, expired(2))}
    first = notify(ARRIVED, LOST)
    assert (first.sent, first.complete) == ((1, 2), True)
    assert notify(ARRIVED, LOST).already_told == (1, 2)
    assert notify(rule("thanks", "status:delivered")).sent == (1,)
    assert len(mail.messages) == 3


def test_all_rules_share_one_scan(notify: Flow, server: OrderServer) -> None:
    server.orders = {n: order(n, parcel(n, "delivered")) for n in range(1, 30)}
    report = notify(ARRIVED, LOST, rule("late", "stalled"), dry_run=True)
    assert report.calls == len(server.orders)


def test_a_rule_and_the_ready_made_flow_of_its_name_share_the_ledger(
    notify: Flow, server: OrderServer, mailer: Mailer, mail: MailServer
) -> None:
    server.orders = {1: order(1, parcel(1, "delivered"))}
    email_status_changes(server.credentials, [1], mailer)
    assert notify(rule("status", "status:delivered")).already_told == (1,)
    assert len(mail.messages) == 1


def test_no_rule_sends_an_earlier_status_after_the_delivery(
    notify: Flow, server: OrderServer, mail: MailServer
) -> None:
    server.orders = {1: order(1, parcel(1, "delivered"))}
    notify(ARRIVED)
    server.orders = {1: order(1, expired(1))}
    assert notify(LOST, rule("on-its-way", "status:in_transit")).sent == ()
    assert len(mail.messages) == 1


def test_a_reminder_waits_for_its_time_and_is_sent_at_most_times(
    notify: Flow, server: OrderServer, mail: MailServer
) -> None:
    server.orders = {1: order(1, expired(1))}
    at_once = rule("at-once", "exception:expired", times=2, repeat_after_days=AT_ONCE)
    weekly = rule("weekly", "exception:expired", times=2)
    counts = [[case.outcome.value for case in notify(at_once, weekly).cases] for _ in range(4)]
    assert [outcomes.count("sent") for outcomes in counts] == [2, 1, 0, 0]
    assert len(mail.messages) == 3
    server.orders = {1: order(1, parcel(1))}
    assert notify(at_once, weekly).affected == ()


def test_a_customer_gets_at_most_three_emails_a_day(
    notify: Flow, server: OrderServer, mail: MailServer
) -> None:
    same = {"order_email": "ada@customer.example"}
    server.orders = {n: order(n, parcel(n, "delivered"), **same) for n in range(1, 6)}
    with pytest.raises(IncompleteRun, match="had 3 messages today") as caught:
        notify(ARRIVED)
    assert (len(caught.value.report.sent), len(caught.value.report.deferred)) == (3, 2)
    assert written_to(mail) == ["ada@customer.example"] * 3


def test_an_order_rule_sends_one_email_when_all_parcels_have_arrived(
    notify: Flow, server: OrderServer, mail: MailServer
) -> None:
    whole = rule("all", "status:delivered", per="order")
    one = parcel(1, "delivered", line_items=[{"id": 1}])
    other = {"fulfillment_id": 99, "line_items": [{"id": 2}]}
    server.orders = {1: order(1, one, parcel(1, "in_transit", **other), line_item_count=2)}
    assert notify(whole).sent == ()
    server.orders = {1: order(1, one, parcel(1, "delivered", **other), line_item_count=2)}
    assert notify(whole).sent == (1,)
    assert notify(whole).already_told == (1,)
    assert len(mail.messages) == 1


@pytest.mark.parametrize("lost", ["line_item_count", "line_items"])
def test_an_order_rule_stops_if_responses_lack_the_ordered_items(
    notify: Flow, server: OrderServer, mail: MailServer, lost: str
) -> None:
    sent = parcel(1, "delivered", line_items=[{"id": 1}])
    server.orders = {1: order(1, sent, line_item_count=1)}
    for fields in (sent, server.orders[1]):
        fields.pop(lost, None)
    with pytest.raises(InvalidResponse, match=f"none of the 1 responses has .*{lost}"):
        notify(rule("all", "status:delivered", per="order"))
    server.orders = {1: order(1, sent, line_item_count="some")}
    with pytest.raises(IncompleteRun, match="line_item_count"):
        notify(rule("all", "status:delivered", per="order"))
    assert not mail.messages


def test_a_custom_status_is_emailed_before_there_is_a_parcel(
    notify: Flow, server: OrderServer, mail: MailServer
) -> None:
    server.orders = {1: order(1, statuses=["Sewing"])}
    words = EmailTemplate(words=[Words(about="status", subject="We are sewing", opening="Now.")])
    assert notify(rule("made", "status:Sewing", template=words)).sent == (1,)
    assert subjects(mail) == ["We are sewing"]


def test_a_status_emailed_before_there_is_a_parcel_is_not_repeated(
    notify: Flow, server: OrderServer, mail: MailServer
) -> None:
    made = rule("made", "status:Sewing")
    server.orders = {1: order(1, statuses=["Sewing"])}
    assert notify(made).sent == (1,)
    server.orders = {1: order(1, parcel(1, "Sewing", is_automatic=False))}
    assert notify(made).already_told == (1,)
    assert len(mail.messages) == 1
    server.orders = {1: order(1, parcel(1, "Cutting"))}
    assert notify(rule("made", "status:all")).sent == (1,)


def test_a_rule_still_applies_after_an_order_is_read_again(
    notify: Flow, server: OrderServer, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.orders = {1: order(1, parcel(1, "delivered"))}
    monkeypatch.setattr("prefect_tracktor.runs.notify._REREAD_LASTS_SECONDS", -1, raising=True)
    report = notify(ARRIVED, read_again_after_minutes=0)
    assert report.sent == (1,)
    assert report.calls == 2


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        (rule("typo", "status:delivred"), "delivred"),
        (rule("vip", "status:delivered", tags=["VIP"]), "neither a list of ids nor events"),
    ],
)
def test_invalid_rules_are_refused_before_any_order_is_read(
    notify: Flow, server: OrderServer, about: NotificationRule, problem: str
) -> None:
    server.orders = {1: order(1, parcel(1, "delivered"))}
    with pytest.raises(InvalidInput, match=problem):
        notify(about)
    assert "orders/1" not in server.calls


def test_a_rule_by_tag_gives_a_note_if_no_order_has_tags(
    notify: Flow, server: OrderServer, tmp_path: Path
) -> None:
    server.orders = {1: order(1, parcel(1, "delivered"))}
    vip = rule("vip", "status:delivered", tags=["VIP"])
    file = tmp_path / "orders.csv"
    file.write_text("Id\n1\n")
    [note] = [n for n in notify(vip, orders=OrderFile(path=str(file))).notes if "tag" in n]
    assert note.startswith("No order has a tag")
    file.write_text("Id,Tags\n1,vip\n")
    report = notify(vip, orders=OrderFile(path=str(file)))
    assert report.sent == (1,)
    assert not [note for note in report.notes if "tag" in note]


def test_simultaneous_runs_send_each_notice_once(
    notify: Flow, server: OrderServer, mail: MailServer
) -> None:
    server.orders = {n: order(n, parcel(n, "delivered")) for n in range(1, 13)}
    thanks = rule("thanks", "status:delivered")
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(copy_context().run, notify, ARRIVED, thanks) for _ in range(2)]
        reports = [run.result() for run in runs]
    assert sum(len(report.cases) for report in reports) >= 24
    assert len(mail.messages) == 24


def test_a_dry_run_of_rules_lists_due_orders_and_sends_nothing(
    notify: Flow, server: OrderServer, mail: MailServer, ledger: NotificationLedger
) -> None:
    server.orders = {1: order(1, parcel(1, "delivered")), 2: order(2, expired(2))}
    report = notify(ARRIVED, LOST, dry_run=True)
    assert (report.due, report.mode) == ((1, 2), "dry_run")
    assert not mail.messages
    assert ledger.told([1, 2]) == []


def test_notify_customers_accepts_reading_options(notify: Flow, server: OrderServer) -> None:
    assert notify(ARRIVED, reading=ReadingOptions(allow_empty=True)).read == ()


def test_a_probable_typo_in_a_rule_is_noted(notify: Flow, server: OrderServer) -> None:
    server.orders = {1: order(1, expired(1))}
    report = notify(rule("lost", "exception:expird"))
    assert report.due == ()
    assert [note for note in report.notes if "did you mean expired?" in note]
