"""Runs that send emails and HTTP posts on one scan."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from prefect_tracktor import (
    HttpChannel,
    IncompleteRun,
    InvalidInput,
    Mailer,
    Mode,
    NotificationLedger,
    NotificationRule,
    ReadingOptions,
    TracktorCredentials,
)
from prefect_tracktor.flows import (
    MailReport,
    TeamDigest,
    WatchOptions,
    notify_customers,
    watch_shop,
)
from prefect_tracktor.sandbox import MailServer, Sandbox, Shop
from prefect_tracktor.storage.ledger import NoticeState
from tests.support.http_service import HttpService, Instead
from tests.support.mailers import mailer_of
from tests.support.orders import OrderServer, expired, order, parcel
from tests.system.flows.conftest import written_to

pytestmark = pytest.mark.usefixtures("prefect_api")

Notify = Callable[..., MailReport]
EXPIRED = ["exception:expired"]
BODY = (
    '{"order_id": {{ order.order_id }}, "says": "{{ condition.label }}", "to": "{{ recipient }}"}'
)


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A shop with six affected customers."""
    with Sandbox(Shop(orders=20, expired=6)) as sandbox:
        yield sandbox


@pytest.fixture
def service() -> Iterator[HttpService]:
    with HttpService().serving() as serving:
        yield serving


@pytest.fixture
def notify(
    tracktor: Sandbox, credentials: TracktorCredentials, mailer: Mailer, service: HttpService
) -> Notify:
    """Send an email and a post for each expired tracking."""

    def notify(
        *, dry_run: bool = False, orders: list[int] | None = None, **channel: Any
    ) -> MailReport:
        usual = {
            "address": f"{service.address}/t0ken",
            "body": BODY,
            "mode": "live",
            "recipient": "{{ order.order_email }}",
        }
        rules = [
            NotificationRule(name="mail", when=EXPIRED),
            NotificationRule(
                name="post", when=EXPIRED, channel=HttpChannel.model_validate(usual | channel)
            ),
        ]
        ids = orders or list(tracktor.shop.order_ids)
        return notify_customers(credentials, ids, rules, mailer, dry_run=dry_run)

    return notify


@pytest.fixture
def customers(tracktor: Sandbox) -> dict[int, str]:
    return tracktor.shop.customers_to_write_to()


def posted_about(service: HttpService) -> list[int]:
    return [request.json["order_id"] for request in service.posted]


def test_email_and_channel_send_each_notice_once_on_one_scan(
    notify: Notify,
    service: HttpService,
    mail: MailServer,
    customers: dict[int, str],
    tracktor: Sandbox,
) -> None:
    calls = len(tracktor.calls)
    report = notify()
    assert report.calls == len(tracktor.calls) - calls
    assert sorted(written_to(mail)) == sorted(customers.values())
    assert sorted(posted_about(service)) == sorted(customers)
    assert {request.json["says"] for request in service.posted} == {"Tracking Expired"}
    assert sorted(report.sent) == sorted(customers)
    assert len(report.cases) == 2 * len(report.affected)

    again = notify()
    assert sorted(again.already_told) == sorted(customers)
    assert not again.sent
    assert len(service.posted) == len(mail.messages) == len(customers)


def test_an_unconfirmed_post_is_repeated_with_its_key_and_without_later_parcels(
    service: HttpService, ledger: NotificationLedger
) -> None:
    parcels = "{{ conditions | map(attribute='parcel.fulfillment_id') | list | tojson }}"
    body = f'{{"key": "{{{{ key }}}}", "parcels": {parcels}}}'
    channel = HttpChannel.model_validate(
        {"address": service.address, "body": body, "mode": "live", "idempotency_header": "Key"}
    )
    rules = [NotificationRule(name="news", when=["exception:all"], channel=channel)]

    def notify_about(*parcels: dict[str, Any], reply: Instead | None = None) -> None:
        server.orders = {
            1: order(1, *(one | {"order_id": 1, "order_name": "#1"} for one in parcels))
        }
        service.every = {1: reply} if reply else {}
        with suppress(IncompleteRun):
            notify_customers(server.credentials, [1], rules, ledger=ledger)

    with OrderServer() as server:
        failed = Instead(500, taken=True)
        notify_about(expired(7), expired(8), reply=failed)
        # parcel 8 has moved on, parcel 9 is new
        notify_about(expired(7), parcel(8), expired(9), reply=failed)
        notify_about(expired(7), parcel(8), expired(9), expired(10), reply=Instead(503))
        for _ in range(2):
            notify_about(expired(7), parcel(8), expired(9), expired(10))
    posts = [(request.json["key"], request.json["parcels"]) for request in service.posted]
    assert [parcels for _, parcels in posts] == [
        [70_007, 70_008],
        [70_007],
        [70_009],
        [70_007],
        [70_009],
        [70_010],
    ]
    keys = [key for key, _ in posts]
    assert keys[0] == keys[1] == keys[3]
    assert keys[2] == keys[4]
    assert len(set(keys)) == 3
    assert {notice.state for notice in ledger.told([1])} == {NoticeState.SENT}


