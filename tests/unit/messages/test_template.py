"""Email templates: default messages, validation, limits, sandbox, links."""

import pickle
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor.errors import TemplateError
from prefect_tracktor.messages.template import EmailTemplate, RenderedEmail, ShopInfo
from prefect_tracktor.messages.values import tracking_page_address, web_address
from prefect_tracktor.models import Order

SHOP = ShopInfo(name="Your Shop", url="shop.example")
EMAIL = "ada@example.com"

# pieces, since text() makes no half surrogate pairs
wild = st.lists(
    st.one_of(
        st.sampled_from("\r\n\0\t\x0b\x1c\x85\u2028\ud800\udfff'\"<>&{}%"), st.text(max_size=5)
    ),
    min_size=1,
    max_size=12,
).map("".join)


def order(**values: Any) -> Order:
    parcels = [
        {
            "fulfillment_id": 7,
            "exception_status": "expired",
            "shop_url": "shop.example",
            "carrier": {"slug": "ups", "name": "UPS"},
            "tracking_number": "1Z999",
            "tracking_url": "https://carrier.example/?n=1Z999&x=1",
            "line_items": [{"name": "Blue mug", "quantity": 2}, {"name": "Card"}],
        },
        {"fulfillment_id": 8, "exception_status": "lost in my own words"},
        {"fulfillment_id": 9, "shipment_status": "delivered"},
    ]
    known = {"order_id": 1001, "order_name": "#1001", "order_email": EMAIL}
    return Order.model_validate(
        known | {"customer_first_name": "Ada", "fulfillments": parcels} | values
    )


def rendered(
    given_order: Order | None = None,
    *,
    parcels: slice = slice(2),
    shop: ShopInfo = SHOP,
    **templates: str,
) -> RenderedEmail:
    given_order = given_order or order()
    return EmailTemplate(**templates).render(
        given_order, given_order.fulfillments[parcels], shop=shop, about="expired"
    )


class TestDefaultMessage:
    def test_both_parts_show_all_details(self) -> None:
        email = rendered()
        assert email.subject == "Part of your order #1001: the tracking has stopped"
        for part in (email.text, email.html):
            for words in (
                "Part of your order #1001: the tracking has stopped",
                "This part of your order may have arrived",
                "UPS",
                "1Z999",
                "2 \N{MULTIPLICATION SIGN} ",
                "Blue mug",
                "Card",
            ):
                assert words in part
            assert "None" not in part
            assert "Kind regards," in part
        assert "Hello Ada,\n\nThis part" in email.text
        assert "https://carrier.example/?n=1Z999&x=1" in email.text
        assert 'href="https://carrier.example/?n=1Z999&amp;x=1"' in email.html
        page = "https://shop.example/apps/tracktor/track?order=%231001&email=ada%40example.com"
        assert page in email.text
        assert page.replace("&", "&amp;") in email.html

    def test_a_message_about_all_parcels_names_the_whole_order(self) -> None:
        email = rendered(parcels=slice(None))
        assert "Your order #1001: the tracking has stopped\n" in email.text
        assert "art of" not in email.html

    def test_a_message_about_one_parcel_is_in_the_singular(self) -> None:
        assert "any information on this parcel." in rendered(parcels=slice(1)).text

    def test_a_message_without_details_reads_well(self) -> None:
        bare = Order.model_validate({"order_id": 5, "fulfillments": [{"fulfillment_id": 7}]})
        email = rendered(bare, shop=ShopInfo("Your Shop"))
        assert email.subject == "Your order: the tracking has stopped"
        assert "\n\nHello,\n\nYour order may have arrived" in email.text
        assert "* Parcel\n\nHas everything arrived?" in email.text
        for part in (email.text, email.html):
            assert "None" not in part
            assert "http" not in part
            assert "mailto:" not in part

    def test_a_message_loads_nothing_from_the_web(self) -> None:
        html = rendered().html
        assert not any(word in html for word in ("<img", "src=", "url(", "<link", "@import"))

    def test_texts_cannot_become_markup_or_extra_lines(self) -> None:
        hostile = order(
            customer_first_name='</p><script>alert("x")</script>\r\n\r\nYour account is closed.',
            fulfillments=[
                {
                    "fulfillment_id": 7,
                    "carrier": {"name": "<b>UPS\u2028Kind regards"},
                    "tracking_number": "1Z\n\nCall +1 555",
                    "tracking_url": "javascript:alert(1)",
                    "line_items": [{"name": "Mug\n\n<i>Kind regards"}],
                }
            ],
        )
        email = rendered(hostile)
        assert "<script" not in email.html
        assert "<b>" not in email.html
        assert "<i>" not in email.html
        for part in (email.text, email.html):
            assert "javascript:" not in part
        lines = email.text.splitlines()
        assert not any(line.startswith(("Your account", "Call")) for line in lines)
        assert sum(line.lstrip().startswith("Kind regards") for line in lines) == 1

    @given(name=wild, item=wild, number=wild, order_name=wild, shop=wild)
    def test_any_text_can_be_rendered(
        self, name: str, item: str, number: str, order_name: str, shop: str
    ) -> None:
        email = rendered(
            order(
                customer_first_name=name,
                order_name=order_name,
                fulfillments=[
                    {"fulfillment_id": 7, "tracking_number": number, "line_items": [{"name": item}]}
                ],
            ),
            shop=ShopInfo(shop, shop),
        )
        for part in (email.subject, email.text, email.html):
            part.encode("utf-8")
            assert "\0" not in part
            assert "\r" not in part
        assert len(email.subject.splitlines()) == 1
        plain = rendered(order(fulfillments=[{"fulfillment_id": 7}])).html
        for mark in ("<p", "<h1", "<script", "<bdi"):
            assert email.html.count(mark) <= plain.count(mark) + 1


