"""A ledger of each kind, and mail servers of all tempers."""

from collections.abc import Iterator

import pytest
from prefect_email import EmailServerCredentials

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
def server_block(mail_server: MailServer) -> EmailServerCredentials:
    """Its block."""
    return EmailServerCredentials(
        smtp_server=mail_server.host, smtp_port=mail_server.port, smtp_type="INSECURE"
    )
