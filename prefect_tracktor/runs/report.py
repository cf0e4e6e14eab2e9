"""Typed reports: the results of flows, derived from the cases of a run."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from prefect_tracktor.bulk import Failure
from prefect_tracktor.reporting.words import counts_in_words
from prefect_tracktor.runs.cases import Ended, Outcome, what_is_left


def sentences(*parts: str) -> str:
    """Join sentences, which come with or without a full stop."""
    joined = [part.rstrip(".") for part in parts if part]
    return ". ".join(joined) + ("." if len(joined) > 1 else "")


class Listed:
    """A report's field: the ids of the cases with some outcomes, each once or with its reason.

    The report's counts have an entry for it, which counts the first of the outcomes.
    """

    def __init__(self, *outcomes: Outcome, with_reasons: bool = False) -> None:
        self.outcomes = outcomes
        self._with_reasons = with_reasons

    def __get__(self, report: "RunReport | None", _owner: type | None = None) -> tuple[Any, ...]:
        if report is None:
            return ()
        if self._with_reasons:
            return tuple(
                Failure(c.id, c.reason) for c in report.cases if c.outcome in self.outcomes
            )
        return report.ids(*self.outcomes)


class RunReport(BaseModel):
    """The result of a run; all ids are order ids.

    Attributes:
        dry_run: Whether nothing was to be sent or changed.
        mode: `live`, `rehearsal` or `dry_run`.
        calls: How many requests were sent to Tracktor, including retries.
        own_calls: How many of these were this part's alone, beside the reading of the orders.
        read: Orders that were read.
        left_out: How many orders the source left out, by reason, such as cancelled.
        completed: Completed orders, which were not read again.
        missing: Order ids that Tracktor does not know.
        failed: Orders that could not be read, and why; the next run reads them again.
        cases: The affected orders and their outcomes.
        error: Why the run, or this part of it, failed; empty if it did not.
        suspicion: A doubt about the run as a whole, such as that Tracktor knows none of the orders;
            empty if there is none.
        advice: What you should do; empty if nothing.
        notes: Unusual things in Tracktor's responses: documented fields that are in none of them,
            fields that could not be read, unknown exceptions.

    Example:
        >>> report = RunReport(calls=3, read=(1, 2), missing=(3,), cases=(Ended(1, Outcome.SENT),))
        >>> report.ids(Outcome.SENT), report.complete
        ((1,), True)
        >>> report
        RunReport(3 calls, 2 read, 1 missing)
    """

    model_config = ConfigDict(frozen=True)

    noun: ClassVar[str] = "orders"

    dry_run: bool = False
    mode: str = ""
    calls: int = 0
    own_calls: int = 0
    read: tuple[int, ...] = ()
    left_out: dict[str, int] = {}
    completed: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    failed: tuple[Failure, ...] = ()
    cases: tuple[Ended, ...] = ()
    error: str = ""
    suspicion: str = ""
    advice: str = ""
    notes: tuple[str, ...] = ()

    def ids(self, *outcomes: Outcome) -> tuple[Any, ...]:
        """The ids of the orders with these outcomes, each once.

        Args:
            outcomes: The outcomes.

        Returns:
            The ids, in the order in which they were read.
        """
        return tuple(dict.fromkeys(case.id for case in self.cases if case.outcome in outcomes))

    @property
    def affected(self) -> tuple[int, ...]:
        """The affected orders."""
        return tuple(dict.fromkeys(case.id for case in self.cases if case.outcome.is_shown))

    @property
    def due(self) -> tuple[int, ...]:
        """The orders that the run was to act on; in a dry run it did not."""
        return tuple(dict.fromkeys(case.id for case in self.cases if case.planned))

    @property
    def left(self) -> tuple[int, ...]:
        """The orders whose cases are unfinished, or in progress in another run."""
        unfinished = (c for c in self.cases if c.outcome.left or c.outcome is Outcome.IN_PROGRESS)
        unread = (failure.id for failure in self.failed)
        return tuple(dict.fromkeys((*(case.id for case in unfinished), *unread)))

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do, for a later run or for a person."""
        return not self.what_is_left

    @property
    def what_is_left(self) -> str:
        """The unfinished work, in words; empty if there is none."""
        unread = [Ended(entry.id, Outcome.UNREADABLE, entry.reason) for entry in self.failed]
        left = what_is_left([*unread, *self.cases], noun=self.noun)
        advice = f"{self.advice[:1].upper()}{self.advice[1:]}" if left else ""
        return sentences(self.error, self.suspicion, left, advice)

    @property
    def standing(self) -> str:
        """The mode, and whether the run failed: the beginning of titles and descriptions."""
        return ", ".join(filter(None, [self.mode, "failed" if self.error else ""]))

    @property
    def sentence(self) -> str:
        """The result of the run, in a sentence."""
        return counts_in_words(self.counts, mode=self.standing)

    @property
    def counts(self) -> dict[str, int]:
        """The number of calls, and of orders with each outcome."""
        return {name.replace("_", " "): count for name, count in self._counts()} | {
            f"left out as {why}": count for why, count in self.left_out.items()
        }

    def _counts(self) -> Iterator[tuple[str, int]]:
        yield "calls", self.calls
        for name in type(self).model_fields:
            if name not in {"cases", "notes"} and isinstance(getattr(self, name), tuple):
                yield name, len(getattr(self, name))
        if listed := list(self._listed()):
            yield "affected", len(self.affected)
            yield "due", len(self.due)
            yield from listed

    def _listed(self) -> Iterator[tuple[str, int]]:
        for kind in reversed(type(self).__mro__):
            for name, value in vars(kind).items():
                if isinstance(value, Listed):
                    yield name, len(self.ids(value.outcomes[0]))

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        return f"{type(self).__name__}({counts})"

    __str__ = __repr__