class TestDefaultStatusMessage:
    @pytest.mark.parametrize(
        ("status", "words"),
        [
            ("delivered", "has been delivered"),
            ("out_for_delivery", "is out for delivery"),
            ("in_transit", "is on its way"),
        ],
    )
    @pytest.mark.parametrize(
        ("others", "is_part"),
        [
            ([], False),
            ([{"fulfillment_id": 8, "shipment_status": "in_transit"}], True),
            ([{"fulfillment_id": 8, "shipment_status": "delivered"}], True),
        ],
    )
    @pytest.mark.parametrize("sent", ["fulfilled", "partial"])
    def test_every_place_names_the_part_of_the_order(
        self, status: str, words: str, others: list[dict[str, Any]], is_part: bool, sent: str
    ) -> None:
        parcel = {"fulfillment_id": 7, "shipment_status": status, "fulfillment_status": sent}
        given_order = order(fulfillments=[parcel, *others])
        email = EmailTemplate().render(given_order, given_order.fulfillments[:1], shop=SHOP)
        is_part = is_part or sent == "partial"
        whose = "Part of your order" if is_part else "Your order"
        assert email.subject == f"{whose} #1001 {words}"
        for place in ("<title>", 'font-weight:bold;">'):
            assert f"{place}{whose} #1001 {words}</" in email.html
        assert email.text.startswith(f"{whose} #1001 {words}\n")
        opening = "This part of your order" if is_part else "\nYour order"
        assert opening in email.text.partition("Hello Ada,")[2]
        assert ("art of" in email.html) is ("art of" in email.text) is is_part

    def test_a_custom_status_keeps_its_name(self) -> None:
        sewing = order(fulfillments=[{"fulfillment_id": 7, "shipment_status": "Being sewn"}])
        email = EmailTemplate().render(sewing, sewing.fulfillments, shop=SHOP)
        assert email.subject == "Your order #1001: Being sewn"
        assert "[x] Ordered   [ ] Shipped" in email.text

    def test_a_custom_status_before_shipping_keeps_its_name(self) -> None:
        sewing = order(statuses=["Being sewn"], fulfillments=[])
        email = EmailTemplate().render(sewing, [], shop=SHOP)
        assert email.subject == "Your order #1001: Being sewn"
        unclear = order(statuses=["Being sewn", "Being cut"], fulfillments=[])
        assert "Being" not in EmailTemplate().render(unclear, [], shop=SHOP).text

    def test_a_custom_status_is_not_mistaken_for_a_label(self) -> None:
        odd = order(fulfillments=[{"fulfillment_id": 7, "shipment_status": "total"}])
        email = EmailTemplate().render(odd, odd.fulfillments, shop=SHOP)
        assert email.subject == "Your order #1001: total"

    def test_parcels_in_different_statuses_get_no_status_name(self) -> None:
        parcels = [
            {"fulfillment_id": n, "shipment_status": status}
            for n, status in enumerate(["in_transit", "delivered"], start=7)
        ]
        mixed = order(fulfillments=parcels)
        email = EmailTemplate().render(mixed, mixed.fulfillments, shop=SHOP)
        assert "delivered" not in email.subject
        assert "[x] Shipped   [ ] Out for delivery" in email.text


