"""`Mailer`: mode, addresses, validation."""

from typing import Any

import pytest
from pydantic import ValidationError

from prefect_tracktor import InvalidInput, Mailer, Mode
from prefect_tracktor.messages.smtp import MailSession

USUAL = {"host": "smtp.example.com", "sender": "Shop <orders@shop.example>"}


def mailer(**options: Any) -> Mailer:
    return Mailer.model_validate(USUAL | options)


def test_a_new_mailer_is_in_dry_run() -> None:
    assert mailer().mode is Mode.DRY_RUN


def test_common_spellings_of_a_mode_are_accepted() -> None:
    for spelling in ("dry_run", "dry run", "Dry-Run", " DRY RUN "):
        assert mailer(mode=spelling).mode is Mode.DRY_RUN
    assert mailer(mode="Live").mode is Mode.LIVE
    assert Mode.DRY_RUN.label == "dry run"


@pytest.mark.parametrize("missing", USUAL)
def test_host_and_sender_are_required(missing: str) -> None:
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
def test_invalid_fields_are_refused_without_repeating_secrets(
    options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem) as refused:
        mailer(**options, password="pa55-word")
    assert "pa55-word" not in str(refused.value)
    assert "a@example.com" not in str(refused.value)


def test_an_assigned_mode_is_validated() -> None:
    loaded = mailer(mode="live")
    with pytest.raises(ValidationError, match="rehearsal_address is empty"):
        loaded.mode = Mode.REHEARSAL
    assert loaded.mode is Mode.LIVE
    loaded.rehearsal_address = "staff@shop.example"
    loaded.mode = "Rehearsal"  # type: ignore[assignment]  # as people write it
    assert loaded.mode is Mode.REHEARSAL


def test_a_masked_password_is_refused() -> None:
    with pytest.raises(InvalidInput, match="password is asterisks only"):
        MailSession(mailer(password="*" * 10))


def test_replies_go_to_the_sender_unless_reply_to_is_set() -> None:
    assert mailer().reply_to_mailbox is None
    reply_to = mailer(reply_to="Help <help@shop.example>").reply_to_mailbox
    assert str(reply_to) == "Help <help@shop.example>"
    assert str(mailer().sender_mailbox) == USUAL["sender"]


def test_an_empty_ledger_in_the_form_means_no_ledger() -> None:
    """Prefect's older form stores `{}` for no choice, which would be a new ledger."""
    assert Mailer(host="smtp.example.com", sender="a@example.com", ledger={}).ledger is None
