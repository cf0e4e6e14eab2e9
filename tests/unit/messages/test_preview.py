"""Previews of messages without personal data."""

import re
from typing import Any

import pytest

from prefect_tracktor.errors import TemplateError
from prefect_tracktor.messages.preview import made_up_order, masked
from prefect_tracktor.messages.template import Brand, EmailTemplate, ShopInfo, Words
from prefect_tracktor.messages.words import KINDS, LANGUAGES, About
from prefect_tracktor.models import Order, OrderFacts

SECRETS = (
    *("Grace", "Hopper", "grace@navy.example", "grace%40navy", "navy", "555", "1Z999AA10123456784"),
    *("Arlington", "post.example"),
)


def real_order() -> Order:
    parcel = {
        "shop_url": "shop.example",
        "tracking_number": "1Z999AA10123456784",
        "tracking_url": "https://post.example/1Z999AA10123456784",
        "shipment_status": "in_transit",
        "line_items": [{"name": "Mug for grace@navy.example", "quantity": 3}],
        "destination": "Arlington",
    }
    return Order.model_validate(
        {
            "order_id": 77,
            "order_name": "#1077",
            "order_email": "grace@navy.example",
            "order_phone": "+1 202 555 0143",
            "customer_first_name": "Grace",
            "customer_last_name": "Hopper",
            "customer_full_name": "Grace Hopper",
            "shipping_address": "1 Arlington Road",
            "total_price": "10",
            "fulfillments": [parcel | {"fulfillment_id": number} for number in (1, 2)],
        }
    ).with_facts(OrderFacts(tags=frozenset({"Arlington"}), shipping_method="To Arlington"))


ALL_NAMES = """{{ order.customer_full_name }} {{ order.order_email }} {{ order.order_phone }}
{{ order }} {{ order.fulfillments }} {{ fulfillments }} {{ tracking_page }}
{% for parcel in fulfillments %}{{ parcel.tracking_url }}{{ parcel.tracking_number }}{% endfor %}
"""


@pytest.mark.parametrize("template", [EmailTemplate(), EmailTemplate(text=ALL_NAMES)])
@pytest.mark.parametrize("about", KINDS)
def test_a_preview_of_a_real_order_has_no_personal_data(
    about: About, template: EmailTemplate
) -> None:
    shop = ShopInfo("Your Shop", "https://shop.example")
    order = real_order()
    email = template.preview(order, order.fulfillments[:1], shop=shop, about=about)
    everything = email.subject + email.text + email.html
    assert [secret for secret in SECRETS if secret in everything] == []
    assert "#1077" in email.subject
    assert "Hello <bdi>G***</bdi>" in email.html
    assert "***6784" in email.html
    assert "3 \N{MULTIPLICATION SIGN} <bdi>Mug for [e-mail]" in email.html
    assert email.subject.startswith("Part of" if about != "all_delivered" else "Your order")


def test_an_order_without_details_can_be_masked() -> None:
    bare = Order.model_validate({"order_id": 5, "fulfillments": [{"fulfillment_id": 7}]})
    assert EmailTemplate().preview(bare).text
    assert masked(bare).order_email in (None, "")


def test_masking_keeps_the_fields_that_select_a_message() -> None:
    order, shown = real_order(), masked(real_order())
    for field in ("order_id", "order_name", "total_price", "statuses", "exception_statuses"):
        assert getattr(shown, field) == getattr(order, field)
    for one, other in zip(order.fulfillments, shown.fulfillments, strict=True):
        assert one.current_status == other.current_status
        assert one.latest_status == other.latest_status


def test_a_preview_is_in_the_real_customers_language() -> None:
    french = real_order().with_facts(OrderFacts(locale="fr", tags=frozenset({"Arlington"})))
    assert EmailTemplate().preview(french).subject.startswith("Votre commande")


@pytest.mark.parametrize("about", KINDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_made_up_order_matches_the_kind_of_message(about: About, language: str) -> None:
    order = made_up_order(about)
    email = EmailTemplate().preview(about=about, language=language)
    assert order.is_delivered is (about in {"delivered", "all_delivered"})
    assert "#1001" in email.subject


@pytest.mark.parametrize(
    "words",
    [
        {"about": "delivered", "closing": "{{ fulfillments[0].carrier.name }}"},
        {"language": "es", "headline": "{{ fulfillments[0].line_items[0].name }}"},
    ],
)
def test_words_that_fail_for_sparse_orders_do_not_verify(words: dict[str, Any]) -> None:
    with pytest.raises(TemplateError, match="for order 1002"):
        EmailTemplate(words=[Words.model_validate(words)]).verify()


@pytest.mark.parametrize("about", KINDS)
def test_french_messages_have_a_space_before_colons(about: About) -> None:
    email = EmailTemplate().preview(about=about, language="fr")
    assert re.findall(r".*\w[:;?!](?=\s)", email.text) == []
    assert "mise à jour:" not in email.html


def test_the_shipped_words_verify() -> None:
    EmailTemplate(brand=Brand(currency="EUR")).verify()
