"""Notification jobs: from rules, conditions and limits to a job for each channel."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from prefect_tracktor.conditions import probable_typos, requested_conditions
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.events.channel import EventChannel
from prefect_tracktor.figures import ExceptionStats
from prefect_tracktor.messages.channel import MailChannel
from prefect_tracktor.messages.http_channel import HttpChannel
from prefect_tracktor.messages.mailer import Mailer, Mode
from prefect_tracktor.messages.post_channel import PostChannel
from prefect_tracktor.rules import Choose, NotificationRule, channels_of, chooser, one_parcel_each
from prefect_tracktor.runs.checks import check_statuses_in, refuse_unread
from prefect_tracktor.runs.engine import Limit, run_jobs
from prefect_tracktor.runs.needs import TO_FIND_EXCEPTIONS, TO_WATCH, needs_of
from prefect_tracktor.runs.notify import NotifyJob
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.report import ExceptionsReport, MailReport, merged
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.saved_blocks import ledger_of
from prefect_tracktor.sources import Orders
from prefect_tracktor.storage.ledger import NotificationLedger
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds


def notify_by_rules(
    credentials: TracktorCredentials,
    orders: Orders,
    mailer: Mailer | None,
    rules: Sequence[NotificationRule],
    *,
    reading: ReadingOptions,
    calls: int = 0,
    stats: ExceptionStats | None = None,
    **options: Any,
) -> MailReport:
    """Read the orders once, and notify their customers through all channels of the rules."""
    jobs = customer_jobs(credentials, mailer, rules, **options)
    scan = Scan(credentials, orders, reading, calls=calls, stats=stats)
    return run_jobs(scan, jobs, combine=merged)


def customer_jobs(
    credentials: TracktorCredentials,
    mailer: Mailer | None,
    rules: Sequence[NotificationRule],
    *,
    ledger: NotificationLedger | None = None,
    include_cancelled: bool,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    title: str = "",
    key: str = "notify-customers",
    **options: Any,
) -> list[NotifyJob[MailReport]]:
    """Make a job for each channel of the rules."""
    needs = needs_of(
        [name for rule in rules for name in rule.when],
        of_whole_orders=any(rule.per == "order" for rule in rules),
    )
    now = datetime.now(UTC)

    def job(channel: HttpChannel | None) -> NotifyJob[MailReport]:
        of_channel = [rule for rule in rules if rule.channel == channel]
        through = channel or mailer
        if through is None:
            raise InvalidInput(
                f"rules: {', '.join(rule.name for rule in of_channel)} would send emails, and there"
                " is no mailer: give mailer, or give the rule a channel"
            )
        made = customer_job(
            credentials,
            through,
            chooser(of_channel, now, thresholds=thresholds, include_cancelled=include_cancelled),
            ledger=ledger_of(mailer, ledger),
            title=title
            or f"Customers to be notified through {channel.host if channel else 'email'}",
            key=f"{key}-{channel.slug}" if channel else key,
            needs=needs,
            by_tag=any(rule.tags for rule in of_channel),
            **options,
        )
        names = [name for rule in of_channel for name in rule.when]
        made.notes += probable_typos(requested_conditions(names))
        return made

    return [job(channel) for channel in channels_of(rules)]


def customer_job(
    credentials: TracktorCredentials,
    through: Mailer | HttpChannel,
    choose: Choose,
    *,
    ledger: NotificationLedger,
    dry_run: bool,
    max_emails: int,
    **options: Any,
) -> NotifyJob[MailReport]:
    """Make the job that notifies customers through a channel, in the channel's mode."""
    secret = credentials.uuid.lower().encode()
    return NotifyJob(
        credentials,
        ledger,
        MailChannel(through, secret)
        if isinstance(through, Mailer)
        else PostChannel(through, secret),
        choose,
        dry_run=dry_run or not Mode.sends(through.mode),
        limit=Limit("max_emails", max_emails, "messages are due", "nothing was sent"),
        **options,
    )


def event_job(
    credentials: TracktorCredentials,
    ledger: NotificationLedger,
    conditions: Collection[str],
    *,
    orders: Orders,
    reading: ReadingOptions,
    thresholds: Thresholds,
    dry_run: bool,
    max_events: int,
    include_cancelled: bool,
    **options: Any,
) -> NotifyJob[ExceptionsReport]:
    """Make the job that announces conditions as Prefect events."""
    requested = requested_conditions(conditions, field="conditions")
    only_exceptions = not (requested.delays or requested.statuses.keys)
    rule = NotificationRule(name="event", when=sorted(conditions))
    refuse_unread(rule, orders, reading, about="conditions: an event")
    choose = chooser(
        [rule], datetime.now(UTC), thresholds=thresholds, include_cancelled=include_cancelled
    )
    job = NotifyJob(
        credentials,
        ledger,
        EventChannel(credentials.account),
        one_parcel_each(choose),
        title="Events",
        key="exceptions",
        dry_run=dry_run or credentials.read_only,
        limit=Limit("max_events", max_events, "events are due", "none was emitted"),
        needs=TO_FIND_EXCEPTIONS if only_exceptions else TO_WATCH,
        report_type=ExceptionsReport,
        purpose="events",
        **options,
    )
    job.calls += check_statuses_in(credentials, conditions)
    job.notes += probable_typos(requested)
    return job
