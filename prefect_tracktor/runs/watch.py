"""Options and report of `watch_shop`."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from prefect_tracktor.forms import FORM
from prefect_tracktor.runs.digest import DigestReport
from prefect_tracktor.runs.export import ExportReport
from prefect_tracktor.runs.report import ExceptionsReport, MailReport, RunReport, calls_of, merged
from prefect_tracktor.storage.ledger import NotificationLedger
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds


class WatchOptions(BaseModel):
    """Limits and other options of all parts. The defaults fit most shops.

    Attributes:
        max_emails: If more messages than this are due, no message is sent.
        max_events: If more events than this are due, none is emitted.
        include_cancelled: Include orders and parcels that are cancelled, voided or refunded, in
            emails and events.
        thresholds: After how many days a parcel or an order is late.
        ledger: Records the notices, events and reports. By default the mailer's, or the
            block `tracktor`, or else a SQLite file in the Prefect home of the machine that runs the
            flow.

    Raises:
        pydantic.ValidationError: A number is negative.

    Example:
        >>> WatchOptions(max_events=1000).max_emails
        500
    """

    model_config = FORM

    max_emails: int = Field(default=500, ge=0)
    max_events: int = Field(default=500, ge=0)
    include_cancelled: bool = False
    thresholds: Thresholds = DEFAULT_THRESHOLDS
    ledger: NotificationLedger | None = None


DEFAULT_OPTIONS = WatchOptions()


class WatchReport(BaseModel):
    """The result of a run of `watch_shop`: the report of each part that it had.

    Attributes:
        customers: The notices to customers.
        events: The conditions that were announced as events.
        digest: The report to the team.
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
        """Make the report of all parts from the reports of the jobs."""
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
        """The number of requests to Tracktor; the shared scan counts once."""
        return calls_of(self.parts.values())

    @property
    def complete(self) -> bool:
        """Whether no part failed, and none left anything to do."""
        return all(report.complete for report in self.parts.values())

    @property
    def sentence(self) -> str:
        """The result of the run, a sentence for each part."""
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
