"""`reconcile_manual_statuses`: keep Tracktor's manual statuses true to the shop's own records."""

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.flows.parameters import flow
from prefect_tracktor.runs.answers import TO_SET_STATUSES
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.runs.set_statuses import StatusReport, StatusRun, status_options
from prefect_tracktor.sources import StatusFile, StatusQuery, iter_desired
from prefect_tracktor.statuses.desired import DesiredStatus, agreed, checked_statuses
from prefect_tracktor.statuses.plan import Reconciliation
from prefect_tracktor.storage.completed_orders import CompletedOrders


@flow(name="Reconcile manual statuses", flow_run_name="reconcile-manual-statuses")
def reconcile_manual_statuses(
    credentials: TracktorCredentials,
    desired: list[DesiredStatus] | StatusFile | StatusQuery,
    *,
    dry_run: bool = False,
    max_updates: int = 1000,
    takeover: bool = False,
    release_fulfilled: bool = False,
    allow_empty: bool = False,
    verify: bool = True,
    settled: CompletedOrders | None = None,
    chunk_size: int = 500,
    chunks_at_once: int = 1,
) -> StatusReport:
    """Set manual statuses from the shop's own records.

    All rows are checked, all orders are read and compared, and the plan is shown before the first
    order is written. An order that the carrier updates, or that has a delivered parcel, is left
    alone. Orders that are right already are not written, so a second run writes nothing.

    Args:
        credentials: The Tracktor account.
        desired: The desired statuses: a list, a file or a query.
        dry_run: Show the plan, and write nothing. Read-only credentials do the same.
        max_updates: If more orders than this need a change, none is written.
        takeover: Also set orders that the carrier updates, and delivered ones.
        release_fulfilled: Return orders that are fulfilled, not delivered and under a manual
            status to the carrier, whatever their desired status.
        allow_empty: Do not fail if `desired` has no row.
        verify: Read the written orders back, and report those that do not show it.
        settled: Completed orders, which are not read again; with takeover all are read.
        chunk_size: How many orders one task run reads or writes.
        chunks_at_once: How many chunks are read at once; more than one helps only if the flow's
            task runner has several processes.

    Returns:
        What was found and done.

    Raises:
        InvalidInput: A row or an argument cannot be right: an unknown status, rows that disagree,
            no row at all. Nothing was written.
        LimitExceeded: More orders than `max_updates` are to be written; none was.
        IncompleteRun: All that could be done was done, and something is left: orders that could
            not be read or written, or that do not show what was written. Its `report` says which.

    Example:
        >>> from prefect_tracktor import DesiredStatus
        >>> from prefect_tracktor.flows import reconcile_manual_statuses
        >>> report = reconcile_manual_statuses(
        ...     credentials, [DesiredStatus(order_ids[0], "Sewing")], dry_run=True
        ... )
        >>> len(report.written)
        0
    """
    rows = list(iter_desired(desired))
    options, calls = status_options(credentials)
    agreement = agreed(checked_statuses(rows, options))
    wishes = {order_id: row.desired for order_id, row in agreement.items()}
    asked = [
        order_id for order_id, wish in wishes.items() if release_fulfilled or not wish.asks_nothing
    ]

    def asks_for_a_status_only(order_id: int) -> bool:
        return wishes[order_id].automatic_carrier_updates is None

    return StatusRun(
        credentials,
        Scan(
            credentials,
            asked,
            chunk_size=chunk_size,
            chunks_at_once=chunks_at_once,
            settled=None if takeover else settled,
            # what is asked about the carrier's updates can be done for delivered orders too
            may_skip=asks_for_a_status_only,
            calls=calls,
            # rows that ask for nothing are rows all the same
            allow_empty=allow_empty or bool(rows),
            needs=TO_SET_STATUSES,
        ),
        Reconciliation(
            wishes,
            options,
            takeover=takeover,
            release_fulfilled=release_fulfilled,
        ),
        title="Reconcile statuses",
        dry_run=dry_run or credentials.read_only,
        max_updates=max_updates,
        verify=verify,
        chunk_size=chunk_size,
        skipped=tuple(wishes.keys() - set(asked)),
    ).carry_out()
