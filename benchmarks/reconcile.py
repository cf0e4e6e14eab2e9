"""Reconciling 10,000 desired rows with 1 % changes compared with reading the same 10,000 orders.

Run it with `make benchmark`. The sandbox runs in another process and is not measured. Both run one
after the other in the same flow run.
"""

import csv
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from prefect_tracktor import DesiredStatus, StatusFile, TracktorCredentials
from prefect_tracktor.flows import reconcile_manual_statuses
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.sandbox import RunningSandbox, sandbox_process
from prefect_tracktor.tasks import update_orders

ROUNDS = 3
ORDERS = 10_000
CHANGES_A_ROUND = ORDERS // 100
STAGES = ("Cutting", "Sewing")


def read(credentials: TracktorCredentials, orders: Sequence[int]) -> None:
    """Read all orders, as the flow does."""
    for _ in Scan(credentials, orders):
        pass


@flow
def compare(credentials: TracktorCredentials, plan: Path, first_row: int) -> float:
    """Read all orders, then reconcile them; print and return the ratio of the times.

    Only the rows of the plan from `first_row` on differ from the statuses in Tracktor.
    """
    with plan.open(newline="") as file:
        order_ids = [int(row["order_id"]) for row in csv.DictReader(file)]
    reading = seconds(lambda: read(credentials, order_ids))
    before = megabytes()
    reconciling = seconds(
        lambda: reconcile_manual_statuses(credentials, StatusFile(path=str(plan)))
    )
    ratio = reconciling / reading
    print(
        f"from row {first_row}: read in {reading:.1f} s, reconciled in {reconciling:.1f} s,"
        f" ratio {ratio:.2f}, peak memory {before:.0f} MB before and {megabytes():.0f} MB after"
    )
    return ratio


def seconds(work: Callable[[], object]) -> float:
    """Measure the time of some work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def megabytes() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_plan(plan: Path, order_ids: Sequence[int], moved: Sequence[int]) -> None:
    """Write the desired statuses."""
    later = set(moved)
    with plan.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["order_id", "status"])
        rows.writerows([order_id, STAGES[order_id in later]] for order_id in order_ids)


def writes_so_far(sandbox: RunningSandbox) -> int:
    """Return the number of updates that the sandbox has received."""
    calls = httpx.get(sandbox.state_url, timeout=60).json()["calls"]
    return sum(count for call, count in calls.items() if call.startswith("POST"))


def main() -> None:
    """Compare in several rounds, each with a hundred more changed rows."""
    with (
        prefect_test_harness(server_startup_timeout=300),
        sandbox_process(orders=ORDERS, prepared=True) as sandbox,
        tempfile.TemporaryDirectory() as folder,
    ):
        credentials = TracktorCredentials(
            uuid=sandbox.uuid, api_key=sandbox.api_key, base_url=sandbox.base_url
        )
        ids, plan = sandbox.order_ids, Path(folder, "plan.csv")
        update_orders(
            credentials,
            [DesiredStatus(i, STAGES[0], automatic_carrier_updates=False) for i in ids],
        )
        writes, ratios = writes_so_far(sandbox), []
        for round_number in range(1, ROUNDS + 1):
            changed = round_number * CHANGES_A_ROUND
            write_plan(plan, ids, ids[:changed])
            ratios.append(compare(credentials, plan, changed - CHANGES_A_ROUND + 1))
            written, writes = writes_so_far(sandbox) - writes, writes_so_far(sandbox)
            print(f"  {written} writes for {CHANGES_A_ROUND} changes")
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
