"""`report_exceptions`: report to the team the orders that need attention, new ones first."""

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.runs.digest import DigestJob, DigestReport, TeamDigest
from prefect_tracktor.runs.engine import run_job
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.saved_blocks import ledger_of
from prefect_tracktor.sources import Orders
from prefect_tracktor.storage.ledger import NotificationLedger
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds

DEFAULT_DIGEST = TeamDigest()


@flow(name="Report exceptions")
def report_exceptions(
    credentials: TracktorCredentials,
    orders: Orders,
    digest: TeamDigest = DEFAULT_DIGEST,
    *,
    mailer: Mailer | None = None,
    dry_run: bool = False,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    ledger: NotificationLedger | None = None,
    reading: ReadingOptions = DEFAULT_READING,
) -> DigestReport:
    """Report to the team the orders that have an exception or a delay, new ones first.

    The run shows a table with a line for each order, charts with the trend, and figures of
    carriers. A message goes out only if something is new, or for a period. No customer is notified.

    Args:
        digest: The content and recipients of the report.
        mailer: The mail server for emails. If it is given, its mode holds for the whole digest: a
            dry run sends nothing, a rehearsal only to the rehearsal address.
        dry_run: Show the digest; send and record nothing. Without a mailer, read-only credentials
            do the same.

    Raises:
        InvalidInput: There is no such notification block, or there are addresses and no mailer.
        TracktorError: The digest could not be sent everywhere; the next run repeats it.

    Example:
        >>> from prefect_tracktor.flows import report_exceptions
        >>> first = report_exceptions(credentials, order_ids, ledger=ledger)
        >>> second = report_exceptions(credentials, order_ids, ledger=ledger)
        >>> len(first.new) > 20, len(second.new)
        (True, 0)
    """
    job = DigestJob(
        credentials,
        ledger_of(mailer, ledger),
        digest,
        mailer=mailer,
        thresholds=thresholds,
        dry_run=dry_run,
    )
    return run_job(Scan(credentials, orders, reading), job)
