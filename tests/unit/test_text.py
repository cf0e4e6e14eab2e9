"""Masking of personal data and secrets."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_tracktor.text import form_of, mask_email, public_words, redact


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("ada@example.com", "a***@***.com"),
        (" ada.lovelace+shop@mail.example.co.uk ", "a***@***.uk"),
        ('"ada lovelace"@example.com', "***@***.com"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_masked_address_keeps_initial_and_top_level_domain(
    address: str | None, masked: str
) -> None:
    assert mask_email(address) == masked


@pytest.mark.parametrize(
    "text",
    ["Ada Lovelace", "+49 30 1234567", "ada@localhost", "@example.com", "ada@x.Ada Lovelace"],
)
def test_text_without_an_address_is_masked_completely(text: str) -> None:
    assert mask_email(text) == "***"


@given(local=st.text(min_size=2, max_size=20), domain=st.text(max_size=20))
def test_any_masked_address_shows_only_initial_and_top_level_domain(
    local: str, domain: str
) -> None:
    masked = mask_email(f"{local}@{domain}.example")
    assert masked in {"***", "***@***.example", f"{local.strip()[:1]}***@***.example"}


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("no ada@example.com!", "no [e-mail]"),
        ("<ada@example.com>, (bob@example.com)", "<[e-mail]>, ([e-mail])"),
        ('"Ada Lovelace"@example.com', "[e-mail]"),
        ("/track?order=1&email=ada%40example.com&x=1", "/track?order=1&email=[e-mail]&x=1"),
        ("mailto:ada@example.com", "mailto:[e-mail]"),
        ("ada@example@example.com", "[e-mail]"),
        ("call +49 30 1234567", "call [phone]"),
        ("call 0049 30 1234567", "call [phone]"),
        ("call (030) 123 45 67", "call [phone]"),
        ("call (555) 010-0199 or 555-010-0199", "call [phone] or [phone]"),
    ],
)
def test_addresses_and_phone_numbers_are_redacted(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "order 5001234567890 is unknown",
        "at 2026-11-24T10:00:00.000000+01:00",
        "2026-01-02 03:04:05",
        "#1001, 0.10 EUR",
        "GET orders/1001.json",
    ],
)
def test_ids_and_times_are_not_redacted(text: str) -> None:
    assert redact(text) == text


def test_overlapping_secrets_are_hidden() -> None:
    redacted = redact("key-123-and-more, key-123", secrets=("", "key-123", "key-123-and-more"))
    assert redacted == "[hidden], [hidden]"


def test_secrets_are_hidden_in_any_letter_case() -> None:
    assert redact("ADA or Ada", secrets=("ada",)) == "[hidden] or [hidden]"


@given(
    local=st.text("abcdefghijklmnopqrstuvwxyz0123456789.+-_", min_size=1, max_size=64),
    before=st.text(max_size=20),
    after=st.sampled_from(["", " ", ", and so on", ">", '"', "&x=1"]),
    at=st.sampled_from(["@", "%40"]),
)
def test_an_address_is_redacted_in_any_context(
    local: str, before: str, after: str, at: str
) -> None:
    assert "mail.example" not in redact(f"{before}{local}{at}mail.example{after}")


@pytest.mark.parametrize("part", ["a", "+1", '"a', "a%4", "0 ", "555-"])
def test_redaction_takes_linear_time(part: str) -> None:
    # quadratic time would take minutes here
    assert redact(part * 100_000)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("", ""),
        (
            "550 5.1.1 <ada@example.com>: Recipient address rejected: User unknown",
            "550 5.1.1 … Recipient address rejected: User unknown",
        ),
        (
            "454 Throttling failure: Maximum sending rate exceeded.",
            "454 Throttling failure: Maximum sending rate exceeded.",
        ),
        (
            "432 4.3.2 Concurrent connections limit exceeded. Visit https://x.example",
            "432 4.3.2 Concurrent connections limit exceeded. Visit …",
        ),
        (
            "550 5.4.5 Daily user sending limit exceeded, see https://support.google.com/a/answer/1.",
            "550 5.4.5 Daily user sending limit exceeded, see https://support.google.com/a/answer/1.",
        ),
        ("see https://aka.ms/who?is=ada@example.com", "see …"),
        ("552 5.2.2 Ada Lovelace's mailbox full", "552 5.2.2 … mailbox full"),
        ("invalid_client", "invalid_client"),
        ("MAX_COST_EXCEEDED", "MAX_COST_EXCEEDED"),
        ("argumentLiteralsIncompatible", "argumentLiteralsIncompatible"),
        ("invalid_lovelace", ""),
        ("grant_page", ""),
        ("ada_lovelace", ""),
        ("Ada Lovelace, 12 Main Street, 10115 Berlin", ""),
        ("value is too long for 4915112345678", "value is too … for …"),
        ("user unknown\r\nDATA\x00", "user unknown …"),
    ],
)
def test_only_known_words_of_a_server_are_shown(text: str, public: str) -> None:
    assert public_words(text) == public


@given(st.text())
def test_shown_words_fit_one_line_without_long_numbers(text: str) -> None:
    public = public_words(text)
    assert len(public.splitlines()) <= 1
    assert not re.search(r"\d{4}|@", public)


def test_words_of_our_query_may_be_shown() -> None:
    text = 'column "oder_id" does not exist, Ada'
    assert public_words(text) == "column … does not exist, …"
    assert public_words(text, ours="SELECT oder_id FROM plan") == "column oder_id does not exist, …"


def test_a_long_text_is_cut_before_the_search() -> None:
    assert len(public_words("invalid " * 1_000_000)) < 3_000


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (None, "nothing"),
        (True, "a bool"),
        (0, "'0'"),
        (-5, "'-5'"),
        (2**70, "a number of type int"),
        (-4915112345678, "a number of type int"),
        (1.5, "'1.5'"),
        (1.9e12, "a number of type float"),
        (float("nan"), "a number of type float"),
        ("NaN", "'NaN'"),
        ("12x", "'12x'"),
        ("5.00012E+12", "'5.00012E+12'"),
        ("maybe", "'maybe'"),
        ("#1001", "'#1001'"),
        ("1Z999AA10123", "text of 12 characters"),
        ("555 0199 1", "text of 10 characters"),
        ("Ada", "text of 3 characters"),
        ("12 Elm", "text of 6 characters"),
        ("  ", "empty text"),
        ("5000036797819", "text of 13 digits"),
        (" ada@example.com", "an email address"),
        ("Ada Lovelace", "text of 12 characters"),
        (["Ada"], "a list"),
    ],
)
def test_a_value_is_described_by_its_form(value: object, form: str) -> None:
    assert form_of(value) == form


def test_a_number_of_any_length_is_described() -> None:
    assert form_of(10**6000) == "a number of type int"
