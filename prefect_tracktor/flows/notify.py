"""`notify_customers`: notify customers by rules, all checked in one scan of the shop."""

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.figures import ExceptionStats
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.rules import NotificationRule
from prefect_tracktor.runs.checks import checked_rules
from prefect_tracktor.runs.notification_jobs import notify_by_rules
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import MailReport
from prefect_tracktor.sources import Orders
from prefect_tracktor.storage.ledger import NotificationLedger
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds


@flow(name="Notify customers")
def notify_customers(
    credentials: TracktorCredentials,
    orders: Orders,
    rules: list[NotificationRule],
    mailer: Mailer | None = None,
    *,
    ledger: NotificationLedger | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    dry_run: bool = False,
    max_emails: int = 500,
    include_cancelled: bool = False,
    reading: ReadingOptions = DEFAULT_READING,
) -> MailReport:
    """Notify customers by rules about the conditions of their orders, each notice once.

    A rule without a channel sends emails. If one channel cannot be used, the others still send, and
    the run fails at the end.

    No notice of an earlier stage is sent after one of a later stage. A customer gets a few messages
    a day at most, as the ledger says; the rest is deferred.

    Args:
        rules: Which notices to send, and when.
        mailer: The mail server, the sender, and the mode: dry run, rehearsal or live; needed if a
            rule has no channel.
        max_emails: If more messages than this are due in a channel, none is sent through it.

    Raises:
        InvalidInput: Two rules have the same name, a rule sends emails and there is no mailer, or
            the account has no such status; nothing was sent.

    Example:
        >>> from prefect_tracktor import NotificationRule
        >>> from prefect_tracktor.flows import notify_customers
        >>> rules = [
        ...     NotificationRule(name="late", when=["stalled", "in_transit_too_long"]),
        ...     NotificationRule(name="how-was-it", when=["status:delivered"], after_days=3),
        ... ]
        >>> report = notify_customers(
        ...     credentials, order_ids, rules, mailer, dry_run=True, max_emails=5_000
        ... )
        >>> report.sent
        ()
    """
    calls = checked_rules(credentials, rules, orders=orders, reading=reading)
    return notify_by_rules(
        credentials,
        orders,
        mailer,
        rules,
        ledger=ledger,
        thresholds=thresholds,
        dry_run=dry_run,
        max_emails=max_emails,
        include_cancelled=include_cancelled,
        reading=reading,
        calls=calls,
        stats=ExceptionStats(),
    )
