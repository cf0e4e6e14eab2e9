"""`export_tracking`: tables in files or a warehouse, with assets."""

import csv
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from prefect_tracktor import (
    CompletedOrders,
    IncompleteRun,
    NotificationLedger,
    ReadingOptions,
    TracktorCredentials,
)
from prefect_tracktor.flows import (
    ExportFiles,
    ExportWarehouse,
    TeamDigest,
    WatchOptions,
    export_tracking,
    report_exceptions,
    watch_shop,
)
from prefect_tracktor.sandbox import Faults, Sandbox
from prefect_tracktor.tracking.export import place_of_folder, place_of_warehouse

pytestmark = pytest.mark.usefixtures("prefect_api")


def read(folder: Path, table: str) -> list[dict[str, str]]:
    with (folder / f"{table}.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def events_of(asset: str, kind: str) -> list[dict[str, Any]]:
    """The events about an asset, which the client sends a moment later."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while not found and time.monotonic() < deadline:
            answer = client.request(
                "POST",
                "/events/filter",
                json={"filter": {"resource": {"id": [asset]}, "event": {"name": [kind]}}},
            )
            found = answer.json()["events"]
            time.sleep(0.2)
    return found


def test_an_export_writes_three_files_and_three_assets(
    tracktor: Sandbox, credentials: TracktorCredentials, tmp_path: Path
) -> None:
    ids = list(tracktor.shop.order_ids)[:50]
    report = export_tracking(credentials, ids, ExportFiles(folder=str(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "orders.csv",
        "parcel_steps.csv",
        "parcels.csv",
    ]
    assert {name: len(read(tmp_path, name)) for name in report.rows} == report.rows
    assert [int(row["order_id"]) for row in read(tmp_path, "orders")] == ids
    place = place_of_folder(str(tmp_path))
    for table, rows in report.rows.items():
        [event] = events_of(f"{place}/{table}", "prefect.asset.materialization.succeeded")
        assert event["payload"]["rows"] == rows
        related = {entry["prefect.resource.id"] for entry in event["related"]}
        assert f"tracktor://{credentials.account}" in related


def test_a_dry_run_of_an_export_counts_rows_and_writes_nothing(
    tracktor: Sandbox, credentials: TracktorCredentials, tmp_path: Path
) -> None:
    ids = list(tracktor.shop.order_ids)[:10]
    report = export_tracking(credentials, ids, ExportFiles(folder=str(tmp_path)), dry_run=True)
    assert report.rows["orders"] == 10
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_order_keeps_the_files_of_the_previous_export(
    tracktor: Sandbox, credentials: TracktorCredentials, tmp_path: Path
) -> None:
    ids = list(tracktor.shop.order_ids)[:10]
    to = ExportFiles(folder=str(tmp_path))
    export_tracking(credentials, ids[:5], to)
    before = (tmp_path / "orders.csv").read_text()
    with Sandbox(tracktor.shop, faults=Faults(seed=1, not_json=0.5)) as faulty:
        once = credentials.limits.model_copy(update={"max_attempts": 1})
        away = credentials.model_copy(update={"base_url": faulty.base_url, "limits": once})
        with pytest.raises(IncompleteRun) as caught:
            export_tracking(away, ids, to)
    assert 0 < len(caught.value.report.failed) < 10
    assert (tmp_path / "orders.csv").read_text() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_warehouse_keeps_completed_orders_that_are_not_read(
    tracktor: Sandbox, credentials: TracktorCredentials, tmp_path: Path, monkeypatch: Any
) -> None:
    path = str(tmp_path / "shop.duckdb")
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", path)
    completed = CompletedOrders(url=f"sqlite:///{tmp_path / 'completed.sqlite3'}", after_days=0)
    ids = list(tracktor.shop.order_ids)[:40]
    reading = ReadingOptions(completed_orders=completed)
    to = ExportWarehouse(destination="duckdb")
    first = export_tracking(credentials, ids, to, reading=reading)
    second = export_tracking(credentials, ids, to, reading=reading)
    assert first.rows["orders"] == 40
    assert second.completed
    assert second.rows["orders"] == 40 - len(second.completed)
    with duckdb.connect(path) as database:
        for table, rows in first.rows.items():
            count = "SELECT count(*) FROM tracktor.{}"
            assert database.execute(count.format(table)).fetchone() == (rows,)


def test_exported_files_include_completed_orders(
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    ledger: NotificationLedger,
    tmp_path: Path,
) -> None:
    completed = CompletedOrders(url=f"sqlite:///{tmp_path / 'completed.sqlite3'}", after_days=0)
    ids = list(tracktor.shop.order_ids)[:40]
    options: dict[str, Any] = {"reading": ReadingOptions(completed_orders=completed)}
    assert report_exceptions(credentials, ids, ledger=ledger, **options).completed == ()
    assert completed.among(credentials.account, ids)
    to = ExportFiles(folder=str(tmp_path))
    assert export_tracking(credentials, ids, to, **options).rows["orders"] == 40
    options |= {"digest": TeamDigest(), "options": WatchOptions(ledger=ledger)}
    watched = watch_shop(credentials, ids, export=to, **options)
    assert watched.export is not None
    assert watched.export.rows["orders"] == 40


@pytest.mark.parametrize(
    ("folder", "place"),
    [
        ("s3://bucket/tracking/", "s3://bucket/tracking"),
        ("https://me:geheim@host/a?token=geheim#x", "https://host/a"),
        ("simplecache::s3://bucket/a b", "s3://bucket/a%20b"),
        ("/srv/tracking", "file:///srv/tracking"),
    ],
)
def test_an_assets_key_holds_no_secrets(folder: str, place: str) -> None:
    assert place_of_folder(folder) == place
    assert place_of_warehouse("dlt.destinations.postgres", "tracktor") == "postgres://tracktor"


def test_export_tracking_runs_as_a_subflow(
    tracktor: Sandbox, credentials: TracktorCredentials, tmp_path: Path
) -> None:
    @flow
    def nightly() -> int:
        ids = list(tracktor.shop.order_ids)[:3]
        report = export_tracking(credentials, ids, ExportFiles(folder=str(tmp_path)))
        return report.rows["orders"]

    assert nightly() == 3


def test_a_relative_export_folder_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ExportFiles(folder="tables").folder == str(tmp_path / "tables")
    assert ExportFiles(folder="s3://bucket/tables").folder == "s3://bucket/tables"