def test_a_dry_run_checks_the_mail_login_and_the_services_host(
    tracktor: Sandbox, credentials: TracktorCredentials, ledger: NotificationLedger
) -> None:
    channel = HttpChannel(address=SecretStr("http://127.0.0.1:9/t0ken"), body="{}")
    rules = [
        NotificationRule(name="mail", when=EXPIRED),
        NotificationRule(name="post", when=EXPIRED, channel=channel),
    ]
    ids = list(tracktor.shop.order_ids)
    with MailServer(login=("shop", "right")) as mail:
        wrong = {"username": "shop", "password": "wr0ng", "mode": "dry_run", "ledger": ledger}
        report = notify_customers(credentials, ids, rules, mailer_of(mail, **wrong))
    notes = " ".join(report.notes)
    assert "A run that sends would stop: the mail server cannot be used: the login failed" in notes
    assert "A run that sends would stop: http://127.0.0.1:9 does not answer" in notes
    assert "wr0ng" not in notes


def test_orders_read_again_by_each_channel_are_counted(
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    mailer: Mailer,
    service: HttpService,
    customers: dict[int, str],
) -> None:
    body = {"address": service.address, "body": BODY, "mode": "live"}
    channel = HttpChannel.model_validate(body)
    rules = [
        NotificationRule(name="mail", when=EXPIRED),
        NotificationRule(name="post", when=EXPIRED, channel=channel),
    ]
    ids = list(tracktor.shop.order_ids)
    reading = ReadingOptions(read_again_after_minutes=1e-9)
    tracktor.reset_calls()
    report = notify_customers(credentials, ids, rules, mailer, reading=reading)
    assert set(report.sent) >= set(customers)
    assert report.calls == len(tracktor.calls)
    again = [rule.model_copy(update={"name": f"{rule.name}-again"}) for rule in rules]
    parts: dict[str, Any] = {"announce": frozenset({"exception:all"}), "digest": TeamDigest()}
    tracktor.reset_calls()
    options = WatchOptions(ledger=mailer.ledger)
    watched = watch_shop(credentials, ids, again, mailer, **parts, options=options, reading=reading)
    assert watched.counts["calls"] == watched.calls == len(tracktor.calls)
    assert watched.calls > watched.parts["digest"].calls


def test_a_failing_channel_defers_its_notices_and_stops_no_other_channel(
    notify: Notify, service: HttpService, mail: MailServer, customers: dict[int, str]
) -> None:
    service.status = 401
    with pytest.raises(IncompleteRun, match=r"cannot be used.*401.*Check headers") as failed:
        notify()
    report = failed.value.report
    assert isinstance(report, MailReport)
    assert sorted(report.sent) == sorted(report.deferred) == sorted(customers)
    assert len(service.posted) == 1

    with pytest.raises(IncompleteRun, match="does not answer") as failed:
        notify(address="http://127.0.0.1:9/t0ken")
    assert "t0ken" not in str(failed.value)

    # the service rejects every body
    service.status, service.answer = 400, {"message": "Invalid request"}
    with pytest.raises(IncompleteRun, match="Invalid request") as failed:
        notify()
    assert sorted(failed.value.report.deferred) == sorted(customers)

    service.status = 200
    assert sorted(notify().sent) == sorted(customers)
    assert len(set(posted_about(service))) == len(mail.messages) == len(customers)


def test_a_single_refused_post_is_deferred_although_an_email_was_sent(
    notify: Notify, service: HttpService, customers: dict[int, str]
) -> None:
    one, *_ = customers
    service.status = 400
    for _ in range(2):
        with pytest.raises(IncompleteRun) as failed:
            notify(orders=[one])
        assert failed.value.report.deferred == (one,)
    service.status = 200
    assert notify(orders=[one]).sent == (one,)


def test_a_single_refused_post_is_given_up_if_the_channel_accepted_others(
    notify: Notify, service: HttpService, customers: dict[int, str]
) -> None:
    first, *few, last = customers
    assert notify(orders=[first]).sent == (first,)
    service.status = 400
    for one in few:
        assert notify(orders=[one]).refused == (one,)
    again = notify(orders=few[:1])
    assert again.refused == (few[0],)
    assert posted_about(service).count(few[0]) == 1
    # after several refusals in a row, the service is at fault
    with pytest.raises(IncompleteRun, match="accepts no other message") as failed:
        notify(orders=[last])
    assert failed.value.report.deferred == (last,)
    service.status = 200
    assert notify(orders=[last]).sent == (last,)


