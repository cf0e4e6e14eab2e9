"""Plan, show, apply, read back: what all flows that set statuses do once they can decide.

Everything is read and decided before the first write; the plan is shown before it, too. What a run
that was stopped did not write is a difference that the next run finds again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from prefect import get_run_logger

from prefect_tracktor.bulk import NOT_TRIED, Failure
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import IncompleteRun, InvalidInput, LimitExceeded
from prefect_tracktor.models import StatusOption
from prefect_tracktor.reporting import Progress, label_of, publish_summary, publish_table
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.report import RunReport, in_words, sentences
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.sources import chunked
from prefect_tracktor.statuses.plan import Change, Decide, Protected, StatusPlan, current
from prefect_tracktor.tasks import batch_of, update_orders

Row = dict[str, str | int]

_GONE = "Tracktor does not know it any more"


class StatusReport(RunReport):
    """What a run that sets statuses found and did; order ids throughout.

    Attributes:
        skipped: Orders that were not read, because nothing was asked for them.
        right: Orders that need no change.
        protected: Orders that differ from what is wanted, and are left alone: the carrier updates
            them, or they are delivered.
        planned: Orders that are to be written; in a dry run they stay as they are.
        written: Orders that were written.
        superseded: Orders that need no change any more, or must be left alone, as something
            happened to them after the plan was made.
        not_written: Orders that could not be written, and why; the next run tries again.
        not_persisted: Orders that were written and, when read back, do not show it, and what they
            show.

    Example:
        >>> StatusReport(planned=(7,), written=(7,)).complete
        True
    """

    skipped: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    protected: tuple[int, ...] = ()
    planned: tuple[int, ...] = ()
    written: tuple[int, ...] = ()
    superseded: tuple[int, ...] = ()
    not_written: tuple[Failure, ...] = ()
    not_persisted: tuple[Failure, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done, by a later run or by a person."""
        return super().complete and not (self.not_written or self.not_persisted)


