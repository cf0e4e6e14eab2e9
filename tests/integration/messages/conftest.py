"""Ledgers in each database, and mail servers."""

from collections.abc import Iterator

import pytest

from prefect_tracktor import Mailer
from prefect_tracktor.sandbox import MailServer
from tests.support.mailers import mailer_of


@pytest.fixture
def ledger_url(database_url: str) -> str:
    """Return the address of an empty ledger in each database."""
    return database_url


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    """Run an SMTP server that accepts everything unless its faults are set."""
    with MailServer() as server:
        yield server


@pytest.fixture
def mailer(mail_server: MailServer) -> Mailer:
    """Return a mailer for the mail server."""
    return mailer_of(mail_server)


@pytest.fixture(autouse=True)
def reconnects_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect after a lost connection almost without a pause."""
    monkeypatch.setattr("prefect_tracktor.messages.smtp._RECONNECT_PAUSE_SECONDS", 0.05)
