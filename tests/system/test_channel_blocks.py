"""Saved mailers: hidden secrets, and refresh tokens that the provider replaces."""

from collections.abc import Iterator
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_tracktor import Mailer, Mode, NotificationLedger, OAuth2
from prefect_tracktor.errors import MailServerError
from prefect_tracktor.messages import oauth2 as module
from tests.support.mailers import mailer_at
from tests.support.oauth import MAILBOX, TokenEndpoint, xoauth2_server
from tests.support.rotating import log_in_together, processes

pytestmark = pytest.mark.usefixtures("prefect_api")

FIRST = "r3fresh-at-first"


def test_a_saved_mailer_hides_its_oauth2_secrets() -> None:
    oauth2 = OAuth2.model_validate(
        {"token_endpoint": "https://a.example/token", "client_id": "a", "client_secret": "s3cret-s"}
    )
    mailer = Mailer(
        host="smtp.example.com", sender="Shop <a@example.com>", username="a", oauth2=oauth2
    )
    mailer.save("with-oauth2", overwrite=True)
    loaded = Mailer.model_validate(Mailer.load("with-oauth2"))
    assert loaded.oauth2 == oauth2
    assert "s3cret-s" not in f"{loaded!r} {loaded.model_dump()}"
    assert "oauth2.client_secret" in Mailer.model_json_schema()["secret_fields"]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenEndpoint]:
    """Run a provider that replaces the refresh token at each login."""
    monkeypatch.setattr(module, "_PAUSES", (0,))
    # tokens of an earlier endpoint at the same port
    monkeypatch.setattr(module, "_tokens", {})
    monkeypatch.setattr(module, "_renewed", {})
    with TokenEndpoint(refresh_token=FIRST).serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def saved_ledger(prefect_api: None) -> NotificationLedger:
    """Save a ledger that a saved mailer can refer to."""
    ledger = NotificationLedger()
    ledger.save("rotating", overwrite=True)
    return ledger


@pytest.fixture
def mailer(endpoint: TokenEndpoint, saved_ledger: NotificationLedger) -> Iterator[Mailer]:
    """Save a mailer for a server that accepts only access tokens."""
    with xoauth2_server(endpoint) as (port, _):
        oauth2 = endpoint.oauth2(refresh_token=FIRST)
        made = mailer_at(port, username=MAILBOX, oauth2=oauth2, ledger=saved_ledger)
        made.save("rotating", overwrite=True)
        yield loaded()


def loaded() -> Mailer:
    return Mailer.model_validate(Mailer.load("rotating"))


def saved_token() -> str:
    return loaded().oauth2.refresh_token.get_secret_value()


def log_in_again(mailer: Mailer) -> None:
    """Log in without the cached access token, as if it had expired."""
    module.forget_token(mailer.oauth2)
    mailer.verify()


def test_a_replaced_refresh_token_is_saved_and_nothing_else_changes(
    endpoint: TokenEndpoint, mailer: Mailer
) -> None:
    other: Any = loaded()
    other.mode = Mode.DRY_RUN  # a person changes the mode meanwhile
    other.save("rotating", overwrite=True)
    mailer.verify()
    assert saved_token() == endpoint.refresh_token != FIRST
    log_in_again(mailer)
    assert saved_token() == endpoint.refresh_token
    again = loaded()
    again.verify()
    assert saved_token() == endpoint.refresh_token
    assert len(endpoint.issued) == 3
    assert again.mode is Mode.DRY_RUN
    assert again.ledger is not None
    assert again.oauth2.client_secret == mailer.oauth2.client_secret


def test_a_token_replaced_by_another_process_is_loaded_from_the_block(
    endpoint: TokenEndpoint, mailer: Mailer
) -> None:
    endpoint.refresh_token = "r3fresh-of-another"
    replaced = endpoint.oauth2(refresh_token=endpoint.refresh_token)
    mailer.model_copy(update={"oauth2": replaced}).save("rotating", overwrite=True)
    mailer.verify()
    assert saved_token() == endpoint.refresh_token


def test_two_processes_logging_in_together_lose_no_token(
    endpoint: TokenEndpoint, mailer: Mailer
) -> None:
    both_ready = processes.Barrier(2)
    both = [
        processes.Process(target=log_in_together, args=(PREFECT_API_URL.value(), both_ready))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(endpoint.issued) == 2
    assert saved_token() == endpoint.refresh_token


def test_a_token_that_cannot_be_saved_is_saved_by_the_next_login(
    endpoint: TokenEndpoint, mailer: Mailer
) -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(
            MailServerError, match="cannot be saved in the block tracktor-mailer/rot"
        ) as f,
    ):
        mailer.verify()
    assert "make a new oauth2.refresh_token" in str(f.value)
    assert "r3fresh" not in str(f.value)
    assert saved_token() == FIRST
    mailer.verify()
    assert saved_token() == endpoint.refresh_token


def test_a_token_entered_by_a_person_is_not_overwritten(
    endpoint: TokenEndpoint, mailer: Mailer, caplog: pytest.LogCaptureFixture
) -> None:
    entered = endpoint.oauth2(refresh_token="r3fresh-of-a-person")
    mailer.model_copy(update={"oauth2": entered}).save("rotating", overwrite=True)
    mailer.verify()
    assert saved_token() == "r3fresh-of-a-person"
    assert "has another oauth2.refresh_token by now" in caplog.text


def test_a_lost_refresh_token_has_to_be_replaced(endpoint: TokenEndpoint, mailer: Mailer) -> None:
    endpoint.refresh_token = "r3fresh-that-was-lost"
    with pytest.raises(MailServerError, match=r"new oauth2\.refresh_token.*two processes"):
        mailer.verify()


def test_an_unsaved_mailer_warns_that_the_new_token_is_not_saved(
    endpoint: TokenEndpoint, mailer: Mailer, caplog: pytest.LogCaptureFixture
) -> None:
    unsaved = Mailer.model_validate(dict(mailer))
    unsaved.verify()
    log_in_again(unsaved)
    assert len(endpoint.issued) == 2
    assert saved_token() == FIRST
    assert caplog.text.count("only this process knows the new token") == 2
    assert "r3fresh" not in caplog.text
