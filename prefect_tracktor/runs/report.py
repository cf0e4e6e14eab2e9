"""What flows return: typed reports, derived from the cases of a run, each figure in one place."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from prefect_tracktor.bulk import Failure
from prefect_tracktor.reporting.words import counts_in_words
from prefect_tracktor.runs.cases import Ended, Outcome, what_is_left


def sentences(*parts: str) -> str:
    """Join what there is to say; parts come with or without their full stop."""
    said = [part.rstrip(".") for part in parts if part]
    return ". ".join(said) + ("." if len(said) > 1 else "")


def _capitalized(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


class RunReport(BaseModel):
    """What a run found and did; order ids throughout.

    Attributes:
        dry_run: Whether nothing was to be sent or changed.
        mode: `live`, `rehearsal` or `dry_run`.
        calls: How many requests were sent to Tracktor, repetitions included.
        own_calls: How many of these were this part's alone, beside the reading of the orders.
        read: Orders that were read.
        left_out: How many orders the source left out, by reason, such as cancelled.
        completed: Completed orders, which were not read again.
        missing: Order ids that Tracktor does not know.
        failed: Orders that could not be read, and why; the next run reads them again.
        cases: What the run was about, and what became of it.
        error: Why this part of the run failed, if others went on; empty if it did not.
        suspicion: What is suspicious about the run as a whole, such as that Tracktor knows none of
            the orders; empty if nothing is.
        advice: What a person should know and do; empty if nothing.
        notes: What was odd about Tracktor's answers: documented fields that none of them had,
            fields that could not be read, exceptions that are not known.

    Example:
        >>> report = RunReport(calls=3, read=(1, 2), missing=(3,), cases=(Ended(1, Outcome.SENT),))
        >>> report.ids(Outcome.SENT), report.complete
        ((1,), True)
        >>> report
        RunReport(3 calls, 2 read, 1 missing)
    """

    model_config = ConfigDict(frozen=True)

    # the outcomes that its counts show, also where there is none
    counted: ClassVar[Mapping[str, Outcome]] = {}

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

    def ids(self, *outcomes: Outcome) -> tuple[int, ...]:
        """Those with a case that ended so, each once.

        Args:
            outcomes: The outcomes.

        Returns:
            Their ids, in the order in which they were read.
        """
        return tuple(dict.fromkeys(case.id for case in self.cases if case.outcome in outcomes))

    @property
    def affected(self) -> tuple[int, ...]:
        """The orders that the run was about."""
        return tuple(dict.fromkeys(case.id for case in self.cases if case.outcome.is_shown))

    @property
    def due(self) -> tuple[int, ...]:
        """The orders that the run was to act on; in a dry run it did not."""
        return tuple(dict.fromkeys(case.id for case in self.cases if case.planned))

    @property
    def left(self) -> tuple[int, ...]:
        """The orders about which something is left to be done, or is being done."""
        unfinished = (c for c in self.cases if c.outcome.left or c.outcome is Outcome.IN_PROGRESS)
        unread = (failure.id for failure in self.failed)
        return tuple(dict.fromkeys((*(case.id for case in unfinished), *unread)))

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done, by a later run or by a person."""
        return not self.what_is_left

    @property
    def what_is_left(self) -> str:
        """What is left to be done, in words; empty if nothing is."""
        unread = [Ended(entry.id, Outcome.UNREADABLE, entry.reason) for entry in self.failed]
        left = what_is_left([*unread, *self.cases])
        return sentences(
            self.error, self.suspicion, left, _capitalized(self.advice) if left else ""
        )

    @property
    def sentence(self) -> str:
        """What the run did, in a sentence."""
        return counts_in_words(self.counts, mode=self.mode)

    @property
    def counts(self) -> dict[str, int]:
        """How many calls were made, and how many orders stand where."""
        return {name.replace("_", " "): count for name, count in self._counts()} | {
            f"left out as {why}": count for why, count in self.left_out.items()
        }

    def _counts(self) -> Iterator[tuple[str, int]]:
        yield "calls", self.calls
        for name in type(self).model_fields:
            if name not in {"cases", "notes"} and isinstance(getattr(self, name), tuple):
                yield name, len(getattr(self, name))
        if self.counted:
            yield "affected", len(self.affected)
            yield "due", len(self.due)
        for name, outcome in self.counted.items():
            yield name, len(self.ids(outcome))

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        return f"{type(self).__name__}({counts})"

    __str__ = __repr__