def test_only_a_live_channel_posts_to_the_service_and_records_it(
    notify: Notify, service: HttpService, mail: MailServer, customers: dict[int, str]
) -> None:
    assert sorted(notify(dry_run=True).due) == sorted(customers)
    assert not mail.messages
    dry = notify(mode="dry_run")
    assert sorted(dry.sent) == sorted(customers)
    assert len(mail.messages) == len(customers)
    with HttpService().serving() as rehearsal:
        report = notify(mode="rehearsal", rehearsal_address=rehearsal.address)
    assert sorted(report.rehearsed) == sorted(customers)
    assert len(rehearsal.posted) == len(customers)
    assert not service.posted
    notify()
    assert len(service.posted) == len(mail.messages) == len(customers)


def test_orders_without_a_recipient_are_reported_and_not_posted(
    notify: Notify, service: HttpService, customers: dict[int, str]
) -> None:
    recipient = "{{ order.order_email if order.order_id % 2 else '' }}"
    report = notify(recipient=recipient)
    assert posted_about(service) == [order_id for order_id in customers if order_id % 2]
    assert set(report.no_address) >= {order_id for order_id in customers if not order_id % 2}


def test_a_channel_without_a_recipient_gets_orders_without_an_email_address(
    notify: Notify, service: HttpService, customers: dict[int, str]
) -> None:
    report = notify(recipient="")
    assert sorted(posted_about(service)) == sorted(report.affected)
    assert len(report.affected) > len(customers)


def test_a_channels_recipient_gets_a_limited_number_of_messages_a_day(
    notify: Notify, service: HttpService, ledger: NotificationLedger
) -> None:
    with pytest.raises(IncompleteRun, match="has had 3 messages today"):
        notify(recipient="the same for all")
    assert len(service.posted) == ledger.messages_a_day


def test_a_gateway_timeout_of_the_service_leaves_notices_uncertain(
    notify: Notify, service: HttpService, customers: dict[int, str], ledger: NotificationLedger
) -> None:
    service.status = 504
    with pytest.raises(IncompleteRun, match="may have been accepted") as failed:
        notify()
    posted = posted_about(service)
    assert set(failed.value.report.uncertain) == set(posted)
    assert {notice.key.order_id for notice in ledger.uncertain(older_than=timedelta(0))} == set(
        posted
    )
    service.status = 200
    with pytest.raises(IncompleteRun):
        notify()
    assert sorted(posted_about(service)) == sorted(customers)


@pytest.fixture
def sms(service: HttpService) -> NotificationRule:
    """The only rule of a shop that sends no emails."""
    channel = HttpChannel.model_validate(
        {"address": service.address, "body": BODY, "recipient": "{{ order.order_email }}"}
    )
    return NotificationRule(name="sms", when=EXPIRED, channel=channel)


def live(rule: NotificationRule) -> NotificationRule:
    assert rule.channel is not None
    channel = rule.channel.model_copy(update={"mode": Mode.LIVE})
    return rule.model_copy(update={"channel": channel})


def test_channel_rules_need_no_mailer_and_the_channels_mode_decides(
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    service: HttpService,
    customers: dict[int, str],
    sms: NotificationRule,
    ledger: NotificationLedger,
) -> None:
    ids = list(tracktor.shop.order_ids)
    shop: dict[str, Any] = {"credentials": credentials, "orders": ids, "ledger": ledger}
    dry = notify_customers(**shop, rules=[sms])
    assert dry.dry_run
    assert sorted(dry.due) == sorted(customers)
    assert not service.posted
    assert sorted(notify_customers(**shop, rules=[live(sms)]).sent) == sorted(customers)
    assert {notice.key.order_id for notice in ledger.told(tracktor.shop.order_ids)} == set(
        customers
    )
    options = WatchOptions(ledger=ledger)
    watched = watch_shop(credentials, ids, rules=[live(sms)], options=options)
    assert watched.customers
    assert sorted(watched.customers.already_told) == sorted(customers)
    assert len(service.posted) == len(customers)


def test_channel_rules_without_a_ledger_use_the_shared_one(
    credentials: TracktorCredentials,
    service: HttpService,
    customers: dict[int, str],
    sms: NotificationRule,
    ledger: NotificationLedger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prefect_tracktor.saved_blocks.SHARED", "of-sms")
    ledger.save("of-sms", overwrite=True)
    notify_customers(credentials, list(customers), [live(sms)])
    assert {notice.key.order_id for notice in ledger.told(list(customers))} == set(customers)


def test_an_email_rule_without_a_mailer_is_refused_by_name(
    credentials: TracktorCredentials, sms: NotificationRule, tracktor: Sandbox
) -> None:
    rules = [sms, NotificationRule(name="mail", when=EXPIRED)]
    tracktor.reset_calls()
    for flow in (notify_customers, watch_shop):
        with pytest.raises(InvalidInput, match=r"rules: mail would send emails.*give mailer, or"):
            flow(credentials, [1], rules=rules)
    assert not tracktor.calls