@dataclass(slots=True)
class StatusRun:
    """One run of a flow that sets statuses."""

    credentials: TracktorCredentials
    scan: Scan
    decide: Decide
    title: str
    dry_run: bool = False
    max_updates: int = 1000
    verify: bool = True
    skipped: tuple[int, ...] = ()
    _calls: int = 0
    _gave_up: bool = False
    _plan: StatusPlan = field(default_factory=StatusPlan)
    _written: list[int] = field(default_factory=list)
    _overtaken: list[int] = field(default_factory=list)
    _not_written: list[Failure] = field(default_factory=list)
    _not_kept: list[Failure] = field(default_factory=list)

    def carry_out(self) -> StatusReport:
        """Plan and show it; unless it is a dry run, apply the plan and read back."""
        if self.max_updates < 0:
            raise InvalidInput(f"max_updates must be 0 or more, not {self.max_updates}")
        try:
            for batch in self.scan:
                self._plan.add(batch, self.decide)
            self._show_plan()
            self._refuse_too_many()
            if not self.dry_run:
                self._apply()
        finally:
            report = self._report()
            self._publish(report)
        if not self.dry_run:
            self.scan.remember_completed(unless=report.planned)
        if not report.complete:
            raise IncompleteRun(_what_is_left(report), report=report)
        return report

    def _refuse_too_many(self) -> None:
        count = len(self._plan.changes)
        if count > self.max_updates:
            raise LimitExceeded(
                f"{count} orders are to be written and max_updates is {self.max_updates}: nothing"
                " was written. Look at this run's plan; if it is right, run again with a higher"
                " max_updates."
            )

    def _apply(self) -> None:
        changes = self._plan.changes
        if not changes:
            return
        total = len(changes)
        with Progress("tracktor-updates", description="Orders written", total=total) as progress:
            for some in chunked(changes, self.scan.reading.chunk_size):
                if self._gave_up:
                    self._not_written += (Failure(change.order_id, NOT_TRIED) for change in some)
                    continue
                self._write(some)
                progress.advance(len(some))
        if self.verify:
            self._read_back()

    def _write(self, changes: list[Change]) -> None:
        """Decide once more, as an order may have been sent off since it was read; then write."""
        now = Scan(
            self.credentials,
            [change.order_id for change in changes],
            self._few,
            needs=self.scan.needs.of_each_order,
        )
        plan = StatusPlan()
        for batch in now:
            plan.add(batch, self.decide)
        self._gave_up = now.gave_up
        self._calls += now.calls
        self._overtaken += (order.order_id for order in plan.protected)
        self._overtaken += plan.right
        self._take_up(plan.missing, plan.failed)
        if plan.changes:
            updates = [change.update for change in plan.changes]
            written = batch_of(update_orders.submit(self.credentials, updates))
            self._calls += written.requests
            self._written += (order.order_id for order in written.found)
            self._take_up(written.missing, written.failed)

    @property
    def _few(self) -> ReadingOptions:
        """How orders are read that were read before."""
        return ReadingOptions(chunk_size=self.scan.reading.chunk_size, allow_empty=True)

    def _take_up(self, missing: list[int], failed: list[Failure]) -> None:
        self._not_written += failed
        self._not_written += (Failure(order_id, _GONE) for order_id in missing)

    def _read_back(self) -> None:
        written = Scan(
            self.credentials,
            self._written,
            self._few,
            needs=self.scan.needs.of_each_order,
        )
        for batch in written:
            self._not_kept += (
                Failure(order.order_id, f"it shows {current(order) or 'no status'}")
                for order in batch.found
                if self.decide(order) is not None
            )
            self._not_kept += (
                Failure(unread.id, f"it could not be read back: {unread.reason}")
                for unread in batch.failed
            )
            self._not_kept += (Failure(order_id, _GONE) for order_id in batch.missing)
        self._calls += written.calls

    def _report(self) -> StatusReport:
        return StatusReport(
            **self.scan.found(dry_run=self.dry_run, calls=self._calls),
            skipped=self.skipped,
            right=tuple(self._plan.right),
            protected=tuple(order.order_id for order in self._plan.protected),
            planned=tuple(change.order_id for change in self._plan.changes),
            written=tuple(self._written),
            superseded=tuple(self._overtaken),
            not_written=tuple(self._not_written),
            not_persisted=tuple(self._not_kept),
        )

    def _show_plan(self) -> None:
        publish_table(
            f"{self.title} plan",
            list(self._rows({})),
            description="What is to be written, before the first write; and what is left alone"
            " although it differs, or cannot be found or read.",
        )

    def _publish(self, report: StatusReport) -> None:
        counts = report.counts
        get_run_logger().info(", ".join(f"{n} {name}" for name, n in counts.items() if n))
        notes = [*([] if report.complete else [_what_is_left(report)]), *report.notes]
        if report.dry_run:
            notes.append("This was a dry run: nothing was written.")
        else:
            publish_table(
                f"{self.title} outcome",
                list(self._rows(self._outcomes())),
                description="What this run wrote, and what it left alone.",
            )
        publish_summary(f"{self.title} summary", title=self.title, counts=counts, notes=notes)

    def _outcomes(self) -> dict[int, tuple[str, str]]:
        written = dict.fromkeys(self._written, ("Written", ""))
        superseded = dict.fromkeys(
            self._overtaken, ("Left alone", "something happened to it since")
        )
        failed = {entry.id: ("Not written", entry.reason) for entry in self._not_written}
        changed = {entry.id: ("Written, not kept", entry.reason) for entry in self._not_kept}
        return written | superseded | failed | changed

    def _rows(self, outcomes: dict[int, tuple[str, str]]) -> Iterator[Row]:
        for change in self._plan.changes:
            outcome, reason = outcomes.get(change.order_id, ("To be written", ""))
            yield _row(change, outcome, reason)
        for protected in self._plan.protected:
            yield _row(protected, "Left alone", protected.reason)
        for order_id in self._plan.missing:
            yield {"Order id": str(order_id), "Outcome": "Not found"}
        for failure in self._plan.failed:
            yield {"Order id": str(failure.id), "Outcome": "Not read", "Reason": failure.reason}


def status_options(credentials: TracktorCredentials) -> tuple[list[StatusOption], int]:
    """Read the shop's status options once."""
    with credentials.get_client() as client:
        return client.get_status_options(), client.requests_sent


def _row(order: Change | Protected, outcome: str, reason: str) -> Row:
    return {
        "Order": order.order_name,
        "From": ", ".join(map(label_of, order.old.split(", "))),
        "To": label_of(order.new),
        "Outcome": outcome,
        "Reason": reason,
        "Order id": str(order.order_id),
    }


def _what_is_left(report: StatusReport) -> str:
    left: dict[str, Iterable[Failure]] = {
        "could not be read; the next run reads them again": report.failed,
        "could not be written; the next run tries again": report.not_written,
        "do not show what was written": report.not_persisted,
    }
    words = in_words({what: [entry.id for entry in entries] for what, entries in left.items()})
    first = next(chain(report.failed, report.not_written), None)
    return sentences(
        report.suspicion, words, f"The first failed as: {first.reason}" if first else ""
    )
