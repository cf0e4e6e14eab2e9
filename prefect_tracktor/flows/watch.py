"""`watch_shop`: read a shop once for its customers, its team, its automations and its tables."""

from typing import Any

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.rules import NotificationRule
from prefect_tracktor.runs.checks import checked_rules
from prefect_tracktor.runs.digest import DigestJob, TeamDigest
from prefect_tracktor.runs.engine import Job, run_jobs
from prefect_tracktor.runs.export import ExportFiles, ExportJob, ExportWarehouse, reading_for
from prefect_tracktor.runs.notification_jobs import customer_jobs, event_job
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.runs.watch import DEFAULT_OPTIONS, WatchOptions, WatchReport
from prefect_tracktor.saved_blocks import ledger_of
from prefect_tracktor.sources import Orders


@flow(name="Watch shop")
def watch_shop(
    credentials: TracktorCredentials,
    orders: Orders,
    rules: list[NotificationRule] | None = None,
    mailer: Mailer | None = None,
    digest: TeamDigest | None = None,
    export: ExportFiles | ExportWarehouse | None = None,
    announce: frozenset[str] = frozenset(),
    *,
    dry_run: bool = False,
    options: WatchOptions = DEFAULT_OPTIONS,
    reading: ReadingOptions = DEFAULT_READING,
) -> WatchReport:
    """Read a shop once, and do what several flows would do; each part is optional.

    If a part fails, the others continue, and the run fails with its error at the end.

    Args:
        rules: Which notices to send to customers, as in the flow Notify customers.
        mailer: The mail server, if a rule or the digest sends emails; its mode holds for these and
            for the digest.
        digest: The report to the team, if any.
        export: Where to write the tables, if anywhere.
        announce: Conditions to announce as events, such as exception:all or stalled.
        options: Limits, thresholds, the ledger and the like.

    Raises:
        InvalidInput: There is no part; nothing was done.

    Example:
        >>> from prefect_tracktor.flows import TeamDigest, watch_shop
        >>> report = watch_shop(
        ...     credentials,
        ...     order_ids,
        ...     digest=TeamDigest(),
        ...     announce={"exception:expired"},
        ...     dry_run=True,
        ... )
        >>> sorted(report.parts)
        ['digest', 'events']
    """
    ledger = ledger_of(mailer, options.ledger)
    common: dict[str, Any] = {"dry_run": dry_run, "thresholds": options.thresholds}
    notices = common | {"include_cancelled": options.include_cancelled}
    calls = 0
    reading = reading_for(export, reading)
    jobs: list[Job[Any, Any, Any]] = []
    if rules:
        calls = checked_rules(credentials, rules, orders=orders, reading=reading)
        jobs += customer_jobs(
            credentials, mailer, rules, ledger=ledger, max_emails=options.max_emails, **notices
        )
    if announce:
        jobs.append(
            event_job(
                credentials,
                ledger,
                announce,
                orders=orders,
                reading=reading,
                max_events=options.max_events,
                **notices,
            )
        )
    if digest:
        jobs.append(DigestJob(credentials, ledger, digest, mailer=mailer, **common))
    if export:
        jobs.append(ExportJob(credentials, export, **common))
    if not jobs:
        raise InvalidInput("there is nothing to do: give rules, announce, digest or export")
    scan = Scan(credentials, orders, reading, calls=calls)
    return run_jobs(scan, jobs, combine=WatchReport.of)
