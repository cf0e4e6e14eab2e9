"""What the flows that tell customers and automations have in common: from rules to jobs."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from prefect_tracktor.conditions import Keys, asked_conditions
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.events.channel import EventChannel
from prefect_tracktor.messages.channel import MailChannel
from prefect_tracktor.messages.http_channel import HttpChannel
from prefect_tracktor.messages.mailer import Mailer, Mode
from prefect_tracktor.messages.posts import PostChannel
from prefect_tracktor.rules import Choose, NotificationRule, channels_of, chooser, one_parcel_each
from prefect_tracktor.runs.answers import TO_FIND_EXCEPTIONS, TO_WATCH, needs_of
from prefect_tracktor.runs.cases import Outcome
from prefect_tracktor.runs.engine import Limit, Watcher, carry_out_all
from prefect_tracktor.runs.notify import LedgerOfAccount, NotifyJob
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.report import Listed, MailReport, RunReport, merged
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.saved_blocks import ledger_of
from prefect_tracktor.sources import Orders
from prefect_tracktor.storage.ledger import NotificationLedger
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds


class ExceptionsReport(RunReport):
    """The result of a run of `announce_exceptions`; all ids are order ids.

    Attributes:
        announced: Orders whose exception was announced, or only recorded.
        recorded: Orders whose exception was only recorded.
        unannounced: Orders whose event Prefect did not accept; the next run sends it again.
        already_announced: Orders whose exception an earlier run announced.
        cancelled: Orders that were skipped, as they or the parcel are cancelled or refunded.
        undated: Orders that were skipped, as the time of a status is not usable.

    Example:
        >>> from prefect_tracktor.runs.cases import Ended
        >>> ExceptionsReport(cases=(Ended(7, Outcome.SENT),)).announced
        (7,)
    """

    announced: ClassVar[Listed] = Listed(Outcome.SENT, Outcome.RECORDED)
    recorded: ClassVar[Listed] = Listed(Outcome.RECORDED)
    unannounced: ClassVar[Listed] = Listed(Outcome.DEFERRED)
    already_announced: ClassVar[Listed] = Listed(Outcome.ALREADY_TOLD)
    cancelled: ClassVar[Listed] = Listed(Outcome.CANCELLED)
    undated: ClassVar[Listed] = Listed(Outcome.UNDATED)


def tell_customers(
    credentials: TracktorCredentials,
    orders: Orders,
    mailer: Mailer | None,
    rules: Sequence[NotificationRule],
    *,
    reading: ReadingOptions,
    calls: int = 0,
    watchers: Sequence[Watcher] = (),
    **options: Any,
) -> MailReport:
    """Read the orders once, and tell their customers what rules say through all channels."""
    jobs = customer_jobs(credentials, mailer, rules, **options)
    scan = Scan(credentials, orders, reading, calls=calls)
    return merged(carry_out_all(scan, jobs, watchers=watchers, combine=merged))


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
    """The jobs of telling customers what rules say, one for each channel."""
    needs = needs_of(
        [name for rule in rules for name in rule.when],
        of_whole_orders=any(rule.per == "order" for rule in rules),
    )
    now = datetime.now(UTC)

    def job(channel: HttpChannel | None) -> NotifyJob[MailReport]:
        own = [rule for rule in rules if rule.channel == channel]
        through = channel or mailer
        if through is None:
            raise InvalidInput(
                f"rules: {', '.join(rule.name for rule in own)} would send emails, and there is no"
                " mailer: give mailer, or give the rule a channel"
            )
        return customer_job(
            credentials,
            through,
            chooser(own, now, thresholds=thresholds, include_cancelled=include_cancelled),
            ledger=ledger_of(mailer, ledger),
            title=title
            or f"Customers to be notified through {channel.host if channel else 'email'}",
            key=f"{key}-{channel.slug}" if channel else key,
            needs=needs,
            by_tag=any(rule.tags for rule in own),
            **options,
        )

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
    """The job of telling customers by email, or through a channel, as its mode lets it."""
    secret = credentials.uuid.lower().encode()
    return NotifyJob(
        credentials,
        LedgerOfAccount.of(credentials, ledger),
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
    thresholds: Thresholds,
    dry_run: bool,
    max_events: int,
    include_cancelled: bool,
    **options: Any,
) -> NotifyJob[ExceptionsReport]:
    """The job of announcing conditions as Prefect events."""
    asked = asked_conditions(conditions, field="conditions")
    only_exceptions = not asked.delays and asked.statuses == Keys()
    rule = NotificationRule(name="event", when=sorted(conditions))
    choose = chooser(
        [rule], datetime.now(UTC), thresholds=thresholds, include_cancelled=include_cancelled
    )
    return NotifyJob(
        credentials,
        LedgerOfAccount.of(credentials, ledger, purpose="events"),
        EventChannel(credentials.account),
        one_parcel_each(choose),
        title="Events",
        key="exceptions",
        dry_run=dry_run or credentials.read_only,
        limit=Limit("max_events", max_events, "events are due", "none was emitted"),
        needs=TO_FIND_EXCEPTIONS if only_exceptions else TO_WATCH,
        report_type=ExceptionsReport,
        **options,
    )
