"""A ledger of each kind, and mail servers of all tempers."""

from collections.abc import Iterator

import pytest

from prefect_tracktor.messages.smtp import Security, SmtpServer
from prefect_tracktor.sandbox import MailServer


@pytest.fixture
def ledger_url(database_url: str) -> str:
    """An empty ledger's address, in each database."""
    return database_url


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    """An SMTP server that takes everything, unless its faults are set."""
    with MailServer() as server:
        yield server


@pytest.fixture
def server(mail_server: MailServer) -> SmtpServer:
    """The way to it."""
    return SmtpServer(mail_server.host, mail_server.port, security=Security.NONE)


@pytest.fixture(autouse=True)
def reconnects_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that lost its connection waits a moment, not a second."""
    monkeypatch.setattr("prefect_tracktor.messages.smtp._RECONNECT_PAUSE_SECONDS", 0.05)