class TestSubject:
    def test_a_subject_is_one_line_of_bounded_length(self) -> None:
        email = rendered(
            order(order_name="1\r\nBcc: eve@example.com\0 " + "x" * 500), parcels=slice(None)
        )
        assert email.subject.startswith("Your order 1 Bcc: eve@example.com xx")
        assert len(email.subject) == 200
        assert email.subject.endswith("…")

    @pytest.mark.parametrize("field", ["subject", "text", "html"])
    def test_an_empty_part_is_refused(self, field: str) -> None:
        template = EmailTemplate.model_validate({field: "{{ order.order_phone }} "})
        problem = f"{field} fails for order 1001: its result is empty"
        with pytest.raises(TemplateError, match=problem):
            template.render(order(), (), shop=SHOP)


class TestValidation:
    @pytest.mark.parametrize("field", ["subject", "text", "html"])
    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            ("one\n{% if %}", "{field}, line 2: Expected an expression"),
            ("one\n\n{{ order.order_name | shout }}", "{field}, line 3: No filter named 'shout'"),
            ("{{ ordr.order_name }}", "{field}: unknown name ordr; a template may use order, "),
            ("{% include 'secrets' %}", "{field}: a template stands alone"),
        ],
    )
    def test_an_invalid_template_is_refused_with_the_place(
        self, field: str, source: str, problem: str
    ) -> None:
        with pytest.raises(ValidationError) as refused:
            EmailTemplate.model_validate({field: source})
        [error] = refused.value.errors()
        assert error["loc"] == (field,)
        assert problem.format(field=field) in error["msg"]

    def test_an_assigned_template_is_validated(self) -> None:
        template = EmailTemplate()
        with pytest.raises(ValidationError, match="unknown name traking_page"):
            template.text = "See {{ traking_page }}"
        assert template == EmailTemplate()

    def test_names_defined_in_the_template_are_known(self) -> None:
        source = "{% set n = 0 %}{% for i in range(2) %}{{ i }}{{ n }}{% endfor %}"
        assert rendered(text=source).text == "0010"

    @pytest.mark.parametrize("name", ["namespace", "joiner", "cycler", "lipsum", "dict"])
    def test_jinjas_helper_functions_are_unknown_names(self, name: str) -> None:
        with pytest.raises(ValidationError, match=f"unknown name {name}"):
            EmailTemplate(text=f"{{{{ {name} }}}}")

    @pytest.mark.parametrize(
        "source",
        [
            "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
            "{% for i in [1] %}" * 50 + "{% endfor %}" * 50,
        ],
    )
    def test_a_template_nested_too_deeply_is_refused(self, source: str) -> None:
        with pytest.raises(ValidationError, match="nested too deeply"):
            EmailTemplate(text=source)


