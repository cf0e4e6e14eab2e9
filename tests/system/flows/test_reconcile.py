"""`reconcile_manual_statuses`: Tracktor gets the shop's statuses, and no other change."""

import csv
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort
from prefect.settings import PREFECT_API_URL

from prefect_tracktor import (
    AuthenticationError,
    CompletedOrders,
    DesiredStatus,
    IncompleteRun,
    InvalidInput,
    LimitExceeded,
    StatusFile,
    StatusQuery,
    TracktorCredentials,
    TransportLimits,
)
from prefect_tracktor.flows import reconcile_manual_statuses
from prefect_tracktor.sandbox import Faults, Sandbox, Shop
from tests.support.mailers import changed
from tests.system.flows.interrupted import reconcile_all, start

pytestmark = pytest.mark.usefixtures("prefect_api")

Reconcile = Callable[..., Any]


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A shop in which the first forty orders are in production."""
    shop = Shop(orders=60, expired=6)
    for order_id in shop.order_ids[:40]:
        shop.set_status(order_id, status="Cutting", automatic_carrier_updates=False)
    with Sandbox(shop) as sandbox:
        yield sandbox


@pytest.fixture
def ids(tracktor: Sandbox) -> list[int]:
    """The orders in production."""
    return list(tracktor.shop.order_ids[:40])


@pytest.fixture
def reconcile(credentials: TracktorCredentials) -> Reconcile:
    def reconcile(desired: Any, **options: Any) -> Any:
        usual = {"credentials": credentials, "desired": desired}
        return reconcile_manual_statuses(**changed(usual, **options))

    return reconcile


def writes(tracktor: Sandbox) -> list[str]:
    """The paths of all write requests."""
    return [path for method, path in tracktor.calls if method == "POST"]


def statuses(tracktor: Sandbox, order_ids: list[int]) -> list[list[str]]:
    return [tracktor.shop.order(order_id)["statuses"] for order_id in order_ids]


def moved(ids: list[int], status: str = "Sewing") -> list[DesiredStatus]:
    return [DesiredStatus(order_id, status) for order_id in ids]


def carriers(tracktor: Sandbox) -> int:
    """An undelivered order that the carrier updates."""
    return next(
        order_id
        for order_id in tracktor.shop.order_ids[40:]
        if (order := tracktor.shop.order(order_id))["automatic_carrier_updates"]
        and order["statuses"]
        and "delivered" not in order["statuses"]
    )


def test_only_differing_statuses_are_written_and_a_second_run_writes_none(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.csv"
    with plan.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["order_id", "status"])
        rows.writerows([order_id, "Sewing"] for order_id in ids[:4])
        rows.writerows([order_id, "Cutting"] for order_id in [*ids[4:], 1, 2, 3])
    desired = StatusFile(path=str(plan))
    tracktor.reset_calls()
    first = reconcile(desired, chunk_size=15)
    assert first.planned == first.written == tuple(ids[:4])
    assert first.right == tuple(ids[4:])
    assert first.missing == (1, 2, 3)
    assert first.complete
    assert [status for shown in statuses(tracktor, ids[:4]) for status in set(shown)] == [
        "Sewing"
    ] * 4
    # the options, all orders, and for each change: read again, write, read back
    assert first.calls == len(tracktor.calls) == 1 + 43 + 3 * 4
    tracktor.reset_calls()
    second = reconcile(desired, chunk_size=15)
    assert second.right == tuple(ids)
    assert second.complete
    assert writes(tracktor) == []


def test_the_plan_is_published_before_the_first_write_and_later_has_all_outcomes(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int]
) -> None:
    by_key, another_key, in_words, nothing, delivered, missing = [*ids[:5], 1]
    on_its_way = carriers(tracktor)
    tracktor.shop.set_status(in_words, status="Gravur läuft")
    tracktor.shop.set_status(delivered, status="Delivered")
    tracktor.reset_calls()
    seen: list[Artifact] = []
    tracktor.shop.add_listener(lambda _changed: seen.extend(artifacts("reconcile-statuses")))
    report = reconcile(
        [
            DesiredStatus(by_key, "cutting"),
            DesiredStatus(another_key, "gravur_läuft"),
            DesiredStatus(in_words, "Gravur läuft"),
            DesiredStatus(nothing),
            *moved([delivered, missing, on_its_way]),
        ]
    )
    assert report.right == (by_key, in_words)
    assert report.written == (another_key,)
    assert report.skipped == (nothing,)
    assert nothing not in report.read
    assert report.protected == (delivered, on_its_way)
    assert report.missing == (missing,)
    assert report.complete
    assert writes(tracktor) == [f"orders/{another_key}.json"]
    assert seen, "the plan must be there when the first order is written"
    rows = {row["Order id"]: row for row in table(seen[0])}
    assert rows[str(another_key)]["From"] == "Cutting"
    assert rows[str(another_key)]["To"] == "Gravur läuft"
    assert rows[str(another_key)]["Outcome"] == "Due"
    assert rows[str(missing)]["Outcome"] == "Not found"
    assert rows[str(on_its_way)]["Reason"] == "the carrier updates it"
    [outcome] = artifacts("reconcile-statuses")
    assert {row["Outcome"] for row in table(outcome)} >= {"Changed", "Left alone", "Not found"}
    # the tables hold no personal data
    shown = "".join(
        str(artifact.data)
        for key in ("reconcile-statuses", "reconcile-statuses-summary")
        for artifact in artifacts(key)
    )
    assert str(another_key) in shown
    for order in map(tracktor.shop.order, (another_key, delivered, on_its_way)):
        assert not order["order_email"] or order["order_email"] not in shown
        assert not order["customer_full_name"] or order["customer_full_name"] not in shown


def test_a_takeover_changes_delivered_and_carrier_updated_orders(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int]
) -> None:
    on_its_way = carriers(tracktor)
    tracktor.shop.set_status(ids[0], status="Delivered")
    taken = reconcile(moved([on_its_way, ids[0]]), takeover=True)
    assert taken.written == (on_its_way, ids[0])
    assert tracktor.shop.order(on_its_way)["automatic_carrier_updates"] is False


def test_misspelled_statuses_are_named_with_their_rows_before_reading(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.csv"
    plan.write_text(
        f"order_id,status\n{ids[0]},Sewing\n{ids[1]},Sowing\n{ids[2]},Cutting\n{ids[3]},Cuting\n"
    )
    with pytest.raises(InvalidInput) as caught:
        reconcile(StatusFile(path=str(plan)))
    message = str(caught.value)
    none = "text of 6 characters is not one of the account's statuses; did you mean"
    assert f"plan.csv, line 3: {none} 'Sewing'?" in message
    assert f"plan.csv, line 5: {none} 'Cutting'?" in message
    assert tracktor.calls == [("GET", "status-options.json")]


def test_contradictory_rows_are_named_with_both_lines(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.csv"
    plan.write_text(f"order_id,status\n{ids[0]},Sewing\n{ids[1]},Sewing\n{ids[0]},Cutting\n")
    with pytest.raises(InvalidInput, match=r"plan\.csv, line 2 and plan\.csv, line 4 disagree"):
        reconcile(StatusFile(path=str(plan)))
    assert tracktor.calls == [("GET", "status-options.json")]


def test_desired_statuses_can_come_from_a_query(
    reconcile: Reconcile, ids: list[int], tmp_path: Path
) -> None:
    rows = " UNION ALL ".join(f"SELECT {order_id}, 'Sewing'" for order_id in ids[:3])
    query = StatusQuery(
        url=f"sqlite:///{tmp_path / 'erp.sqlite3'}",
        query=f"WITH plan(order_id, status) AS ({rows}) SELECT * FROM plan",  # noqa: S608  # ours
    )
    assert reconcile(query).written == tuple(ids[:3])


def test_fulfilled_orders_are_handed_back_to_the_carrier(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int]
) -> None:
    fulfilled = {
        order_id
        for order_id in ids
        if (parcels := tracktor.shop.order(order_id)["fulfillments"])
        and all(parcel["fulfillment_status"] == "fulfilled" for parcel in parcels)
    }
    assert 0 < len(fulfilled) < len(ids)
    rows = [DesiredStatus(order_id) for order_id in ids]
    report = reconcile(rows, release_fulfilled=True)
    assert set(report.written) == fulfilled
    assert all(
        tracktor.shop.order(order_id)["automatic_carrier_updates"] == (order_id in fulfilled)
        for order_id in ids
    )
    assert reconcile(rows, release_fulfilled=True).written == ()


def test_too_many_status_changes_stop_the_run_before_the_first(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int]
) -> None:
    with pytest.raises(LimitExceeded, match="5 orders are to be written and max_updates is 4"):
        reconcile(moved(ids[:5]), max_updates=4)
    assert writes(tracktor) == []
    assert len(reconcile(moved(ids[:5]), max_updates=5).written) == 5


def test_a_negative_max_updates_is_refused(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int]
) -> None:
    with pytest.raises(InvalidInput, match="max_updates"):
        reconcile(moved(ids), max_updates=-1)
    assert writes(tracktor) == []


def test_wrong_credentials_stop_the_reconciliation(
    reconcile: Reconcile, credentials: TracktorCredentials, ids: list[int]
) -> None:
    wrong = TracktorCredentials(
        uuid=credentials.uuid, api_key="wrong", base_url=credentials.base_url
    )
    with pytest.raises(AuthenticationError):
        reconcile(moved(ids), credentials=wrong)


def test_completed_orders_are_not_read_again_and_a_dry_run_records_none(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int], tmp_path: Path
) -> None:
    completed = CompletedOrders(url=f"sqlite:///{tmp_path / 'completed.sqlite3'}", after_days=0)
    for order_id in ids[:5]:
        tracktor.shop.set_status(order_id, status="Delivered")
    with_parcels = tuple(
        order_id for order_id in ids[:5] if tracktor.shop.order(order_id)["fulfillments"]
    )
    tracktor.reset_calls()
    desired = moved(ids[:5], "Cutting") + moved(ids[5:10])
    dry = reconcile(desired, completed_orders=completed, dry_run=True)
    assert dry.planned == tuple(ids[5:10])
    assert dry.written == ()
    assert dry.complete
    assert writes(tracktor) == []
    first = reconcile(desired, completed_orders=completed, max_updates=5)
    second = reconcile(desired, completed_orders=completed)
    assert first.completed == ()
    assert len(first.read) == 10
    assert second.completed == with_parcels
    assert second.calls == 1 + 10 - len(with_parcels)
    assert (
        reconcile(desired, completed_orders=completed, dry_run=True, takeover=True).completed == ()
    )


def test_an_unpersisted_status_is_reported_and_a_superseded_order_unchanged(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int]
) -> None:
    first, superseded, stubborn = ids[:3]

    def interfere(change: Any) -> None:
        if change.status_key != "sewing":
            return
        if change.order["order_id"] == first:
            tracktor.shop.set_status(superseded, status="Delivered")
        if change.order["order_id"] == stubborn:
            tracktor.shop.set_status(stubborn, status="Ready for pickup")

    tracktor.shop.add_listener(interfere)
    with pytest.raises(IncompleteRun, match=r"1 orders .* do not show what was written") as caught:
        reconcile(moved(ids[:3]), chunk_size=1)
    report = caught.value.report
    assert report.superseded == (superseded,)
    assert set(tracktor.shop.order(superseded)["statuses"]) <= {"delivered"}
    [failure] = report.not_persisted
    assert failure.id == stubborn
    assert failure.reason == "it shows Ready for pickup"


def test_an_unusable_completed_orders_database_makes_the_run_read_every_order(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    broken = CompletedOrders(url=f"sqlite:///{tmp_path / 'file' / 'completed.sqlite3'}")
    tracktor.reset_calls()
    report = reconcile(moved(ids[:3]), completed_orders=broken, verify=False)
    assert report.written == tuple(ids[:3])
    assert len(tracktor.calls) == 1 + 3 + 3 + 3


def test_only_planned_statuses_are_written_despite_faults(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int], credentials: TracktorCredentials
) -> None:
    tracktor.faults = Faults.everything(rate=0.2, seed=3, retry_after_seconds=0)
    before = len(tracktor.shop.status_changes)
    with stamina.set_testing(True, attempts=20):
        report = reconcile(moved(ids[:30]) + moved(ids[30:], "Cutting"))
    assert report.complete
    changes = tracktor.shop.status_changes[before:]
    assert sorted(change.order_id for change in changes) == ids[:30]
    assert sum(tracktor.faults_met.values()) > 5


def test_the_next_run_writes_statuses_that_failed(
    reconcile: Reconcile, tracktor: Sandbox, ids: list[int], credentials: TracktorCredentials
) -> None:
    limits = TransportLimits(max_attempts=1, max_concurrency=1)
    hasty = credentials.model_copy(update={"limits": limits})
    tracktor.faults = Faults(server_error=0.3, seed=2)  # the status options are read
    with pytest.raises(IncompleteRun) as caught:
        reconcile(moved(ids[:20]), credentials=hasty)
    report = caught.value.report
    assert report.failed or report.not_written
    tracktor.faults = Faults()
    assert reconcile(moved(ids[:20])).complete
    assert all(set(shown) == {"Sewing"} for shown in statuses(tracktor, ids[:20]))


def test_the_next_run_finishes_a_killed_reconciliation(
    reconcile: Reconcile, tracktor: Sandbox, credentials: TracktorCredentials, ids: list[int]
) -> None:
    tracktor.faults = Faults(latency_seconds=0.03)
    base = {
        "uuid": tracktor.uuid,
        "api_key": tracktor.api_key,
        "base_url": credentials.base_url,
    }
    before = len(tracktor.shop.status_changes)
    some_written = threading.Event()
    tracktor.shop.add_listener(lambda _changed: some_written.set())
    run = start(reconcile_all, PREFECT_API_URL.value(), base, ids)
    assert some_written.wait(120)
    run.kill()
    run.join()
    tracktor.faults = Faults()
    by_the_killed = len(tracktor.shop.status_changes) - before
    assert 0 < by_the_killed < len(ids)
    report = reconcile(moved(ids))
    assert len(report.right) >= by_the_killed
    assert sorted(change.order_id for change in tracktor.shop.status_changes[before:]) == ids


def artifacts(key: str) -> list[Artifact]:
    with get_client(sync_client=True) as client:
        return client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
            sort=ArtifactSort.UPDATED_DESC,
            limit=1,
        )


def table(artifact: Artifact) -> list[dict[str, str]]:
    """A table artifact's rows."""
    rows: list[dict[str, str]] = json.loads(str(artifact.data))
    return rows
