"""Messages: brand, own words, language, and the frame in HTML and text."""

import re
from functools import partial
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_tracktor import InvalidInput
from prefect_tracktor.messages.rendering import contrast
from prefect_tracktor.messages.template import (
    Brand,
    EmailTemplate,
    RenderedEmail,
    ShopInfo,
    Words,
)
from prefect_tracktor.messages.words import KINDS, LANGUAGES, SENTENCES, About, shipped
from prefect_tracktor.models import Order, OrderFacts

SHOP = ShopInfo("Your Shop", "https://shop.example", "orders@shop.example")
FULL_BRAND = Brand(
    shop_name="Ada's Mugs",
    logo="https://shop.example/logo.png",
    color="#0b6e4f",
    contact="help@shop.example",
    address="1 Mill Lane\nCambridge",
    imprint="Registered in England 123\nhttps://shop.example/imprint",
    currency="EUR",
    time_zone="Europe/Berlin",
)
CLIPPED_BY_GMAIL_AT = 102_000  # Gmail


def order(parcels: int = 1, *, meant: int | None = None, **values: Any) -> Order:
    known: dict[str, Any] = {
        "order_id": 1,
        "order_name": "#1001",
        "order_email": "ada@example.com",
        "customer_first_name": "Ada",
        "total_price": "1234.5",
    }
    parcel = {
        "carrier": {"name": "Post"},
        "tracking_number": "1Z9",
        "tracking_url": "https://post.example/1Z9",
        "shipment_status": "in_transit",
        "latest_status": {"key": "in_transit", "datetime": "2026-01-31T23:30:00Z"},
        "line_items": [{"name": "Blue mug", "quantity": 2}],
    }
    listed = [parcel | {"fulfillment_id": number} for number in range(1, parcels + 1)]
    return Order.model_validate(known | {"fulfillments": listed} | values)


def rendered(
    given_order: Order | None = None, template: EmailTemplate | None = None, **options: Any
) -> RenderedEmail:
    given_order = given_order or order()
    parcels = options.pop("parcels", given_order.fulfillments)
    options = {"about": "expired"} | options
    return (template or EmailTemplate()).render(given_order, parcels, shop=SHOP, **options)


def in_locale(locale: str | None) -> Order:
    """Return an order whose customer has this language."""
    return order().with_facts(OrderFacts(locale=locale))


class TestShippedWords:
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_every_language_has_all_sentences_and_labels(self, language: str) -> None:
        words, english = shipped(language), shipped("en")
        assert words.keys() == english.keys() == {"labels", "any", *KINDS}
        for kind, sentences in english.items():
            assert words[kind].keys() == sentences.keys(), kind
            blank = {name for name, sentence in words[kind].items() if not sentence.strip()}
            assert blank == {name for name, sentence in sentences.items() if not sentence.strip()}

    @pytest.mark.parametrize("language", LANGUAGES)
    @pytest.mark.parametrize("about", KINDS)
    @pytest.mark.parametrize("is_part", [False, True])
    def test_subject_headline_and_text_name_the_part_of_an_order(
        self, language: str, about: About, is_part: bool
    ) -> None:
        labels = shipped(language)["labels"]
        two = order(2)
        email = rendered(
            two, parcels=two.fulfillments[: 1 if is_part else 2], about=about, language=language
        )
        part = is_part and about != "all_delivered"
        named = labels["part_of_your_order" if part else "your_order"] + " #1001"
        assert email.subject.startswith(named)
        for words in (email.text, email.html):
            assert named in words
            assert (labels["this_part"] in words) is part
            assert "{" not in re.sub(r"<style>.*?</style>", "", words, flags=re.DOTALL)

    def test_no_two_languages_have_the_same_sentences(self) -> None:
        for kind in ("labels", *KINDS):
            texts = [tuple(shipped(language)[kind].values()) for language in LANGUAGES]
            assert len(set(texts)) == len(texts)