class TestRendering:
    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            ("\n{{ order.emial }}", "line 2: unknown name emial"),
            ("{{ fulfillments[0].carrier.nmae }}", "line 1: unknown name nmae"),
            ("\n\n{{ 1 / 0 }}", "line 3: ZeroDivisionError"),
            ("{{ order.order_name() }}", "line 1: TypeError"),
            ("{{ {}[order.order_email] }}", "line 1: unknown name."),
            ("{{ {}[order.customer_first_name] }}", "line 1: unknown name."),
        ],
    )
    def test_an_error_names_line_and_order_but_no_customer(self, source: str, problem: str) -> None:
        with pytest.raises(TemplateError) as failed:
            rendered(text=source)
        assert f"text fails for order 1001: {problem}" in str(failed.value)
        assert "example.com" not in str(failed.value)
        assert "Ada" not in str(failed.value)
        assert failed.value.__suppress_context__

    @pytest.mark.parametrize(
        "source",
        [
            "{{ 'x' * 2000000 }}",
            "{% for i in range(9999)%}{%for i in range(9999) %}{{ 'x' * 999 }}{%endfor%}{%endfor%}",
        ],
    )
    def test_a_template_cannot_fill_the_memory(self, source: str) -> None:
        with pytest.raises(TemplateError, match="html fails for order 1001: line 1: it is longer"):
            rendered(html=source)

    @pytest.mark.parametrize(
        "source",
        [
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}x",
            "{% for i in range(999) %}{% for j in range(99999) if 0 %}{% endfor %}{% endfor %}x",
            "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n }}{% endmacro %}{{ f(60) }}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% macro f() %}" + "y" * 5000 + "{% endmacro %}"
            "{% for i in range(99999) %}{% set x = f() %}{% endfor %}x",
            "{% macro f() %}{{ caller() }}{% endmacro %}{% for i in range(99999) %}{% set x %}"
            "{% call f() %}" + "y" * 5000 + "{% endcall %}{% endset %}{% endfor %}x",
            "{% set r = range(99999) %}{%for i in r%}{%for j in r if 0%}{%endfor%}{%endfor%}x",
            "{% for i in range(9) recursive %}{{ loop(range(9)) if loop.depth < 50 }}{% endfor %}x",
            "{% set x %}{% for i in range(99999) %}" + "y" * 5000 + "{% endfor %}{% endset %}x",
            "{% set a = 'x' * 99 %}" + "{% set a = a ~ a %}" * 40 + "x",
            "{% set a = 'x' * 99 %}" + "{% set a = a + a %}" * 40 + "x",
            "{% set a = [1] %}" + "{% set a = [a, a] %}" * 60 + "{{ a }}",
            "{% set a = 9 %}" + "{% set a = a * a %}" * 60 + "x",
            "{{ 9 ** (9 ** 9) }}",
            "{{ 'x' * 10 ** 12 }}",
            "{{ [0] * 10 ** 12 }}",
            "{{ '%1000000000d' % 1 }}",
            "{{ '%*d' % (1000000000, 1) }}",
            "{{ '%01000000000d'|format(1) }}",
            "{{ 'x'|center(1000000000) }}",
            "{{ 'x'|indent(width=1000000000, first=true) }}",
            "{{ [1]|batch(1000000000, 'x')|list }}",
            "{{ [1]|slice(1000000000)|list }}",
            "{{ 1.5|round(1000000000, 'ceil') }}",
            "{{ [1]|tojson(indent=1000000000) }}",
            "{{ range(99999)|map('center', 999)|list }}",
            "{% set a = 'x' * 99999 %}{{ a|replace('x', a) }}",
            "{% set a = 'x' * 99999 %}{{ a.replace('x', a) }}",
            "{% set a = 'x' * 99999 %}{{ range(99999)|join(a) }}",
            "{% set a = 'x' * 99999 %}{{ ([a] * 99999)|join }}",
            "{{ 'x'.ljust(1000000000) }}",
            "{{ 'x'.expandtabs(1000000000) }}",
            "{{ '{:1000000000}'.format(1) }}",
            "{% filter center(1000000000) %}x{% endfilter %}",
            "{{ ('a' * 900000)|wordwrap(1) }}",
        ],
    )
    def test_an_endless_template_is_stopped(self, source: str) -> None:
        began = time.monotonic()
        with pytest.raises(TemplateError, match="text fails for order 1001: "):
            rendered(text=source)
        assert time.monotonic() - began < 60

    def test_a_long_message_is_not_mistaken_for_an_endless_one(self) -> None:
        source = (
            "{% for i in range(9999) %}{{ order.order_name ~ i }} {{ 'mug' | upper }}{% endfor %}"
        )
        assert rendered(text=source).text.endswith("#10019998 MUG")

    def test_large_ids_can_be_printed(self) -> None:
        numbers = order(order_id=5000036797819)
        source = (
            "{{ order.order_id | tojson }} {{ '%s' | format(order.order_id) }} {{ order.order_id }}"
        )
        assert rendered(numbers, text=source).text == " ".join(["5000036797819"] * 3)

    def test_a_range_that_is_too_long_fails(self) -> None:
        with pytest.raises(TemplateError, match="OverflowError"):
            rendered(text="{% for i in range(999999999) %}{% endfor %}x")

    def test_an_unknown_value_prints_nothing(self) -> None:
        assert rendered(text="<{{ order.order_phone }}>").text == "<>"


