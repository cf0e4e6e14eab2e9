"""Timeouts and rights of databases, and the errors about them."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, make_url

from prefect_tracktor import CompletedOrders, InvalidInput, NotificationLedger, StatusQuery
from prefect_tracktor.errors import DatabaseError, LedgerError
from prefect_tracktor.storage import postgresql
from prefect_tracktor.storage.ledger import NoticeKey

KEY = NoticeKey("shop", 1, 7, "exception:expired")
MAX_SECONDS = 60


@contextmanager
def ends_in_time() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < MAX_SECONDS


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    postgresql_url: str = request.getfixturevalue("postgresql_url")
    return postgresql_url


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "RESPONSE_SECONDS", 3)
    monkeypatch.setattr(postgresql, "CONNECT_SECONDS", 3)
    monkeypatch.setattr(postgresql, "LOCK_SECONDS", 1)


@contextmanager
def frozen(url: str) -> Iterator[None]:
    """Stop all processes of the server; its sockets stay open."""
    with psycopg.connect(url) as connection:
        pids = [pid for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity")]
        pids.append(_parent(pids[0]))
    for pid in pids:
        _signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_calls_to_a_frozen_postgresql_server_time_out(short: None, url: str) -> None:
    known = NotificationLedger(url=f"{url}&application_name=known")
    new = NotificationLedger(url=f"{url}&application_name=new")
    known.states([KEY])
    with frozen(url), ends_in_time(), ThreadPoolExecutor() as threads:
        claimed = threads.submit(known.claim, [KEY], run="first")
        states = threads.submit(new.states, [KEY])
        with pytest.raises(LedgerError, match=r"no answer|timeout"):
            claimed.result()
        with pytest.raises(LedgerError, match="timeout"):
            states.result()
    assert new.states([KEY]) == {}


def test_a_transaction_on_a_frozen_server_times_out(short: None, url: str) -> None:
    ledger = NotificationLedger(url=f"{url}&application_name=within")

    def read_twice() -> None:
        with ledger.transaction() as database:
            database.exec_driver_sql("SELECT 1")
            with frozen(url):
                database.exec_driver_sql("SELECT 1")

    with ends_in_time(), pytest.raises(DatabaseError, match="no answer from the server within 3 s"):
        read_twice()


def test_a_status_query_on_a_frozen_server_times_out(
    short: None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_tracktor.sources.status_query._QUERY_SECONDS", 1, raising=False)
    driver_url = make_url(url).set(drivername="postgresql+psycopg")
    query = StatusQuery(
        url=driver_url.render_as_string(hide_password=False),
        query="SELECT number AS order_id, 'Sewing' AS status FROM generate_series(1, 9999) number",
    )
    rows = query.desired()
    next(rows)
    with frozen(url), ends_in_time(), pytest.raises(InvalidInput, match="no answer"):
        list(rows)
    with frozen(url), ends_in_time(), pytest.raises(InvalidInput, match="timeout"):
        query.verify()
    slow = query.model_copy(update={"query": "SELECT pg_sleep(60)"})
    with ends_in_time(), pytest.raises(InvalidInput, match="QueryCanceled"):
        slow.verify()


def test_a_lock_timeout_names_the_table(short: None, url: str) -> None:
    ledger = NotificationLedger(url=f"{url}&application_name=locked")
    ledger.states([KEY])
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE tracktor_notifications IN ACCESS EXCLUSIVE MODE")
        with ends_in_time(), pytest.raises(LedgerError, match="lock on tracktor_notifications"):
            ledger.claim([KEY], run="first")
    assert ledger.claim([KEY], run="first") == {KEY}
    ledger.release([KEY], run="first")


def test_a_locked_sqlite_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect_tracktor.storage.database._SQLITE_LOCK_SECONDS", 1)
    completed = CompletedOrders(url=f"sqlite:///{tmp_path / 'completed.sqlite3'}")
    completed.verify()
    with create_engine(completed.url.get_secret_value()).connect() as other:
        other.exec_driver_sql("BEGIN EXCLUSIVE")
        with ends_in_time(), pytest.raises(DatabaseError, match="has held the file locked"):
            completed.among("shop", [1])
        other.exec_driver_sql("ROLLBACK")
    assert completed.among("shop", [1]) == set()


def test_a_user_without_create_rights_can_use_existing_tables(url: str) -> None:
    NotificationLedger(url=f"{url}&application_name=owner").verify()
    with psycopg.connect(url) as owner:
        owner.execute("CREATE ROLE clerk LOGIN PASSWORD 'clerk'")
        owner.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        owner.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk")
    clerk = make_url(url).set(username="clerk", password="clerk")
    ledger = NotificationLedger(url=clerk.render_as_string(hide_password=False))
    assert ledger.claim([KEY], run="first") == {KEY}
    ledger.release([KEY], run="first")


def test_the_place_of_a_ledger_hides_the_password() -> None:
    ledger = NotificationLedger(url="postgresql://me:s3cret@db.example/shop")
    assert ledger.place == "shop at db.example"
    assert not ledger.is_file
    assert NotificationLedger().is_file
