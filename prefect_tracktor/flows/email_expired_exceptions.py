"""`email_expired_exceptions`: write to the customers whose parcels' tracking has expired."""

from datetime import UTC, datetime

from prefect_tracktor.conditions import asked_exceptions
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.figures import ExceptionStats
from prefect_tracktor.flows.parameters import flow
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.models import ExceptionStatus
from prefect_tracktor.rules import NotificationRule, chooser
from prefect_tracktor.runs.answers import TO_TELL_OF_EXCEPTIONS
from prefect_tracktor.runs.engine import carry_out
from prefect_tracktor.runs.notify import mail_job
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import MailReport
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.sources import Orders

EXPIRED: frozenset[str] = frozenset({ExceptionStatus.EXPIRED.value})


@flow(name="Email expired exceptions")
def email_expired_exceptions(
    credentials: TracktorCredentials,
    orders: Orders,
    mailer: Mailer,
    *,
    dry_run: bool = False,
    max_emails: int = 500,
    exception_statuses: frozenset[str] = EXPIRED,
    template: EmailTemplate | None = None,
    include_cancelled: bool = False,
    reading: ReadingOptions = DEFAULT_READING,
) -> MailReport:
    """Email each customer once when a parcel's tracking has expired.

    One message for each order names all its affected parcels that are not delivered. Nothing is
    sent before every order is read, every message is rendered, and their number is within the
    limit. However often it runs, also at the same time, no customer gets the same message twice.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, a file with them, or a search in Shopify.
        mailer: The mail server, the sender, and whether e-mails go to customers.
        dry_run: Show who would get an email, and send nothing.
        max_emails: If more messages than this are due, none is sent.
        exception_statuses: Which exceptions to email about, by key or label: expired (Tracking
            Expired), exception (Shipping Exception), not_found (Needs Attention), pending (Pending
            Details), undelivered (Failed Attempt), cancelled (Cancelled), any other that Tracktor
            gives, or all.
        template: The words of the email; by default those for the exception.
        include_cancelled: Include orders and parcels that are cancelled, voided or refunded; the
            report counts those that are left out.
        reading: How orders are read: completed orders, chunk size and the like.

    Returns:
        What was found and done.

    Raises:
        InvalidInput: An argument is invalid, or `orders` names none; nothing was sent.
        LimitExceeded: More than `max_emails` messages are due; nothing was sent.
        LedgerReplaced: The account used another ledger before; nothing was sent.
        TemplateError: The template fails for every order; nothing was sent.
        MailServerError: The mail server cannot be used; nothing was sent.
        InvalidResponse: No answer of Tracktor's had a field that is needed; nothing was sent.
        IncompleteRun: All that could be done was done, and something is left: orders that could
            not be read, messages deferred or uncertain. Its `report` says which.

    Example:
        >>> from prefect_tracktor.flows import email_expired_exceptions
        >>> report = email_expired_exceptions(
        ...     credentials,
        ...     order_ids,
        ...     mailer,
        ...     dry_run=True,
        ... )
        >>> len(report.due)
        20
    """
    asked_exceptions(exception_statuses)
    rule = NotificationRule(
        name="exception",
        when=[f"exception:{name}" for name in exception_statuses],
        template=template,
    )
    return carry_out(
        Scan(credentials, orders, reading, needs=TO_TELL_OF_EXCEPTIONS),
        mail_job(
            credentials,
            mailer,
            chooser([rule], datetime.now(UTC), include_cancelled=include_cancelled),
            title="Customers with expired tracking",
            key="expired-exceptions",
            dry_run=dry_run,
            max_emails=max_emails,
            needs=TO_TELL_OF_EXCEPTIONS,
            reading=reading,
        ),
        watchers=[ExceptionStats()],
    )
