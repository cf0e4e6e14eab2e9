"""Scans of a shop in chunks: order, limits, errors, progress."""

from collections.abc import Iterator
from typing import Any

import pytest
import stamina
from prefect import State, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import TaskRunSort
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import SecretStr

from prefect_tracktor import (
    AuthenticationError,
    CompletedOrders,
    InvalidInput,
    ReadingOptions,
    TracktorCredentials,
    TransportLimits,
)
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.sandbox import Faults, Sandbox
from prefect_tracktor.sources import FoundOrder
from tests.support.counting import CountingServer
from tests.support.programs import free_port, waiting

pytestmark = pytest.mark.usefixtures("prefect_api")


@flow
def scan_all(
    credentials: TracktorCredentials, orders: list[int], reading: ReadingOptions
) -> list[list[int]]:
    scan = Scan(credentials, orders, reading)
    return [[order.order_id for order in batch.found] for batch in scan]


@pytest.mark.parametrize("chunks_at_once", [1, 3])
def test_a_scan_yields_chunks_in_order_with_any_number_at_once(
    tracktor: Sandbox, credentials: TracktorCredentials, chunks_at_once: int
) -> None:
    ids = list(tracktor.shop.order_ids)
    batches = scan_all(
        credentials, ids, ReadingOptions(chunk_size=8, chunks_at_once=chunks_at_once)
    )
    assert batches == [ids[start : start + 8] for start in range(0, len(ids), 8)]
    assert len(tracktor.calls) == len(ids)


def test_a_scan_leaves_completed_orders_out_of_every_chunk(
    tracktor: Sandbox, credentials: TracktorCredentials, tmp_path: Any
) -> None:
    completed = CompletedOrders(url=f"sqlite:///{tmp_path / 'completed.sqlite3'}")
    reading = ReadingOptions(chunk_size=7, chunks_at_once=3, completed_orders=completed)

    @flow
    def scan_twice() -> tuple[Scan, Scan]:
        scans = []
        for _ in range(2):
            scan = Scan(credentials, list(tracktor.shop.order_ids), reading)
            list(scan)
            scan.remember_completed(unless=())
            scans.append(scan)
        return scans[0], scans[1]

    first, second = scan_twice()
    assert second.completed
    assert sorted(second.completed + second.read) == sorted(first.read)
    assert first.calls + second.calls == len(tracktor.calls)


def test_a_scan_starts_no_more_than_chunks_at_once(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    ids = list(tracktor.shop.order_ids)
    begun: list[int] = []

    class Source:
        def find_orders(self) -> Iterator[FoundOrder]:
            for order_id in ids:
                begun.append(order_id)
                yield FoundOrder(order_id)

    @flow
    def read_the_first_chunk() -> None:
        next(iter(Scan(credentials, Source(), ReadingOptions(chunk_size=5, chunks_at_once=3))))

    read_the_first_chunk()
    assert begun == ids[:15]
    assert len(tracktor.calls) <= 15


def test_refused_credentials_end_a_scan_early(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    wrong = TracktorCredentials(
        uuid=credentials.uuid, api_key="wrong", base_url=credentials.base_url
    )
    ids = list(tracktor.shop.order_ids)
    with pytest.raises(AuthenticationError):
        scan_all(wrong, ids, ReadingOptions(chunk_size=10, chunks_at_once=2))
    # at most the two chunks that had been started
    assert {path for _, path in tracktor.calls} <= {f"orders/{i}.json" for i in ids[:20]}


@pytest.mark.parametrize("chunks_at_once", [1, 3])
def test_all_chunks_together_respect_the_concurrency_limit(chunks_at_once: int) -> None:
    with CountingServer() as server:
        credentials = server.credentials_with(limits=TransportLimits(max_concurrency=7))
        reading = ReadingOptions(chunk_size=20, chunks_at_once=chunks_at_once)
        batches = scan_all(credentials, list(range(1, 121)), reading)
    assert sum(map(len, batches)) == 120
    assert 7 // chunks_at_once <= server.most_at_once <= 7


def test_more_chunks_than_requests_at_once_are_refused_before_reading(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    limited = credentials.model_copy(update={"limits": TransportLimits(max_concurrency=4)})
    problem = "chunks_at_once is 5, and the credentials allow 4 requests at once"
    with pytest.raises(InvalidInput, match=problem):
        Scan(limited, [1], ReadingOptions(chunks_at_once=5))
    assert not tracktor.calls


def test_a_task_runner_with_fewer_workers_than_chunks_reads_all(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    one_thread: Any = ThreadPoolTaskRunner(max_workers=1)
    narrow = scan_all.with_options(task_runner=one_thread)
    ids = list(tracktor.shop.order_ids)
    batches = narrow(credentials, ids, ReadingOptions(chunk_size=8, chunks_at_once=4))
    assert [order_id for batch in batches for order_id in batch] == ids


def unreachable() -> TracktorCredentials:
    """Credentials with the address of a closed port."""
    return TracktorCredentials(
        uuid="0" * 32, api_key=SecretStr("k3y"), base_url=f"http://127.0.0.1:{free_port()}"
    )


def test_a_scan_of_an_unreachable_tracktor_ends_after_its_first_chunk(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ids = list(range(1, 1001))

    @flow
    def read() -> Scan:
        scan = Scan(unreachable(), ids, ReadingOptions(chunk_size=100))
        assert [len(batch.failed) for batch in scan] == [100] * 10
        return scan

    with stamina.set_testing(True, attempts=3, cap=True):
        state = read(return_state=True)
    scan = state.result()
    assert [failure.id for failure in scan.failed] == ids
    assert scan.calls <= 4 * 3
    assert (scan.read, scan.missing) == ([], [])
    wait_for_task_states(state, ["Failed"])
    assert progress_of(state) == 0
    assert sum("Waiting" in entry.getMessage() for entry in caplog.records) == 1
    assert not any("retry_scheduled" in entry.getMessage() for entry in caplog.records)


def test_an_outage_during_a_scan_ends_it_and_keeps_the_orders_read_before(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    ids = list(tracktor.shop.order_ids)

    @flow
    def read() -> Scan:
        scan = Scan(credentials, ids, ReadingOptions(chunk_size=10))
        for _ in scan:
            tracktor.faults = Faults(dropped=1.0)
        return scan

    with stamina.set_testing(True, attempts=2, cap=True):
        state = read(return_state=True)
    scan = state.result()
    assert scan.read == ids[:10]
    assert [failure.id for failure in scan.failed] == ids[10:]
    wait_for_task_states(state, ["Completed", "Failed"])
    assert progress_of(state) == 100 * 10 // len(ids)


def test_the_progress_of_a_scan_counts_a_repeated_id_once(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    @flow
    def read() -> None:
        list(Scan(credentials, [tracktor.shop.order_ids[0]] * 5))

    assert progress_of(read(return_state=True)) == 100


def wait_for_task_states(state: State[Any], names: list[str]) -> None:
    """Wait, as Prefect stores task runs a little later."""
    for attempt in waiting():
        with attempt, get_client(sync_client=True) as prefect:
            runs = prefect.read_task_runs(
                flow_run_filter=FlowRunFilter(id={"any_": [state.state_details.flow_run_id]}),
                sort=TaskRunSort.EXPECTED_START_TIME_ASC,
            )
            assert [run.state_name for run in runs] == names


def progress_of(state: State[Any]) -> Any:
    with get_client(sync_client=True) as prefect:
        [artifact] = prefect.read_artifacts(
            flow_run_filter=FlowRunFilter(id={"any_": [state.state_details.flow_run_id]})
        )
    return artifact.data