class _SetsFlag:
    """Sets a flag when an instance is unpickled."""

    unpickled = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (_SetsFlag, "unpickled", True)


@pytest.mark.parametrize(
    "expression",
    [
        "order.parse_raw(order.order_name, proto='pickle', allow_pickle=True)",
        "order['parse_raw'](order.order_name, proto='pickle', allow_pickle=True)",
        "(order|attr('parse_raw'))(order.order_name, proto='pickle', allow_pickle=True)",
        "fulfillments[0].carrier.parse_file('/etc/hostname')",
        "order.model_config",
        "order.model_construct()",
        "'{0.model_config}'.format(order)",
        "order.__class__",
        "order.order_name.__class__.__mro__",
        "tracking_page.__init__.__globals__",
        "fulfillments[0].__dict__.update(x=1)",
        "shop.__class__",
        "range.__init__.__globals__",
    ],
)
def test_templates_can_only_read_data(expression: str) -> None:
    code = pickle.dumps(_SetsFlag(), protocol=0).decode("ascii")
    with pytest.raises(TemplateError, match="it uses something that templates may not use"):
        rendered(order(order_name=code), text=f"{{{{ {expression} }}}}")
    assert not _SetsFlag.unpickled


def test_the_pickle_attack_works_outside_the_sandbox() -> None:
    pickle.loads(pickle.dumps(_SetsFlag(), protocol=0))  # noqa: S301  # our own bytes
    assert _SetsFlag.unpickled
    _SetsFlag.unpickled = False


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("https://carrier.example/a?b=c#d", "https://carrier.example/a?b=c#d"),
        ("http://carrier.example", "http://carrier.example"),
        ("carrier.example/t", "https://carrier.example/t"),
        ("//carrier.example/t", "https://carrier.example/t"),
        ("https://user@carrier.example", ""),
        ("https://carrier.example:port/", ""),
        ("https://", ""),
        ("ftp://carrier.example", ""),
        ("javascript:alert(1)", ""),
        ("JavaScript:alert(1)//https://x", ""),
        ("java\nscript:alert(1)", ""),
        ("data:text/html,x", ""),
        ("https://carrier.example/ x", ""),
        ("https://[", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_only_web_addresses_become_links(given_url: str | None, expected: str) -> None:
    assert web_address(given_url) == expected


@pytest.mark.parametrize(
    ("shop_url", "base"),
    [
        ("shop.example", "https://shop.example"),
        ("https://shop.example/", "https://shop.example"),
        ("http://shop.example/en/?x=1#y", "http://shop.example/en"),
    ],
)
def test_the_tracking_page_address_is_encoded(shop_url: str, base: str) -> None:
    named = order(order_name="#1 &x=é", order_email="a+b@example.com")
    assert (
        tracking_page_address(shop_url, named)
        == f"{base}/apps/tracktor/track?order=%231%20%26x%3D%C3%A9&email=a%2Bb%40example.com"
    )


@pytest.mark.parametrize(
    ("shop_url", "unknown"),
    [
        ("", {}),
        (None, {}),
        ("javascript:alert(1)", {}),
        ("shop.example", {"order_name": None}),
        ("shop.example", {"order_email": None}),
    ],
)
def test_there_is_no_tracking_page_without_shop_order_and_email(
    shop_url: str | None, unknown: dict[str, None]
) -> None:
    assert tracking_page_address(shop_url, order(**unknown)) == ""
