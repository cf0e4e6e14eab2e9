"""Parsing of numbers, flags, texts and ids in the formats of databases and languages."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor.parsing import (
    parse_any_id,
    parse_flag,
    parse_id,
    parse_price,
    parse_texts,
    parse_whole_number,
)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (59.9, "59.9"),
        (59, "59"),
        ("59.90", "59.90"),
        ("-5.00", "-5.00"),
        ("1,059.90", "1059.90"),
        ("1,059", "1059"),
        ("1,234,567.89", "1234567.89"),
        ("1,05,900.50", "105900.50"),
        ("1.059,90", "1059.90"),
        ("1.234.567,89", "1234567.89"),
        ("1.234.567", "1234567"),
        ("1.059", "1.059"),
        ("59,90", "59.90"),
        ("1 059,90", "1059.90"),
        ("1\u202f059,90\xa0€", "1059.90"),
        ("1'059.90", "1059.90"),
        ("1\u2019059.90", "1059.90"),
        ("$1,059.90", "1059.90"),
        ("USD 59.90", "59.90"),
        ("59.90 EUR", "59.90"),
        ("CHF 5.-", "5"),
        ({"amount": "59.90", "currency_code": "EUR"}, "59.90"),
        ({"$numberDecimal": "59.90"}, "59.90"),
    ],
)
def test_common_price_formats_are_parsed(written: Any, read: str) -> None:
    assert parse_price(written) == Decimal(read)


@pytest.mark.parametrize(
    "written", ["N/A", "1,0590", "1.2.3", "1.059.90", "NaN", True, [5], {"a": 1}]
)
def test_ambiguous_prices_are_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        parse_price(written)


@given(st.integers(0, 10**12), st.sampled_from([",", "\xa0", "\u202f", "'"]))
def test_thousands_separators_do_not_change_a_price(cents: int, mark: str) -> None:
    price = f"{cents // 100:,}.{cents % 100:02}"
    assert parse_price(price.replace(",", mark)) == Decimal(cents) / 100
    german = price.translate(str.maketrans(",.", ".,"))
    assert parse_price(german) == Decimal(cents) / 100


@pytest.mark.parametrize(
    ("written", "flag"),
    [
        *((yes, True) for yes in (True, 1, 1.0, "true", "TRUE ", "yes", "on", "1", "y")),
        *((no, False) for no in (False, 0, "false", "No", "off", "0", "n")),
        (None, None),
        ("", None),
        (" ", None),
        ([], None),
        ({}, None),
    ],
)
def test_common_flag_values_are_parsed(written: Any, flag: bool | None) -> None:
    assert parse_flag(written) is flag


@pytest.mark.parametrize("written", [2, "maybe", [True], {"a": True}])
def test_unknown_flag_values_are_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="not a flag"):
        parse_flag(written)


@pytest.mark.parametrize(
    "written", [3.5, "3.5", "N/A", True, [3], "1_000", "٣", 2**70, "9" * 30, 2.0**53, -1e18]
)
def test_values_other_than_whole_numbers_are_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="not a whole number"):
        parse_whole_number(written)


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_whole_numbers_are_parsed_from_numbers_and_text(number: int) -> None:
    for written in (number, str(number), f" {number}.0 ", {"$numberLong": str(number)}):
        assert parse_whole_number(written) == number


@pytest.mark.parametrize("written", [0, -1, 2**63, "0"])
def test_ids_below_one_or_above_63_bits_are_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_id(written)


@given(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))
def test_a_text_id_stays_unchanged(written: str) -> None:
    assert str(parse_any_id(written)) == written


@given(st.lists(st.text(alphabet="1Z", min_size=1)))
def test_a_list_of_texts_is_joined(texts: list[str]) -> None:
    assert parse_texts(texts) == (", ".join(texts) or None)
