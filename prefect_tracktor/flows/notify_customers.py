"""`notify_customers`: tell customers what rules say, all checked on one reading of the shop."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.figures import ExceptionStats
from prefect_tracktor.flows.parameters import flow
from prefect_tracktor.messages.http_channel import HttpChannel
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.rules import NotificationRule, channels_of, chooser
from prefect_tracktor.runs.answers import needs_of
from prefect_tracktor.runs.engine import carry_out_all
from prefect_tracktor.runs.notify import NotifyJob, mail_job
from prefect_tracktor.runs.parameters import checked_rules
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import MailReport, merged
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.saved_blocks import ledger_of
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
    """Tell customers what rules say about their orders' conditions, each notice once.

    A rule without a channel sends e-mails. A channel that cannot be used keeps no other from
    telling; the run fails in the end.

    No notice of an earlier stage is sent after one of a later stage. A customer gets a few messages
    a day at most, as the ledger says; the rest is deferred.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, a file with them, or a search in Shopify.
        rules: What to tell, and when.
        mailer: The mail server, the sender, and whether e-mails go to customers; needed if a rule
            has no channel.
        ledger: Records which customer was told what, by e-mail and through channels. By default
            the mailer's, or the block named tracktor, or else a SQLite file in the Prefect home
            of the machine that runs the flow.
        thresholds: After how many days a parcel or an order is late.
        dry_run: Show who would be told what, and send nothing.
        max_emails: If more messages than this are due in a channel, none is sent through it.
        include_cancelled: Include orders and parcels that are cancelled, voided or refunded; the
            report counts those that are left out.
        reading: How orders are read: completed orders, chunk size and the like.

    Returns:
        What was found and done, through all channels.

    Raises:
        InvalidInput: An argument is invalid, two rules have the same name, a rule sends e-mails
            and there is no mailer, the account has no such status, or `orders` names none; nothing
            was sent.
        LimitExceeded: More than `max_emails` messages are due in a channel; it sent nothing.
        LedgerReplaced: The account used another ledger before; nothing was sent.
        TemplateError: A template fails for every order; the channel sent nothing.
        ChannelError: The mail server or a channel cannot be used; it sent nothing.
        IncompleteRun: All that could be done was done, and something is left. Its `report` says
            what. With several channels, so does what keeps one of them from sending.

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
    jobs = notifying(
        credentials,
        mailer,
        rules,
        ledger=ledger_of(mailer, ledger),
        thresholds=thresholds,
        dry_run=dry_run,
        max_emails=max_emails,
        include_cancelled=include_cancelled,
        reading=reading,
    )
    scan = Scan(credentials, orders, reading, calls=calls, needs=jobs[0].needs)
    watchers = [ExceptionStats()]
    return merged(carry_out_all(scan, jobs, watchers=watchers, combine=merged))


def notifying(
    credentials: TracktorCredentials,
    mailer: Mailer | None,
    rules: Sequence[NotificationRule],
    *,
    thresholds: Thresholds,
    include_cancelled: bool,
    **options: Any,
) -> list[NotifyJob[MailReport]]:
    """The jobs of telling customers what rules say, one for each channel."""
    needs = needs_of([name for rule in rules for name in rule.when])
    now = datetime.now(UTC)

    def job(channel: HttpChannel | None) -> NotifyJob[MailReport]:
        own = [rule for rule in rules if rule.channel == channel]
        through = channel or mailer
        if through is None:
            raise InvalidInput(
                f"rules: {', '.join(rule.name for rule in own)} would send emails, and there is no"
                " mailer: give mailer, or give the rule a channel"
            )
        return mail_job(
            credentials,
            through,
            chooser(own, now, thresholds=thresholds, include_cancelled=include_cancelled),
            title=f"Customers to be notified through {channel.host if channel else 'e-mail'}",
            key=f"notify-customers-{channel.slug}" if channel else "notify-customers",
            needs=needs,
            **options,
        )

    return [job(channel) for channel in channels_of(rules)]