class TestLanguage:
    @pytest.mark.parametrize(
        ("locale", "language"),
        [
            ("de", "de"),
            ("de-AT", "de"),
            ("FR_ca", "fr"),
            ("es", "es"),
            ("it", "en"),
            ("", "en"),
            (None, "en"),
        ],
    )
    def test_the_customers_language_is_used_if_it_has_words(
        self, locale: str | None, language: str
    ) -> None:
        assert f'<html lang="{language}"' in rendered(in_locale(locale)).html

    def test_the_shops_language_is_used_for_other_customers(self) -> None:
        shop = EmailTemplate(language="fr")
        assert rendered(template=shop).subject.startswith("Votre commande")
        assert rendered(in_locale("it"), shop).subject.startswith("Votre commande")
        assert rendered(in_locale("de"), shop).subject.startswith("Ihre Bestellung")

    def test_the_shops_language_is_used_if_customers_language_is_off(self) -> None:
        shop = EmailTemplate(language="fr", customers_language=False)
        assert rendered(in_locale("de"), shop).subject.startswith("Votre commande")

    def test_the_language_argument_overrides_the_customers_language(self) -> None:
        assert rendered(in_locale("de"), language="es").subject.startswith("Tu pedido")

    @pytest.mark.parametrize("language", ["it", "DE"])
    def test_a_language_without_words_is_refused(self, language: str) -> None:
        for make in (
            partial(rendered, language=language),
            partial(EmailTemplate().preview, language=language),
        ):
            with pytest.raises(InvalidInput, match=rf"no words in '{language}': use en, de"):
                make()

    def test_a_shops_language_without_words_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="language: there are no words in 'it': use en"):
            EmailTemplate(language="it")
        template = EmailTemplate(language="de")
        with pytest.raises(ValidationError, match="no words in 'it'"):
            template.language = "it"
        assert template.language == "de"

    def test_a_language_name_instead_of_a_code_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="must be the code of a language, such as en"):
            EmailTemplate(language="German (Germany)")


