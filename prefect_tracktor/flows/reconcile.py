"""`reconcile_manual_statuses`: set Tracktor's manual statuses from the shop's own records."""

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.runs.engine import run_job
from prefect_tracktor.runs.needs import TO_SET_STATUSES
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import StatusReport
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.runs.set_statuses import StatusJob, status_options
from prefect_tracktor.sources import StatusFile, StatusQuery, iter_desired
from prefect_tracktor.statuses.desired import DesiredStatus, agreed, checked_statuses
from prefect_tracktor.statuses.plan import Reconciliation


@flow(name="Reconcile manual statuses")
def reconcile_manual_statuses(
    credentials: TracktorCredentials,
    desired: list[DesiredStatus] | StatusFile | StatusQuery,
    *,
    dry_run: bool = False,
    max_updates: int = 1000,
    takeover: bool = False,
    release_fulfilled: bool = False,
    verify: bool = True,
    reading: ReadingOptions = DEFAULT_READING,
) -> StatusReport:
    """Set manual statuses from the shop's own records.

    All rows are checked, all orders are read and compared, and the plan is shown before the first
    order is written. An order that the carrier updates, or that has a delivered parcel, is left
    alone. Orders that have the desired status are not written, so a second run writes nothing.

    Args:
        desired: The desired statuses: a list, a file or a query.
        takeover: Also set orders that the carrier updates, and delivered ones.
        release_fulfilled: Return orders that are fulfilled, not delivered and under a manual
            status to the carrier, whatever their desired status.

    Raises:
        InvalidInput: A status is unknown, rows disagree, or there is no row at all; nothing was
            written.

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
    if not rows and not reading.allow_empty:
        raise InvalidInput(
            "desired contains no order: the list, file or query has no rows. If this is expected,"
            " set allow_empty of the flow's reading options"
        )
    options, calls = status_options(credentials)
    agreement = agreed(checked_statuses(rows, options))
    by_order = {order_id: row.desired for order_id, row in agreement.items()}
    order_ids = [
        order_id for order_id, row in by_order.items() if release_fulfilled or not row.asks_nothing
    ]

    def sets_only_a_status(order_id: int) -> bool:
        # carrier updates can be switched for delivered orders, too
        return by_order[order_id].automatic_carrier_updates is None

    # rows without a desired status are allowed
    reading = reading.model_copy(update={"allow_empty": True})
    if takeover:
        reading = reading.model_copy(update={"completed_orders": None})
    return run_job(
        Scan(credentials, order_ids, reading, may_skip=sets_only_a_status, calls=calls),
        StatusJob(
            credentials,
            Reconciliation(
                by_order, options, takeover=takeover, release_fulfilled=release_fulfilled
            ),
            title="Reconcile statuses",
            key="reconcile-statuses",
            dry_run=dry_run,
            max_updates=max_updates,
            verify=verify,
            needs=TO_SET_STATUSES,
            skipped=tuple(by_order.keys() - set(order_ids)),
        ),
    )