class MailReport(RunReport):
    """The result of a run that notifies customers; all ids are order ids.

    An order is in several lists if its parcels have different outcomes.

    Attributes:
        sent: Orders whose customer was notified.
        rehearsed: Orders whose message went to the rehearsal address instead.
        recorded: Orders that were recorded, without a message.
        already_told: Orders whose customer an earlier or simultaneous run notified.
        no_address: Orders without a usable address.
        refused: Orders whose address the server refused, now or earlier; not tried again.
        deferred: Orders whose message could not be sent now; the next run tries again.
        uncertain: Orders whose message an interrupted run may have sent. It is never sent again
            unless you clear the claim in the ledger.
        in_progress: Orders whose message another run was still sending when this one ended; that
            run reports them.
        undated: Orders with a parcel that was skipped, as the time of its status is not usable.
        cancelled: Orders with a parcel that was skipped, as it or the order is cancelled or
            refunded.
        superseded: Orders whose message was not sent, as their parcels moved on after they were
            read.

    Example:
        >>> MailReport(read=(1, 2), cases=(Ended(2, Outcome.SENT),)).sent
        (2,)
    """

    sent: ClassVar[Listed] = Listed(Outcome.SENT)
    rehearsed: ClassVar[Listed] = Listed(Outcome.REHEARSED)
    recorded: ClassVar[Listed] = Listed(Outcome.RECORDED)
    already_told: ClassVar[Listed] = Listed(Outcome.ALREADY_TOLD)
    no_address: ClassVar[Listed] = Listed(Outcome.NO_ADDRESS)
    refused: ClassVar[Listed] = Listed(Outcome.REFUSED)
    deferred: ClassVar[Listed] = Listed(Outcome.DEFERRED)
    uncertain: ClassVar[Listed] = Listed(Outcome.UNCERTAIN)
    in_progress: ClassVar[Listed] = Listed(Outcome.IN_PROGRESS)
    undated: ClassVar[Listed] = Listed(Outcome.UNDATED)
    cancelled: ClassVar[Listed] = Listed(Outcome.CANCELLED)
    superseded: ClassVar[Listed] = Listed(Outcome.SUPERSEDED)


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
        >>> ExceptionsReport(cases=(Ended(7, Outcome.SENT),)).announced
        (7,)
    """

    announced: ClassVar[Listed] = Listed(Outcome.SENT, Outcome.RECORDED)
    recorded: ClassVar[Listed] = Listed(Outcome.RECORDED)
    unannounced: ClassVar[Listed] = Listed(Outcome.DEFERRED)
    already_announced: ClassVar[Listed] = Listed(Outcome.ALREADY_TOLD)
    cancelled: ClassVar[Listed] = Listed(Outcome.CANCELLED)
    undated: ClassVar[Listed] = Listed(Outcome.UNDATED)


def calls_of(reports: Collection[RunReport]) -> int:
    """Add up the requests of jobs on one scan, whose requests each report counts."""
    reading = max((report.calls - report.own_calls for report in reports), default=0)
    return reading + sum(report.own_calls for report in reports)


def merged(reports: Sequence[Any]) -> MailReport:
    """Merge the reports of several channels on one scan."""
    first: MailReport = reports[0]
    modes = {report.mode for report in reports}
    unsent = sum(len(report.due) for report in reports if report.dry_run)
    note = f"Channels in dry run did not send what is due for {unsent} orders."
    notes = [note] if unsent and len(modes) > 1 else []
    return first.model_copy(
        update={
            "dry_run": all(report.dry_run for report in reports),
            "mode": next((m for m in ("live", "rehearsal") if m in modes), first.mode),
            "calls": calls_of(reports),
            "own_calls": sum(report.own_calls for report in reports),
            "failed": tuple(dict.fromkeys(f for report in reports for f in report.failed)),
            "cases": tuple(case for report in reports for case in report.cases),
            "error": sentences(*dict.fromkeys(report.error for report in reports)),
            "suspicion": next((r.suspicion for r in reports if r.suspicion), ""),
            "advice": sentences(*dict.fromkeys(report.advice for report in reports)),
            "notes": (*dict.fromkeys(n for report in reports for n in report.notes), *notes),
        }
    )


class StatusReport(RunReport):
    """The result of a run that sets statuses; all ids are order ids.

    Attributes:
        skipped: Orders that were not read, because no status is desired for them.
        right: Orders that need no change.
        protected: Orders that differ from the desired status and are left alone; the reason says
            why.
        written: Orders that were written.
        superseded: Orders that changed after the plan was made, and need no change any more or must
            be left alone.
        not_written: Orders that could not be written, and why; the next run tries again.
        not_persisted: Orders that show another status when they are read back, and which one.

    Example:
        >>> StatusReport(cases=(Ended(7, Outcome.DONE),)).written
        (7,)
    """

    skipped: tuple[int, ...] = ()
    right: tuple[int, ...] = ()

    protected: ClassVar[Listed] = Listed(Outcome.PROTECTED)
    written: ClassVar[Listed] = Listed(Outcome.DONE, Outcome.NOT_PERSISTED)
    superseded: ClassVar[Listed] = Listed(Outcome.SUPERSEDED)
    not_written: ClassVar[Listed] = Listed(Outcome.NOT_DONE, with_reasons=True)
    not_persisted: ClassVar[Listed] = Listed(Outcome.NOT_PERSISTED, with_reasons=True)

    @property
    def planned(self) -> tuple[int, ...]:
        """Orders that are to be written; in a dry run they stay as they are."""
        return self.due
