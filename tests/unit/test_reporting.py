"""What reports are made of: markdown that nothing breaks out of, charts, counts in words."""

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

# no mark of markdown or HTML stands without a backslash
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
def test_ids_are_named_up_to_a_limit(ids: list[int], words: str) -> None:
    assert shown(ids, limit=3) == words


def test_a_cell_cannot_break_out_of_its_table() -> None:
    header, rule, row = markdown_table(["Order", "Parcels"], [[HOSTILE, 2]]).splitlines()
    assert header == "| Order | Parcels |"
    assert rule == "| --- | ---: |"
    cell = re.fullmatch(r"\| (.*) \| 2 \|", row)
    assert cell
    assert HARMLESS.fullmatch(cell[1])


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        markdown_table(["a", "b"], [["1", "2"], ["3"]])


@pytest.mark.parametrize(
    "link", ["https://evil.example", "HTTP://evil.example", "WWW.evil.example", "ada@evil.example"]
)
def test_a_bare_address_becomes_no_link(link: str) -> None:
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
def test_a_text_begins_no_list_heading_or_rule(text: str, written: str) -> None:
    assert plain(text) == written


@given(st.text())
def test_any_text_becomes_one_line_without_markup(text: str) -> None:
    written = plain(text)
    assert written.isprintable() or "\u2060" in written
    assert len(written.splitlines()) <= 1
    assert HARMLESS.fullmatch(written)


def test_a_column_of_numbers_stands_on_the_right_with_commas() -> None:
    _, rule, *rows = markdown_table(
        ["Of", "Parcels", "Id"], [["a", 1200, "1200"], ["b", 7, "7"]]
    ).splitlines()
    assert rule == "| --- | ---: | --- |"
    assert rows == ["| a | 1,200 | 1200 |", "| b | 7 | 7 |"]


def test_a_table_may_have_no_rows() -> None:
    assert markdown_table(["a", "b"], []) == "| a | b |\n| --- | --- |"


def test_a_link_is_written_so_that_both_uis_show_its_text() -> None:
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
def test_an_address_that_is_no_web_page_becomes_no_link(url: str) -> None:
    assert Link("x", url).markdown == "x"


@given(st.text(), st.text())
def test_nothing_breaks_out_of_a_link(text: str, path: str) -> None:
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
def test_an_order_leads_to_its_page_in_the_shops_admin(shop: str, url: str) -> None:
    assert admin_link(order_of(shop_url=shop)) == Link("#1007", url)


def test_an_order_of_an_unknown_shop_is_its_name() -> None:
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
def test_a_parcel_leads_to_its_carriers_page(parcel: dict[str, Any], cell: object) -> None:
    assert tracking_link(order_of(**parcel).fulfillments[0]) == cell


def drawing(markdown: str) -> ET.Element:
    """The one image of a chart."""
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
def test_a_scale_begins_at_zero_in_round_even_steps_and_reaches_the_largest(most: int) -> None:
    scale = ticks(most)
    steps = {b - a for a, b in pairwise(scale)}
    assert scale[0] == 0
    assert 2 <= len(scale) <= 5
    assert len(steps) == 1
    assert re.fullmatch(r"(1|2|5|10|25|20|50)0*", str(steps.pop()))
    assert max(1, most) <= scale[-1] <= max(4, 2 * most)


def test_a_bar_is_as_long_as_its_count_on_the_scale() -> None:
    full, half, quarter = bars_of(40, 20, 10)
    assert (half / full, quarter / full) == pytest.approx((0.5, 0.25), abs=0.001)


def test_what_is_there_at_all_is_seen_and_what_is_not_has_no_bar() -> None:
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
def test_a_chart_of_nothing_has_no_image(counts: dict[str, int]) -> None:
    assert "data:" not in Chart("By carrier", "Carrier", "Parcels", counts).markdown()


def test_names_in_an_image_are_text_and_of_a_length_that_fits() -> None:
    hostile = "</text><script>alert(1)</script>\0"
    svg = drawing(Chart("t", "h", "u", {hostile: 1, "小" * 99: 1, "y" * 99: 2}).markdown())
    assert {element.tag for element in svg.iter()} <= {
        f"{SVG}{name}" for name in ("svg", "style", "rect", "path", "text")
    }
    assert hostile.rstrip("\0") in texts(svg)
    assert f"{'小' * 16}…" in texts(svg)
    assert f"{'y' * 33}…" in texts(svg)


def test_a_chart_shows_names_as_they_are() -> None:
    markdown = Chart("By | n", "N | m", "Parcels", {HOSTILE: 1}).markdown()
    row = re.fullmatch(r"\| (.*) \| 1 \| 100% \|", markdown.splitlines()[-1])
    assert row
    assert HARMLESS.fullmatch(row[1])
    alt = re.search(r"!\[(.*)\]\(data:", markdown)
    assert alt
    assert HARMLESS.fullmatch(alt[1])


def test_a_trend_goes_from_the_oldest_to_this_run_on_a_scale_from_zero() -> None:
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


def test_counts_are_said_in_a_sentence_in_the_order_of_the_work() -> None:
    counts = {"calls": 99, "read": 40, "no address": 23, "sent": 1300, "due": 1323, "refused": 0}
    assert counts_in_words(counts) == (
        "1,323 orders due, 1,300 customers notified, 23 have no email address and 40 orders read."
    )


def test_one_is_said_in_the_singular() -> None:
    assert counts_in_words({"due": 1, "sent": 1, "no address": 1}) == (
        "1 order due, 1 customer notified and 1 has no email address."
    )


def test_what_is_due_is_said_also_if_it_is_nothing() -> None:
    assert counts_in_words({"sent": 0, "due": 0}) == "0 orders due."
    assert counts_in_words({"sent": 0}) == "Nothing to do."


@pytest.mark.parametrize(
    ("mode", "first"),
    [("dry_run", "Dry run: 2"), ("rehearsal", "Rehearsal: 2"), ("live", "Live: 2")],
)
def test_a_sentence_may_begin_with_the_mode(mode: str, first: str) -> None:
    assert counts_in_words({"due": 2}, mode=mode).startswith(first)


def test_a_count_without_words_is_said_by_its_name() -> None:
    assert counts_in_words({"left out as cancelled": 3, "x": 0}) == "3 left out as cancelled."


def test_what_no_later_run_does_comes_with_what_to_do() -> None:
    [line] = what_to_do({"sent": 3, "deferred": 1, "refused": 1, "missing": 0})
    assert line.startswith("1 address refused by the mail server: correct the order's address")


@pytest.mark.parametrize("word", WORDINGS.values())
def test_each_wording_is_complete_in_both_numbers(word: Wording) -> None:
    for number in (0, 1, 2):
        said = word.sentence(number)
        assert not set(said) & set("[]|{}")
        assert said.startswith(f"{number} ") or not said
    assert word.says or not (word.do or word.always)
