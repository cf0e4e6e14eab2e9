"""`announce_exceptions`: events for parcels with exceptions, which have no webhook."""

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.figures import ExceptionStats
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.runs.engine import run_job
from prefect_tracktor.runs.notification_jobs import event_job
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import ExceptionsReport
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.saved_blocks import shared_ledger
from prefect_tracktor.sources import Orders
from prefect_tracktor.storage.ledger import NotificationLedger
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds

ALL_EXCEPTIONS = frozenset({"exception:all"})


@flow(name="Announce exceptions")
def announce_exceptions(
    credentials: TracktorCredentials,
    orders: Orders,
    *,
    dry_run: bool = False,
    record_only: bool = False,
    max_events: int = 500,
    conditions: frozenset[str] = ALL_EXCEPTIONS,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    include_cancelled: bool = False,
    ledger: NotificationLedger | None = None,
    reading: ReadingOptions = DEFAULT_READING,
) -> ExceptionsReport:
    """Emit an event, once, for each parcel with a new exception or another condition.

    The event is `tracktor.fulfillment.exception.<status>` about `tracktor.fulfillment.<id>`, or
    `tracktor.fulfillment.delay.<condition>`, so that automations and deployments can react to it;
    its payload holds ids, statuses and a link to the order's page in the Shopify admin.

    Args:
        record_only: Record the current exceptions and emit nothing; use it for the first
            run.
        max_events: If more events than this are due, none is emitted.
        conditions: Which conditions to announce: exception:all, or some of exception:expired,
            exception:undelivered and any other exception, the delays stalled, in_transit_too_long,
            label_only and not_shipped, and statuses such as status:delivered.

    Example:
        >>> from prefect_tracktor.flows import announce_exceptions
        >>> first = announce_exceptions(credentials, order_ids, ledger=ledger)
        >>> second = announce_exceptions(credentials, order_ids, ledger=ledger)
        >>> len(first.announced) > 20, len(second.due)
        (True, 0)
    """
    job = event_job(
        credentials,
        ledger or shared_ledger(),
        conditions,
        orders=orders,
        reading=reading,
        thresholds=thresholds,
        dry_run=dry_run,
        record_only=record_only,
        max_events=max_events,
        include_cancelled=include_cancelled,
    )
    return run_job(Scan(credentials, orders, reading, stats=ExceptionStats()), job)
