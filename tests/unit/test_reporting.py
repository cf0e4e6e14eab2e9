"""Parts of reports: safe markdown, charts, counts in words."""

import base64
import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor import Order
from prefect_tracktor.reporting.charts import Chart, Trend, ticks
from prefect_tracktor.reporting.markdown import (
    Link,
    admin_link,
    markdown_table,
    plain,
    tracking_link,
)
from prefect_tracktor.reporting.words import WORDINGS, Wording, counts_in_words, shown, what_to_do

# all markdown and HTML characters are escaped
HARMLESS = re.compile(r"(?:\\[&<>|`*_\[\]()!~#$\\+.-]|[^&<>|`*_\[\]()!~#$\\])*")
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "x | y\n| `z` | \\| <script>alert(1)</script> | [Pay](https://evil.example)"


def order_of(**parcel: Any) -> Order:
    fields = {"order_id": 7, "order_name": "#1007"}
    return Order.model_validate(fields | {"fulfillments": [{"fulfillment_id": 1} | parcel]})


@pytest.mark.parametrize(
    ("ids", "words"),
    [([], "none"), ([1], "1"), ([1, 2, 3], "1, 2, 3"), ([1, 2, 3, 4, 5], "1, 2, 3 and 2 more")],
)
def test_a_sentence_lists_ids_up_to_a_limit(ids: list[int], words: str) -> None:
    assert shown(ids, limit=3) == words


def test_hostile_text_stays_within_its_table_cell() -> None:
    header, rule, row = markdown_table(["Order", "Parcels"], [[HOSTILE, 2]]).splitlines()
    assert header == "| Order | Parcels |"
    assert rule == "| --- | ---: |"
    cell = re.fullmatch(r"\| (.*) \| 2 \|", row)
    assert cell
    assert HARMLESS.fullmatch(cell[1])


def test_a_table_row_with_missing_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        markdown_table(["a", "b"], [["1", "2"], ["3"]])


@pytest.mark.parametrize(
    "link", ["https://evil.example", "HTTP://evil.example", "WWW.evil.example", "ada@evil.example"]
)
def test_an_address_in_text_does_not_become_a_link(link: str) -> None:
    written = plain(f"see {link}")
    assert link not in written
    assert written.replace("\u2060", "") == f"see {link}"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("- x", r"\- x"),
        ("+ x", r"\+ x"),
        ("12. x", r"12\. x"),
        ("1) x", r"1\) x"),
        ("# x", r"\# x"),
        ("> x", r"\> x"),
        ("---", r"\---"),
        ("12.50 - 3", "12.50 - 3"),
        ("-5", "-5"),
    ],
)
def test_text_does_not_start_a_list_heading_or_rule(text: str, written: str) -> None:
    assert plain(text) == written


@given(st.text())
def test_any_text_becomes_one_line_without_markup(text: str) -> None:
    written = plain(text)
    assert written.isprintable() or "\u2060" in written
    assert len(written.splitlines()) <= 1
    assert HARMLESS.fullmatch(written)


def test_a_table_aligns_numbers_right_with_thousands_separators() -> None:
    _, rule, *rows = markdown_table(
        ["Of", "Parcels", "Id"], [["a", 1200, "1200"], ["b", 7, "7"]]
    ).splitlines()
    assert rule == "| --- | ---: | --- |"
    assert rows == ["| a | 1,200 | 1200 |", "| b | 7 | 7 |"]


def test_a_table_without_rows_has_its_header() -> None:
    assert markdown_table(["a", "b"], []) == "| a | b |\n| --- | --- |"


def test_a_link_keeps_its_number_sign_unescaped_for_both_uis() -> None:
    assert Link("#1007", "https://a.example/x?a=1&b=2").markdown == (
        "[#1007](https://a.example/x?a=1&b=2)"
    )


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,<script>",
        "ftp://a.example",
        "https://shop.example@evil.example/",
        "https://a.example/ b",
        "https://a.example/\nb",
        "https://",
        "https://a.example/" + "x" * 1000,
        "",
    ],
)
def test_a_link_to_an_unsafe_address_becomes_text(url: str) -> None:
    assert Link("x", url).markdown == "x"


