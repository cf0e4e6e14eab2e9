"""`email_expired_exceptions`: email customers whose parcels' tracking has expired."""

from prefect_tracktor.conditions import requested_conditions
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.figures import ExceptionStats
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.models import ExceptionStatus
from prefect_tracktor.rules import NotificationRule
from prefect_tracktor.runs.notification_jobs import notify_by_rules
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import MailReport
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
        exception_statuses: Which exceptions to email about, by key or label: expired (Tracking
            Expired), exception (Shipping Exception), not_found (Needs Attention), pending (Pending
            Details), undelivered (Failed Attempt), cancelled (Cancelled), any other that Tracktor
            gives, or all.
        template: The words of the email; by default those for the exception.

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
    conditions = [f"exception:{name}" for name in exception_statuses]
    requested_conditions(conditions, field="exception_statuses")
    rule = NotificationRule(name="exception", when=conditions, template=template)
    return notify_by_rules(
        credentials,
        orders,
        mailer,
        [rule],
        title="Customers with expired tracking",
        key="expired-exceptions",
        dry_run=dry_run,
        max_emails=max_emails,
        include_cancelled=include_cancelled,
        reading=reading,
        stats=ExceptionStats(),
    )
