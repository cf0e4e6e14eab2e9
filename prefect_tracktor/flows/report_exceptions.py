"""`report_exceptions`: tell the team which orders need attention, new ones first."""

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.flows.parameters import flow
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.runs.digest import DigestJob, DigestReport, TeamDigest
from prefect_tracktor.runs.engine import carry_out
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
    """Tell the team which orders have an exception or a delay, new ones first.

    The run shows a table with a line for each order, charts with the trend, and figures of
    carriers. A message goes out only if something is new, or if it has figures. Customers are told
    nothing.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, a file with them, or a search in Shopify.
        digest: Where to send it, and what it is about.
        mailer: The mail server for emails. If it is given, its mode holds for the whole digest: a
            dry run sends nothing, a rehearsal only to the rehearsal address.
        dry_run: Show the digest; send and record nothing. Without a mailer, read-only credentials
            do the same.
        thresholds: After how many days a parcel or an order is late.
        ledger: Records what was reported, so that the next report knows what is new. Default: the
            mailer's, or the block named tracktor, or else a SQLite file in the Prefect home of the
            machine that runs the flow.
        reading: How orders are read: completed orders, chunk size and the like.

    Returns:
        What was found and reported.

    Raises:
        InvalidInput: There is no such notification block, there are addresses and no mailer, or
            `orders` names none; nothing was sent.
        MailServerError: The mail server cannot be used; nothing was sent.
        TracktorError: The digest could not be sent everywhere; the next run repeats it.
        LedgerError: The ledger cannot be used.
        InvalidResponse: No answer of Tracktor's had a field that is needed; nothing was sent.
        IncompleteRun: Some orders could not be read. Its `report` says which.

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
    return carry_out(Scan(credentials, orders, reading, needs=job.needs), job)