@given(st.text(), st.text())
def test_hostile_text_stays_within_its_link(text: str, path: str) -> None:
    written = Link(text, f"https://a.example/{path}").markdown
    if written != plain(text):
        link = re.fullmatch(r"\[(.+)\]\((https://a\.example/[^\s()<>|\[\]`;\"\\]*)\)", written)
        assert link
        assert HARMLESS.fullmatch(link[1].replace("#", "\\#").replace("\\\\#", "\\#"))


@pytest.mark.parametrize(
    ("shop", "url"),
    [
        ("my-shop.myshopify.com", "https://admin.shopify.com/store/my-shop/orders/7"),
        ("https://my-shop.myshopify.com/", "https://admin.shopify.com/store/my-shop/orders/7"),
        ("https://shop.example/en", "https://shop.example/admin/orders/7"),
    ],
)
def test_an_order_links_to_its_page_in_the_shopify_admin(shop: str, url: str) -> None:
    assert admin_link(order_of(shop_url=shop)) == Link("#1007", url)


def test_an_order_of_an_unknown_shop_has_no_link() -> None:
    assert admin_link(order_of()) == "#1007"
    assert admin_link(Order(order_id=7)) == "7"


@pytest.mark.parametrize(
    ("parcel", "cell"),
    [
        (
            {"carrier": "UPS", "tracking_url": "https://ups.example/1"},
            Link("UPS", "https://ups.example/1"),
        ),
        (
            {"tracking_url": ["https://ups.example/1", "https://ups.example/2"]},
            Link("ups.example", "https://ups.example/1"),
        ),
        ({"carrier": "UPS", "tracking_url": "javascript:alert(1)"}, "UPS"),
        ({"shopify_carrier": "DPD"}, "DPD"),
        ({}, ""),
    ],
)
def test_a_parcel_links_to_its_carriers_tracking_page(parcel: dict[str, Any], cell: object) -> None:
    assert tracking_link(order_of(**parcel).fulfillments[0]) == cell


def drawing(markdown: str) -> ET.Element:
    """The SVG image of a chart."""
    [data] = re.findall(r"\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    return ET.fromstring(base64.b64decode(data))  # noqa: S314 - our own


def lengths(svg: ET.Element, side: str) -> list[float]:
    return [float(bar.attrib[side]) for bar in svg.iter(f"{SVG}rect") if bar.get("class") == "b"]


def texts(svg: ET.Element) -> list[str]:
    return [str(text.text) for text in svg.iter(f"{SVG}text")]


def bars_of(*counts: int) -> list[float]:
    chart = Chart("By n", "N", "Parcels", {f"n{n}": count for n, count in enumerate(counts)})
    return lengths(drawing(chart.markdown()), "width")


@given(st.integers(0, 10**12))
def test_an_axis_has_round_even_steps_from_zero_to_the_largest_count(most: int) -> None:
    scale = ticks(most)
    steps = {b - a for a, b in pairwise(scale)}
    assert scale[0] == 0
    assert 2 <= len(scale) <= 5
    assert len(steps) == 1
    assert re.fullmatch(r"(1|2|5|10|25|20|50)0*", str(steps.pop()))
    assert max(1, most) <= scale[-1] <= max(4, 2 * most)


def test_the_length_of_a_bar_is_proportional_to_its_count() -> None:
    full, half, quarter = bars_of(40, 20, 10)
    assert (half / full, quarter / full) == pytest.approx((0.5, 0.25), abs=0.001)


def test_a_small_count_has_a_visible_bar_and_zero_has_none() -> None:
    _, one, nothing = bars_of(100_000, 1, 0)
    assert one > 1
    assert nothing == 0


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=12).filter(any))
def test_a_larger_count_never_has_a_shorter_bar(counts: list[int]) -> None:
    bars = bars_of(*sorted(counts))
    assert bars == sorted(bars)
    assert 0 < max(bars) <= 408


def test_a_chart_has_its_numbers_as_text_and_as_a_table() -> None:
    markdown = Chart("By_carrier", "Carrier", "Parcels", {"UPS": 1200, "DPD": 400}).markdown()
    assert texts(drawing(markdown))[-4:] == ["UPS", "1,200 · 75%", "DPD", "400 · 25%"]
    assert markdown.startswith("## By\\_carrier\n\n![Bar chart of parcels: UPS 1,200, DPD 400](")
    assert markdown.endswith(
        "| Carrier | Parcels | Share |\n| --- | ---: | --- |\n"
        "| UPS | 1,200 | 75% |\n| DPD | 400 | 25% |"
    )


