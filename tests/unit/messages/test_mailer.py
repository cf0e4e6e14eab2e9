"""A mailer sends nothing by itself, and refuses what cannot be right before a run begins."""

from typing import Any

import pytest
from pydantic import ValidationError

from prefect_tracktor import InvalidInput, Mailer, Mode
from prefect_tracktor.messages.smtp import Security, SmtpServer

USUAL = {"host": "smtp.example.com", "sender": "Shop <orders@shop.example>"}


def mailer(**options: Any) -> Mailer:
    return Mailer.model_validate(USUAL | options)


def test_a_new_one_is_in_dry_run() -> None:
    assert mailer().mode is Mode.DRY_RUN


def test_a_mode_is_taken_in_each_spelling_that_is_plainly_meant() -> None:
    for spelling in ("dry_run", "dry run", "Dry-Run", " DRY RUN "):
        assert mailer(mode=spelling).mode is Mode.DRY_RUN
    assert mailer(mode="Live").mode is Mode.LIVE
    assert Mode.DRY_RUN.label == "dry run"


@pytest.mark.parametrize("missing", USUAL)
def test_host_and_sender_have_to_be_given(missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        Mailer.model_validate({n: value for n, value in USUAL.items() if n != missing})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"host": ""}, "host must be the name"),
        ({"host": "https://smtp.example.com"}, "host must be the name"),
        ({"host": "smtp.example.com:587"}, "host must be the name"),
        ({"host": "orders@shop.example"}, "host must be the name"),
        ({"host": "smtp..example.com"}, "host must be the name"),
        ({"host": f"{'x' * 64}.example.com"}, "host must be the name"),
        ({"host": "smtp.example.com\nx"}, "host must be the name"),
        ({"sender": "nobody"}, "sender"),
        ({"sender": ""}, "sender is empty"),
        ({"sender": "A <a@example.com>, b@example.com"}, "sender"),
        ({"reply_to": "a@example.com\r\nBcc: b@example.com"}, "reply_to"),
        ({"rehearsal_address": "a@example.com,b@example.com"}, "rehearsal_address"),
        ({"rehearsal_address": "Staff <a@example.com>"}, "rehearsal_address"),
        ({"mode": "rehearsal"}, "rehearsal_address is empty"),
        ({"mode": "on"}, "mode"),
        ({"port": 0}, "port"),
        ({"port": 465}, "set security to tls, or port to 587"),
        ({"security": "ssl3"}, "security"),
        ({"messages_per_second": -1}, "messages_per_second"),
        ({"messages_per_second": float("nan")}, "messages_per_second"),
        ({"messages_per_second": float("inf")}, "messages_per_second"),
    ],
)
def test_what_cannot_be_right_is_refused_without_repeating_it(
    options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem) as refused:
        mailer(**options, password="pa55-word")
    assert "pa55-word" not in str(refused.value)
    assert "a@example.com" not in str(refused.value)


def test_a_mode_that_is_set_later_is_checked_like_a_first_one() -> None:
    loaded = mailer(mode="live")
    with pytest.raises(ValidationError, match="rehearsal_address is empty"):
        loaded.mode = Mode.REHEARSAL
    loaded.rehearsal_address = "staff@shop.example"
    loaded.mode = "Rehearsal"  # type: ignore[assignment]  # as people write it
    assert loaded.mode is Mode.REHEARSAL


def test_the_server_is_what_a_session_needs() -> None:
    made = mailer(host=" smtp.example.com ", port=465, security="tls", username="u", password="p")
    assert made.server == SmtpServer(
        "smtp.example.com", 465, security=Security.TLS, username="u", password="p"
    )
    assert "pa55-word" not in repr(mailer(password="pa55-word").server)


def test_a_password_that_prefect_has_masked_is_refused() -> None:
    with pytest.raises(InvalidInput, match="password is asterisks only"):
        _ = mailer(password="*" * 10).server


def test_replies_go_to_the_sender_unless_it_says_otherwise() -> None:
    assert mailer().reply_to_mailbox is None
    answers = mailer(reply_to="Help <help@shop.example>").reply_to_mailbox
    assert str(answers) == "Help <help@shop.example>"
    assert str(mailer().sender_mailbox) == USUAL["sender"]


def test_a_form_without_a_ledger_gives_none_of_its_own() -> None:
    """The older form stores an empty object, which would be another ledger than the shop's."""
    assert Mailer(host="smtp.example.com", sender="a@example.com", ledger={}).ledger is None
