"""`watch_shop`: read a shop once for its customers, its team, its automations and its tables."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.flows.announce_exceptions import ExceptionsReport, announcing
from prefect_tracktor.flows.notify_customers import notifying
from prefect_tracktor.flows.parameters import flow
from prefect_tracktor.forms import in_order
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.rules import NotificationRule
from prefect_tracktor.runs.digest import DigestJob, DigestReport, TeamDigest
from prefect_tracktor.runs.engine import Job, carry_out_all
from prefect_tracktor.runs.export import ExportFiles, ExportJob, ExportReport, ExportWarehouse
from prefect_tracktor.runs.parameters import checked_rules
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import MailReport, RunReport, calls_of, merged
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.saved_blocks import ledger_of
from prefect_tracktor.sources import Orders
from prefect_tracktor.storage.ledger import NotificationLedger
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds


class WatchOptions(BaseModel):
    """Limits and other options of all parts. The defaults fit most shops.

    Attributes:
        max_emails: If more messages than this are due, no customer is told anything.
        max_events: If more events than this are due, none is emitted.
        include_cancelled: Include orders and parcels that are cancelled, voided or refunded, in
            emails and events.
        thresholds: After how many days a parcel or an order is late.
        ledger: Records what was told, announced and reported. By default the mailer's, or the
            block `tracktor`, or else a SQLite file in the Prefect home of the machine that runs the
            flow.

    Raises:
        pydantic.ValidationError: A number is negative.

    Example:
        >>> WatchOptions(max_events=1000).max_emails
        500
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=in_order)

    max_emails: int = Field(
        default=500,
        ge=0,
        title="Max emails",
        description="If more messages than this are due, no customer is told anything.",
    )
    max_events: int = Field(
        default=500,
        ge=0,
        title="Max events",
        description="If more events than this are due, none is emitted.",
    )
    include_cancelled: bool = Field(
        default=False,
        title="Include cancelled",
        description="Include orders and parcels that are cancelled, voided or refunded.",
    )
    thresholds: Thresholds = Field(
        default=DEFAULT_THRESHOLDS,
        title="Thresholds",
        description="After how many days a parcel or an order is late.",
    )
    ledger: NotificationLedger | None = Field(
        default=None,
        title="Ledger",
        description="Records what was told and announced. Without it: the mailer's, or the"
        " block named tracktor, or else a file on the machine that runs the flow.",
    )


_DEFAULT_OPTIONS = WatchOptions()


class WatchReport(BaseModel):
    """What a run of `watch_shop` found and did: the report of each part that it had.

    Attributes:
        customers: What customers were told, by the rules.
        events: The conditions that were announced as events.
        digest: What the team was told.
        export: The tables.

    Example:
        >>> WatchReport(export=ExportReport(rows={"orders": 2})).counts
        {'export: rows of orders': 2}
    """

    model_config = ConfigDict(frozen=True)

    customers: MailReport | None = None
    events: ExceptionsReport | None = None
    digest: DigestReport | None = None
    export: ExportReport | None = None

    @classmethod
    def of(cls, reports: Sequence[RunReport]) -> "WatchReport":
        """Give each report its name."""
        kinds: dict[type[RunReport], str] = {
            MailReport: "customers",
            ExceptionsReport: "events",
            DigestReport: "digest",
            ExportReport: "export",
        }
        customers = [report for report in reports if type(report) is MailReport]
        named = {kinds[type(report)]: report for report in reports}
        return cls(**named | ({"customers": merged(customers)} if customers else {}))

    @property
    def parts(self) -> dict[str, RunReport]:
        """The reports, by name."""
        return {name: report for name, report in self if report is not None}

    @property
    def calls(self) -> int:
        """How many requests were sent to Tracktor, the reading that all parts share once."""
        return calls_of(self.parts.values())

    @property
    def complete(self) -> bool:
        """Whether no part failed or left anything to do."""
        return all(report.complete for report in self.parts.values())

    @property
    def sentence(self) -> str:
        """What the run did, a sentence for each part."""
        return " ".join(f"{name}: {one.sentence}" for name, one in self.parts.items())

    @property
    def counts(self) -> dict[str, int]:
        """The calls of all parts, and the counts of each part that are not zero."""
        calls = {"calls": self.calls} if self.calls else {}
        return calls | {
            f"{name}: {what}": count
            for name, report in self.parts.items()
            for what, count in report.counts.items()
            if count and what != "calls"
        }


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
    options: WatchOptions = _DEFAULT_OPTIONS,
    reading: ReadingOptions = DEFAULT_READING,
) -> WatchReport:
    """Read a shop once, and do what several flows would do; each part is optional.

    If a part fails, the others do theirs, and the run fails with its words.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, a file with them, or a search in Shopify.
        rules: What to tell customers, as in the flow for customers.
        mailer: The mail server, if a rule or the digest sends emails; its mode holds for these and
            for the digest.
        digest: What to tell the team, if anything.
        export: Where to write the tables, if anywhere.
        announce: Conditions to announce as events, such as exception:all or stalled.
        dry_run: Show what would be done, and do nothing.
        options: Limits, thresholds, the ledger and the like.
        reading: How orders are read: completed orders, chunk size and the like.

    Returns:
        The report of each part.

    Raises:
        InvalidInput: There is no part, or an argument is invalid; nothing was done.
        InvalidResponse: No answer of Tracktor's had a field that is needed; nothing was done.
        IncompleteRun: A part failed or left something to do. Its `report` says which.

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
    own = ledger_of(mailer, options.ledger)
    calls = 0
    if rules:
        calls = checked_rules(credentials, rules, orders=orders, reading=reading)
    same: dict[str, Any] = {"dry_run": dry_run, "thresholds": options.thresholds}
    telling = same | {"include_cancelled": options.include_cancelled, "reading": reading}
    most_events = options.max_events
    jobs: list[Job[Any, Any]] = []
    if rules:
        most = options.max_emails
        jobs += notifying(credentials, mailer, rules, ledger=own, max_emails=most, **telling)
    if announce:
        jobs.append(announcing(credentials, own, announce, max_events=most_events, **telling))
    if digest:
        jobs.append(DigestJob(credentials, own, digest, mailer=mailer, **same))
    if export:
        jobs.append(ExportJob(credentials, export, **same))
    if not jobs:
        raise InvalidInput("there is nothing to do: give rules, announce, digest or export")
    needs = reduce(or_, (job.needs for job in jobs))
    scan = Scan(credentials, orders, reading, calls=calls, needs=needs)
    return WatchReport.of(carry_out_all(scan, jobs, combine=WatchReport.of))