class MailReport(RunReport):
    """What a run that tells customers found and did; order ids throughout.

    An order stands in several lists where its parcels fared differently.

    Example:
        >>> MailReport(read=(1, 2), cases=(Ended(2, Outcome.SENT),)).sent
        (2,)
    """

    counted: ClassVar[Mapping[str, Outcome]] = {
        "sent": Outcome.SENT,
        "rehearsed": Outcome.REHEARSED,
        "recorded": Outcome.RECORDED,
        "already told": Outcome.ALREADY_TOLD,
        "no address": Outcome.NO_ADDRESS,
        "refused": Outcome.REFUSED,
        "deferred": Outcome.DEFERRED,
        "uncertain": Outcome.UNCERTAIN,
        "in progress": Outcome.IN_PROGRESS,
        "undated": Outcome.UNDATED,
        "cancelled": Outcome.CANCELLED,
        "superseded": Outcome.SUPERSEDED,
    }

    @property
    def sent(self) -> tuple[int, ...]:
        """Those whose customer was told."""
        return self.ids(Outcome.SENT)

    @property
    def rehearsed(self) -> tuple[int, ...]:
        """Those whose message went to the rehearsal address instead."""
        return self.ids(Outcome.REHEARSED)

    @property
    def recorded(self) -> tuple[int, ...]:
        """Those that were only recorded as told."""
        return self.ids(Outcome.RECORDED)

    @property
    def already_told(self) -> tuple[int, ...]:
        """Those whose customer an earlier or simultaneous run told."""
        return self.ids(Outcome.ALREADY_TOLD)

    @property
    def no_address(self) -> tuple[int, ...]:
        """Those without a usable address."""
        return self.ids(Outcome.NO_ADDRESS)

    @property
    def refused(self) -> tuple[int, ...]:
        """Those whose address the server refused, now or earlier; not tried again."""
        return self.ids(Outcome.REFUSED)

    @property
    def deferred(self) -> tuple[int, ...]:
        """Those whose message could not be sent now; the next run tries again."""
        return self.ids(Outcome.DEFERRED)

    @property
    def uncertain(self) -> tuple[int, ...]:
        """Those whose message may or may not have been sent by a run that was interrupted.

        They are never told again unless a person clears the claim in the ledger.
        """
        return self.ids(Outcome.UNCERTAIN)

    @property
    def in_progress(self) -> tuple[int, ...]:
        """Those whom another run was still telling when this one ended; that run reports them."""
        return self.ids(Outcome.IN_PROGRESS)

    @property
    def undated(self) -> tuple[int, ...]:
        """Those with a parcel that was passed over, as the time of its status is not usable."""
        return self.ids(Outcome.UNDATED)

    @property
    def cancelled(self) -> tuple[int, ...]:
        """Those with a parcel that was passed over, as it or the order is cancelled or refunded."""
        return self.ids(Outcome.CANCELLED)

    @property
    def superseded(self) -> tuple[int, ...]:
        """Those whose message was not sent, as their parcels moved on after they were read."""
        return self.ids(Outcome.SUPERSEDED)


def calls_of(reports: Collection[RunReport]) -> int:
    """The requests of several parts that share one reading, which each of them counts."""
    reading = max((report.calls - report.own_calls for report in reports), default=0)
    return reading + sum(report.own_calls for report in reports)


def merged(reports: Sequence[Any]) -> MailReport:
    """One report of several channels that were told on one reading."""
    first: MailReport = reports[0]
    modes = {report.mode for report in reports}
    asleep = sum(len(report.due) for report in reports if report.dry_run)
    quiet = f"Channels in dry run did not send what is due for {asleep} orders."
    notes = [quiet] if asleep and len(modes) > 1 else []
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
    """What a run that sets statuses found and did; order ids throughout.

    Attributes:
        skipped: Orders that were not read, because nothing was asked for them.
        right: Orders that need no change.

    Example:
        >>> StatusReport(cases=(Ended(7, Outcome.DONE),)).written
        (7,)
    """

    counted: ClassVar[Mapping[str, Outcome]] = {
        "protected": Outcome.PROTECTED,
        "written": Outcome.DONE,
        "superseded": Outcome.SUPERSEDED,
        "not written": Outcome.NOT_DONE,
        "not persisted": Outcome.NOT_PERSISTED,
    }

    skipped: tuple[int, ...] = ()
    right: tuple[int, ...] = ()

    @property
    def protected(self) -> tuple[int, ...]:
        """Those that differ from what is wanted and are left alone, as their reason says."""
        return self.ids(Outcome.PROTECTED)

    @property
    def planned(self) -> tuple[int, ...]:
        """Those that are to be written; in a dry run they stay as they are."""
        return self.due

    @property
    def written(self) -> tuple[int, ...]:
        """Those that were written."""
        return self.ids(Outcome.DONE, Outcome.NOT_PERSISTED)

    @property
    def superseded(self) -> tuple[int, ...]:
        """Those that need no change any more, or must be left alone since the plan was made."""
        return self.ids(Outcome.SUPERSEDED)

    @property
    def not_written(self) -> tuple[Failure, ...]:
        """Those that could not be written, and why; the next run tries again."""
        return self._failures(Outcome.NOT_DONE)

    @property
    def not_persisted(self) -> tuple[Failure, ...]:
        """Those that were written and do not show it when read back, and what they show."""
        return self._failures(Outcome.NOT_PERSISTED)

    def _failures(self, outcome: Outcome) -> tuple[Failure, ...]:
        return tuple(Failure(c.id, c.reason) for c in self.cases if c.outcome is outcome)