class TestOwnWords:
    def test_one_sentence_is_replaced_in_one_language(self) -> None:
        template = EmailTemplate(words=[Words(language="de", closing="Bis bald!")])
        german, english = (rendered(template=template, language=of) for of in ("de", "en"))
        plain = rendered(language="de")
        for part, before in ((german.text, plain.text), (german.html, plain.html)):
            closing = shipped("de")["expired"]["closing"]
            assert part == before.replace(closing, "Bis bald!")
        assert english == rendered(language="en")

    def test_every_sentence_can_be_replaced(self) -> None:
        texts = {name: f"My {name} of {{{{ order.order_name }}}}" for name in SENTENCES}
        email = rendered(template=EmailTemplate(words=[Words(**texts)]))
        assert email.subject == "My subject of #1001"
        for name in SENTENCES:
            assert f"My {name} of #1001" in email.html
            assert name == "subject" or f"My {name} of #1001" in email.text
        frame = re.sub(r">[^<]+<", "><", email.html)
        assert re.sub(r">[^<]+<", "><", rendered().html).split("<a ")[0] == frame.split("<a ")[0]

    def test_words_apply_only_to_their_kind_of_message(self) -> None:
        words = [Words(about="delivered", closing="Enjoy!"), Words(closing="Yours, truly")]
        template = EmailTemplate(words=words)
        assert "Enjoy!" in rendered(template=template, about="delivered").text
        assert "Yours, truly" in rendered(template=template, about="stalled").text

    def test_an_empty_expression_leaves_a_sentence_out(self) -> None:
        email = rendered(template=EmailTemplate(words=[Words(advice='{{ "" }}')]))
        assert "Are you still waiting" not in email.text + email.html
        assert "<p></p>" not in email.html

    def test_words_make_paragraphs_but_no_markup(self) -> None:
        words = Words(opening="First <b>bold</b>\nline\n\nSecond {{ order.customer_first_name }}")
        named = order(customer_first_name="<script>alert(1)</script>")
        html = rendered(named, EmailTemplate(words=[words])).html
        assert "First &lt;b&gt;bold&lt;/b&gt;<br>line</p>" in html
        assert "Second &lt;script&gt;alert(1)&lt;/script&gt;</p>" in html

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            ({"headline": "{{ oder }}"}, r"headline: unknown name oder; a template may use order,"),
            ({"opening": "\n{% if %}"}, "opening, line 2: Expected an expression"),
            ({"labels": {"trak": "x"}}, "labels: there is no trak; there are your_order, .*track"),
            ({"labels": {"months": "Jan Feb"}}, "labels.months must be twelve words"),
            ({"labels": {"separators": ","}}, "labels.separators must be two characters"),
            ({"language": "deutsch"}, "language must be the code of a language"),
            ({"sujet": "x"}, "sujet\n  Extra inputs are not permitted"),
        ],
    )
    def test_invalid_words_are_refused_with_the_field(
        self, words: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(ValidationError, match=problem):
            Words.model_validate(words)

    def test_complete_words_add_a_language(self) -> None:
        labels = {name: f"it-{name}" for name in shipped("en")["labels"]}
        labels |= {"months": " ".join("abcdefghijkl"), "separators": ".,"}
        needed = {"subject": "S", "opening": "O", "closing": "C", "why": "W"}
        italian = Words(language="it", labels=labels, **needed)
        template = EmailTemplate(words=[italian], language="it")
        for of in (template, EmailTemplate(words=[italian])):
            email = rendered(in_locale("it-IT"), of)
            assert '<html lang="it"' in email.html
            assert "Kind regards" not in email.html
        assert rendered(template=template).subject == "S"

    def test_words_of_a_right_to_left_language_mirror_the_message(self) -> None:
        needed = {"subject": "S", "opening": "O", "closing": "C", "why": "W"}
        hebrew = Words(language="he", labels=shipped("en")["labels"], **needed)
        html = rendered(template=EmailTemplate(words=[hebrew]), language="he").html
        assert '<html lang="he" dir="rtl"' in html
        assert 'align="left"' not in html
        assert 'dir="ltr"' in rendered().html

    def test_incomplete_words_of_a_new_language_are_refused(self) -> None:
        half = Words(language="it", subject="S", opening="O", closing="C", why="W")
        with pytest.raises(ValidationError, match=r"it is not .* shipped .* lacks labels.your_or"):
            EmailTemplate(words=[half])

    def test_an_error_in_words_names_their_language(self) -> None:
        template = EmailTemplate(words=[Words(language="de", opening="{{ 1 // 0 }}")])
        with pytest.raises(Exception, match=r"opening \(de\) fails for order 1: line 1: ZeroDiv"):
            rendered(template=template, language="de")
        assert rendered(template=template, language="en").subject
        with pytest.raises(Exception, match=r"opening \(de\) fails"):
            template.verify()


class TestBrand:
    def test_the_brand_shows_in_text_and_html(self) -> None:
        email = rendered(template=EmailTemplate(brand=FULL_BRAND))
        for words in (email.text, email.html):
            for known in (
                *("Cambridge", "Registered in England 123", "https://shop.example/imprint"),
                *("help@shop.example", "1,234.50\N{NO-BREAK SPACE}EUR"),
                "1 February 2026, 00:30 CET (In transit)",
            ):
                assert known in words
        assert "Kind regards,\nAda's Mugs\n" in email.text
        assert '<img src="https://shop.example/logo.png" width="140" alt="Ada&#39;s Mugs"' in (
            email.html
        )
        assert '<a class="quiet" href="https://shop.example/imprint"' in email.html
        assert email.html.count("#0b6e4f") > 3

    def test_a_message_without_a_logo_loads_no_picture(self) -> None:
        html = rendered(template=EmailTemplate(brand=Brand(shop_name="Ada's Mugs"))).html
        assert "<img" not in html
        assert "Ada&#39;s Mugs" in html

    @pytest.mark.parametrize(
        ("brand", "problem"),
        [
            ({"color": "green"}, r"color must be # and six hexadecimal digits, such as #0b6e4f"),
            ({"color": "#fff"}, "color must be"),
            ({"color": "#000000;background:url(https://x)"}, "color must be"),
            ({"logo": "http://shop.example/l.png"}, "logo must be an https address"),
            ({"logo": "javascript:alert(1)"}, "logo must be an https address"),
            ({"logo": "data:image/svg+xml,<svg onload=alert(1)>"}, "logo must be an https address"),
            ({"logo": '"><script>'}, "logo must be an https address"),
            ({"logo_width": 4000}, "logo_width\n  Input should be less than or equal to 552"),
            ({"contact": "help@shop.example, eve@x.example"}, "contact is not valid: it must be"),
            ({"time_zone": "Berlin"}, "'Berlin' is not the name of a time zone: write it as"),
            ({"currency": "dollars"}, "currency\n  String should have at most 5 characters"),
            ({"colour": "#000000"}, "colour\n  Extra inputs are not permitted"),
        ],
    )
    def test_an_invalid_brand_is_refused_with_the_remedy(
        self, brand: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(ValidationError, match=problem):
            Brand.model_validate(brand)

    @given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=5))
    def test_brand_texts_cannot_become_markup(self, name: str, lines: str, currency: str) -> None:
        brand = Brand(shop_name=name, address=lines, imprint=lines, currency=currency)
        html = rendered(template=EmailTemplate(brand=brand)).html
        plain = rendered(template=EmailTemplate(brand=FULL_BRAND)).html
        assert html.count("<td") <= plain.count("<td")
        assert "<script" not in html

    @given(st.from_regex(r"#[0-9a-f]{6}", fullmatch=True))
    def test_every_color_is_visible_on_light_and_dark(self, color: str) -> None:
        html = rendered(template=EmailTemplate(brand=Brand(color=color))).html
        [bar] = set(re.findall(r'class="reached" height="6" bgcolor="(#\w+)"', html))
        assert contrast(bar, "#ffffff") >= 3
        [dark] = re.findall(r"\.reached { background: (#\w+) ", html)
        assert contrast(dark, "#22252c") >= 3
        [(ground, ink)] = re.findall(r'class="first" bgcolor="(#\w+)".*?;color:(#\w+);', html)
        assert ground == color
        assert contrast(ground, ink) >= 4.5