@pytest.mark.parametrize("counts", [{}, {"UPS": 0}])
def test_a_chart_without_counts_has_no_image(counts: dict[str, int]) -> None:
    assert "data:" not in Chart("By carrier", "Carrier", "Parcels", counts).markdown()


def test_an_image_escapes_and_truncates_names() -> None:
    hostile = "</text><script>alert(1)</script>\0"
    svg = drawing(Chart("t", "h", "u", {hostile: 1, "小" * 99: 1, "y" * 99: 2}).markdown())
    assert {element.tag for element in svg.iter()} <= {
        f"{SVG}{name}" for name in ("svg", "style", "rect", "path", "text")
    }
    assert hostile.rstrip("\0") in texts(svg)
    assert f"{'小' * 16}…" in texts(svg)
    assert f"{'y' * 33}…" in texts(svg)


def test_a_chart_escapes_names_in_its_table_and_alternative_text() -> None:
    markdown = Chart("By | n", "N | m", "Parcels", {HOSTILE: 1}).markdown()
    row = re.fullmatch(r"\| (.*) \| 1 \| 100% \|", markdown.splitlines()[-1])
    assert row
    assert HARMLESS.fullmatch(row[1])
    alt = re.search(r"!\[(.*)\]\(data:", markdown)
    assert alt
    assert HARMLESS.fullmatch(alt[1])


def test_a_trend_shows_runs_from_the_oldest_to_the_newest() -> None:
    points = [("1 Nov", 10, 90), ("2 Nov", 20, 95), ("This run", 40, 99)]
    markdown = Trend("Parcels", points).markdown()
    columns = lengths(drawing(markdown), "height")
    assert [column / columns[-1] for column in columns] == pytest.approx([0.25, 0.5, 1], abs=0.001)
    assert "![Column chart of parcels by run: 1 Nov: 10, 2 Nov: 20, This run: 40](" in markdown
    assert markdown.splitlines()[-3:] == [
        "| This run | 40 | 99 |",
        "| 2 Nov | 20 | 95 |",
        "| 1 Nov | 10 | 90 |",
    ]


def test_a_sentence_lists_counts_in_the_order_of_the_work() -> None:
    counts = {"calls": 99, "read": 40, "no address": 23, "sent": 1300, "due": 1323, "refused": 0}
    assert counts_in_words(counts) == (
        "1,323 orders due, 1,300 customers notified, 23 have no email address and 40 orders read."
    )


def test_a_sentence_uses_the_singular_for_a_count_of_one() -> None:
    assert counts_in_words({"due": 1, "sent": 1, "no address": 1}) == (
        "1 order due, 1 customer notified and 1 has no email address."
    )


def test_a_sentence_includes_due_orders_even_if_there_are_none() -> None:
    assert counts_in_words({"sent": 0, "due": 0}) == "0 orders due."
    assert counts_in_words({"sent": 0}) == "Nothing to do."


@pytest.mark.parametrize(
    ("mode", "first"),
    [("dry_run", "Dry run: 2"), ("rehearsal", "Rehearsal: 2"), ("live", "Live: 2")],
)
def test_a_sentence_starts_with_the_mode_if_given(mode: str, first: str) -> None:
    assert counts_in_words({"due": 2}, mode=mode).startswith(first)


def test_a_sentence_uses_the_name_of_a_count_without_wording() -> None:
    assert counts_in_words({"left out as cancelled": 3, "x": 0}) == "3 left out as cancelled."


def test_a_count_that_needs_a_person_comes_with_advice() -> None:
    [line] = what_to_do({"sent": 3, "deferred": 1, "refused": 1, "missing": 0})
    assert line.startswith("1 address refused by the mail server: correct the order's address")


@pytest.mark.parametrize("word", WORDINGS.values())
def test_each_wording_has_a_singular_and_a_plural(word: Wording) -> None:
    for number in (0, 1, 2):
        sentence = word.sentence(number)
        assert not set(sentence) & set("[]|{}")
        assert sentence.startswith(f"{number} ") or not sentence
    assert word.says or not (word.do or word.always)
