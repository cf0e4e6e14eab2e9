"""Flows on task runners with several processes, and the ledger in PostgreSQL."""

from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner
from prefect_dask.task_runners import DaskTaskRunner

from prefect_tracktor import (
    AuthenticationError,
    CompletedOrders,
    IncompleteRun,
    NotificationLedger,
    ReadingOptions,
    TracktorCredentials,
    TransportLimits,
)
from prefect_tracktor.flows import MailReport, email_expired_exceptions
from prefect_tracktor.sandbox import MailServer, Sandbox
from tests.support.counting import CountingServer
from tests.support.mailers import mailer_of
from tests.system.flows.conftest import written_to
from tests.system.flows.interrupted import start
from tests.system.runs.test_scan import scan_all

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A local Dask cluster of two processes, which writes no memory to disk.

    They are forked from a process that has imported Prefect.
    """
    start(len, "").join()  # else Dask chooses what that process imports
    forked = dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    with (
        forked,
        LocalCluster(  # type: ignore[no-untyped-call]  # Dask has no annotations
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
            local_directory=tmp_path_factory.mktemp("dask"),
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def parameters(
    tracktor: Sandbox, credentials: TracktorCredentials, mail: MailServer, postgresql_url: str
) -> dict[str, Any]:
    # the tests share a database, in which each has another account
    return {
        "credentials": credentials,
        "orders": list(tracktor.shop.order_ids),
        "mailer": mailer_of(mail, ledger=NotificationLedger(url=postgresql_url)),
        "reading": ReadingOptions(
            completed_orders=CompletedOrders(url=postgresql_url), chunk_size=10, chunks_at_once=2
        ),
    }


def on(cluster: LocalCluster, parameters: dict[str, Any]) -> MailReport:
    dask: Any = DaskTaskRunner(address=cluster.scheduler_address)
    try:
        report: MailReport = email_expired_exceptions.with_options(task_runner=dask)(**parameters)
    except IncompleteRun as incomplete:
        report = incomplete.report
    return report


def test_two_simultaneous_runs_on_dask_send_each_message_once(
    cluster: LocalCluster,
    parameters: dict[str, Any],
    mail: MailServer,
    tracktor: Sandbox,
    tmp_path: Path,
) -> None:
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path}):
        with ThreadPoolExecutor(2) as threads:
            # the context has the test's Prefect API
            runs = [threads.submit(copy_context().run, on, cluster, parameters) for _ in range(2)]
            reports = [run.result() for run in runs]
        third = on(cluster, parameters)
    customers = tracktor.shop.customers_to_write_to()
    assert sorted(written_to(mail)) == sorted(customers.values())
    assert {order_id for report in reports for order_id in report.sent} == set(customers)
    assert set(third.already_told) == set(customers)
    assert third.completed
    assert sorted(third.read + third.completed) == sorted(tracktor.shop.order_ids)
    with Client(cluster.scheduler_address) as client:  # type: ignore[no-untyped-call]  # see above
        executed = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert len(executed) == 2
    assert all(executed.values())
    spilled = Path(cluster.workers[0].local_directory).parent
    # Prefect stores the exception of a failed run, with its report, in base64
    stored = [*_contents(spilled), *map(b64decode, _contents(tmp_path))]
    assert not any(b"@example" in content for content in stored)


def _contents(folder: Path) -> Iterator[bytes]:
    return (file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_refused_credentials_end_a_run_on_dask_early(
    cluster: LocalCluster, parameters: dict[str, Any], tracktor: Sandbox, mail: MailServer
) -> None:
    right = parameters["credentials"]
    wrong = TracktorCredentials(uuid=right.uuid, api_key="wrong", base_url=right.base_url)
    with pytest.raises(AuthenticationError):
        on(cluster, parameters | {"credentials": wrong})
    begun = {path for _, path in tracktor.calls}
    assert begun <= {f"orders/{i}.json" for i in parameters["orders"][:20]}
    assert not mail.messages


def test_chunks_in_several_processes_share_the_rate_limit(cluster: LocalCluster) -> None:
    ids = list(range(1, 61))
    dask: Any = DaskTaskRunner(address=cluster.scheduler_address)
    with CountingServer() as server:
        credentials = server.credentials_with(limits=TransportLimits(requests_per_second=20))
        batches = scan_all.with_options(task_runner=dask)(
            credentials, ids, ReadingOptions(chunk_size=15, chunks_at_once=2)
        )
    assert [order_id for batch in batches for order_id in batch] == ids
    # together they take two seconds, as twenty may start at once; without the shared limit, half a
    # second. A busy machine may delay the first request
    assert max(server.arrivals) - min(server.arrivals) > 1.2


def test_a_scan_works_on_a_process_pool_task_runner(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    ids = list(tracktor.shop.order_ids[:20])
    pool: Any = ProcessPoolTaskRunner(max_workers=1)
    in_pool = scan_all.with_options(task_runner=pool)
    batches = in_pool(credentials, [*ids, 1], ReadingOptions(chunk_size=11))
    assert [order_id for batch in batches for order_id in batch] == ids
