"""Plan of webhooks: creates the wanted ones, and keeps those of other apps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor import WantedWebhook, Webhook, WebhookSubscription, WebhookTopic
from prefect_tracktor.validation import host_of
from prefect_tracktor.webhooks.subscriptions import WebhookPlan, plan_webhooks

OURS, OURS_TOO, THEIRS = (
    "https://shop.example/hook",
    "https://shop.example/old",
    "https://other.example/hook",
)

topics = st.sampled_from(["order/all", "fulfillment/all", "fulfillment/delivered"])
addresses = st.sampled_from([OURS, OURS_TOO, THEIRS, "https://shop.example:8443/hook"])
wanted_webhooks = st.lists(st.builds(WantedWebhook, topic=topics, address=addresses), max_size=6)
accounts = st.lists(st.tuples(topics | st.just("order/ordered"), addresses), max_size=12).map(
    lambda entries: [
        Webhook(id=number, topic=topic, address=address)
        for number, (topic, address) in enumerate(entries, start=1)
    ]
)


def applied(plan: WebhookPlan, account: list[Webhook]) -> list[Webhook]:
    removed = {webhook.id for webhook in plan.remove}
    made = [
        Webhook(id=number, topic=wanted.topic, address=wanted.address.get_secret_value())
        for number, wanted in enumerate(plan.create, start=100)
    ]
    return [webhook for webhook in account if webhook.id not in removed] + made


@given(wanted_webhooks, accounts, st.booleans())
def test_an_applied_webhook_plan_leaves_nothing_to_change(
    wanted: list[WantedWebhook], account: list[Webhook], prune: bool
) -> None:
    after = applied(plan_webhooks(wanted, account, prune=prune), account)
    assert not plan_webhooks(wanted, after, prune=prune).changes
    pairs = [(webhook.topic, webhook.address) for webhook in after]
    for webhook in wanted:
        assert pairs.count((webhook.topic, webhook.address.get_secret_value())) == 1


@given(wanted_webhooks, accounts, st.booleans())
def test_webhooks_of_other_hosts_are_never_removed(
    wanted: list[WantedWebhook], account: list[Webhook], prune: bool
) -> None:
    own = {host_of(webhook.address.get_secret_value()) for webhook in wanted}
    plan = plan_webhooks(wanted, account, prune=prune)
    assert all(host_of(webhook.address) in own for webhook in plan.remove)


@given(wanted_webhooks, accounts, st.booleans())
def test_each_existing_webhook_is_in_one_list_of_the_plan(
    wanted: list[WantedWebhook], account: list[Webhook], prune: bool
) -> None:
    plan = plan_webhooks(wanted, account, prune=prune)
    places = [*plan.remove, *plan.kept, *plan.surplus, *plan.foreign]
    assert sorted(webhook.id for webhook in places) == [webhook.id for webhook in account]


@given(wanted_webhooks, accounts)
def test_only_duplicate_webhooks_are_removed_without_prune(
    wanted: list[WantedWebhook], account: list[Webhook]
) -> None:
    plan = plan_webhooks(wanted, account)
    kept = {(webhook.topic, webhook.address): webhook.id for webhook in plan.kept}
    order = [webhook.id for webhook in account]
    assert all(
        order.index(kept[webhook.topic, webhook.address]) < order.index(webhook.id)
        for webhook in plan.remove
    )


@pytest.mark.parametrize(
    "address",
    [
        "HTTPS://SHOP.example/hook",
        "HTTPS://shop.example:443/hook",
        f" {OURS} ",
        f"{OURS}/",
        OURS.upper(),
    ],
)
def test_webhook_addresses_are_compared_in_normalized_form(address: str) -> None:
    there = Webhook(id=1, topic="order/all", address=address)
    assert not plan_webhooks([WantedWebhook(topic="order/all", address=OURS)], [there]).changes


def test_an_international_host_name_equals_its_punycode_form() -> None:
    there = Webhook(id=1, topic="order/all", address="https://xn--mnchen-3ya.example/hook")
    wanted = [WantedWebhook(topic="order/all", address="https://münchen.example/hook")]
    assert not plan_webhooks(wanted, [there]).changes


def test_a_webhook_created_by_this_run_is_not_pruned() -> None:
    wanted = WantedWebhook(topic="order/all", address=OURS)
    listed = Webhook(id=7, topic="order/all", address="https://shop.example/hook#1")
    assert not plan_webhooks([wanted], [listed], prune=True, made={7: wanted}).changes


@pytest.mark.parametrize(
    "address", ["https://shop.example/hooks", "https://shop.example/hook?a=1", "no address"]
)
def test_a_webhook_with_another_path_or_query_is_another_webhook(address: str) -> None:
    there = Webhook(id=1, topic="order/all", address=address)
    assert len(plan_webhooks([WantedWebhook(topic="order/all", address=OURS)], [there]).create) == 1


@pytest.mark.parametrize(
    "address", ["http://shop.example/hook", "ftp://shop.example", "https://me:pw@shop.example/", ""]
)
def test_an_unsafe_webhook_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WantedWebhook(topic="order/all", address=address)
    assert "pw" not in str(caught.value)
    with pytest.raises(ValidationError):
        WebhookSubscription(address=address)


def test_a_loopback_webhook_address_may_use_http() -> None:
    assert (
        WantedWebhook(topic="order/all", address="http://127.0.0.1:8080/hook").topic
        is WebhookTopic.ORDER_ALL
    )


def test_an_undocumented_webhook_topic_is_refused() -> None:
    with pytest.raises(ValidationError):
        WantedWebhook(topic="order/ordered", address=OURS)


def test_the_repr_of_a_webhook_hides_its_address() -> None:
    secret = "https://shop.example/hook/s3cret"
    shown = repr(
        [WantedWebhook(topic="order/all", address=secret), WebhookSubscription(address=secret)]
    )
    assert "s3cret" not in shown


@given(st.text(max_size=30))
def test_host_of_any_text_is_empty_or_has_a_scheme(text: str) -> None:
    assert host_of(text) == "" or "://" in host_of(text)