class TestFrame:
    @pytest.mark.parametrize("language", LANGUAGES)
    @pytest.mark.parametrize("about", KINDS)
    def test_the_html_follows_the_rules_of_mail_programs(self, about: About, language: str) -> None:
        template = EmailTemplate(brand=FULL_BRAND)
        html = rendered(order(3), template, about=about, language=language).html
        checked = _MailChecker()
        checked.feed(html)
        checked.close()
        assert checked.open == []
        assert checked.problems == []
        assert len(html.encode()) < CLIPPED_BY_GMAIL_AT / 4

    def test_a_large_order_stays_below_gmails_clipping_limit(self) -> None:
        items = [{"name": f"{n} {'long name ' * 30}", "quantity": n} for n in range(1, 200)]
        parcel = order().fulfillments[0].model_dump(mode="json") | {"line_items": items}
        large = order(fulfillments=[parcel | {"fulfillment_id": n} for n in range(1, 120)])
        email = rendered(large, EmailTemplate(brand=FULL_BRAND))
        assert len(email.html.encode()) < CLIPPED_BY_GMAIL_AT
        for part in (email.text, email.html):
            assert "and 99 more" in part  # parcels
            assert "and 189 more" in part  # items of one

    @pytest.mark.parametrize(
        ("about", "buttons"),
        [
            ("expired", ["Reply to us", "Track your parcel"]),
            ("exception", ["Reply to us", "Track your parcel"]),
            ("in_transit", ["Track your parcel"]),
            ("not_shipped", ["See your order"]),
            ("delivered", ["See your order"]),
        ],
    )
    def test_the_most_useful_button_comes_first(self, about: About, buttons: list[str]) -> None:
        html = rendered(about=about).html
        shown = re.findall(r"<a [^>]*display:inline-block[^>]*>([^<]+)</a>", html)
        assert shown == buttons
        if about == "expired":
            subject = "Re%3A%20Your%20order%20%231001%3A%20the%20tracking%20has%20stopped"
            assert f'href="mailto:orders@shop.example?subject={subject}"' in html

    def test_a_shop_without_an_address_has_no_reply_button(self) -> None:
        one = order()
        shop = ShopInfo("Your Shop")
        email = EmailTemplate().render(one, one.fulfillments, shop=shop, about="expired")
        assert "mailto:" not in email.html

    def test_the_button_links_to_the_carrier_without_a_tracking_page(self) -> None:
        two = order(2, order_email=None)
        [first] = re.findall(r'<a href="([^"]+)"', rendered(two, about="in_transit").html)[:1]
        assert first == "https://post.example/1Z9"
        for part in ("tracking_url", "carrier"):
            assert hasattr(two.fulfillments[0], part)

    @pytest.mark.parametrize(
        ("about", "parcels", "reached"),
        [
            ("not_shipped", [], 1),
            ("expired", [{}], 2),
            ("in_transit", [{}], 2),
            ("out_for_delivery", [{}], 3),
            ("delivered", [{"shipment_status": "delivered"}], 4),
            ("status", [{"shipment_status": "Sewing"}], 1),
            ("exception", [{"shipment_status": "out_for_delivery"}], 3),
            ("exception", [{"shipment_status": s} for s in ("delivered", "in_transit")], 2),
        ],
    )
    def test_the_progress_bar_shows_the_least_advanced_parcel(
        self, about: About, parcels: list[dict[str, Any]], reached: int
    ) -> None:
        listed = [parcel | {"fulfillment_id": n} for n, parcel in enumerate(parcels, start=1)]
        email = rendered(order(fulfillments=listed), about=about)
        assert email.text.count("[x]") == email.html.count("✓") == reached
        assert email.html.count('class="reached" height="6"') == reached

    def test_the_latest_scan_of_all_steps_is_shown(self) -> None:
        steps = {
            "latest_status": {"label": "In a van", "datetime": "2026-03-02T09:00:00Z"},
            "status": [
                {"key": "in_transit", "datetime": "2026-03-01T09:00:00Z"},
                {"key": "delivered"},
            ],
        }
        parcel = {"fulfillment_id": 1} | steps
        assert "Last update: 2 March 2026, 09:00 UTC (In a van)" in (
            rendered(order(fulfillments=[parcel])).text
        )
        assert "Last update" not in rendered(order(fulfillments=[{"fulfillment_id": 1}])).html

    @pytest.mark.parametrize(
        ("language", "currency", "amount"),
        [
            ("en", "$", "$1,234.50"),
            ("en", "EUR", "1,234.50\N{NO-BREAK SPACE}EUR"),
            ("de", "€", "1.234,50\N{NO-BREAK SPACE}€"),
            ("fr", "€", "1\N{NARROW NO-BREAK SPACE}234,50\N{NO-BREAK SPACE}€"),
            ("es", "€", "1.234,50\N{NO-BREAK SPACE}€"),
        ],
    )
    def test_the_total_is_formatted_for_the_language(
        self, language: str, currency: str, amount: str
    ) -> None:
        template = EmailTemplate(brand=Brand(currency=currency))
        email = rendered(template=template, language=language)
        assert f": {amount}\n" in email.text
        assert f"<strong>{amount}</strong>" in email.html

    def test_the_total_is_left_out_without_a_currency(self) -> None:
        assert "1,234" not in rendered().html

    def test_a_right_to_left_name_is_isolated(self) -> None:
        named = order(customer_first_name="עדה")
        assert "Hello <bdi>עדה</bdi>," in rendered(named).html


class _MailChecker(HTMLParser):
    """Checks HTML by the rules of Outlook for Windows and Gmail."""

    VOID = frozenset({"meta", "br", "img"})
    # Outlook renders messages with Word, which does not support these
    UNKNOWN = re.compile(r"flex|grid|position|float|var\(|calc\(|background-image|url\(")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        given = dict(attrs)
        style = given.get("style") or ""
        wrong = {
            f"{tag} is not shown": tag in {"script", "iframe", "form", "svg", "link", "button"},
            f"style {style}": bool(self.UNKNOWN.search(style)),
            "a table without role=presentation": tag == "table"
            and given.get("role") != "presentation",
            "a link without a color": tag == "a" and "color:" not in style,
            "a picture without alt text and width": tag == "img"
            and not (given.get("alt") and given.get("width")),
            "a cell without a font": tag == "td"
            and (given.get("class") or "") in {"words", "quiet"}
            and "font-family" not in style,
        }
        self.problems += [problem for problem, is_wrong in wrong.items() if is_wrong]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")


def test_the_html_checker_reports_each_fault() -> None:
    checker = _MailChecker()
    checker.feed('<table><td style="display:flex"></table><img src="x"><a href="y">z</a>')
    assert len(checker.problems) == 5
