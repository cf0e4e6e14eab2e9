"""Ledgers in each database, and mail servers."""

from collections.abc import Iterator

import pytest

from prefect_tracktor.messages.smtp import Security, SmtpServer
from prefect_tracktor.sandbox import MailServer


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
def server(mail_server: MailServer) -> SmtpServer:
    """Return the address of the mail server."""
    return SmtpServer(mail_server.host, mail_server.port, security=Security.NONE)


@pytest.fixture(autouse=True)
def reconnects_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect after a lost connection almost without a pause."""
    monkeypatch.setattr("prefect_tracktor.messages.smtp._RECONNECT_PAUSE_SECONDS", 0.05)
