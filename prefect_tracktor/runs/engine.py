"""The engine of all flows: find, read, choose, show the plan, refuse too many, act, report.

A job says what is to be done about the orders that are read, and does it. One reading of a shop can
feed several jobs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar
from uuid import UUID

from prefect import get_run_logger

from prefect_tracktor.bulk import Batch, Failure
from prefect_tracktor.errors import IncompleteRun, InvalidInput, LimitExceeded, TracktorError
from prefect_tracktor.models import Order
from prefect_tracktor.reporting.artifacts import publish_summary, publish_table
from prefect_tracktor.reporting.markdown import Row
from prefect_tracktor.reporting.progress import Progress
from prefect_tracktor.reporting.words import mode_label
from prefect_tracktor.runs.answers import Needs
from prefect_tracktor.runs.cases import Case, Ended, Outcome, rows_of
from prefect_tracktor.runs.report import RunReport
from prefect_tracktor.runs.showing import show_mode

if TYPE_CHECKING:  # it imports SQLAlchemy, which webhooks do not need
    from prefect_tracktor.runs.reading import ReadingOptions

T = TypeVar("T")
C = TypeVar("C", bound=Case)
R = TypeVar("R", bound=RunReport)


@dataclass(frozen=True, slots=True)
class Limit:
    """The most cases that a run acts on; if more are due, it stops before the first."""

    parameter: str
    most: int
    due: str
    undone: str

    def __post_init__(self) -> None:
        if self.most < 0:
            raise InvalidInput(f"{self.parameter} must be 0 or more, not {self.most}")

    def check(self, count: int, *, lately: int = 0) -> None:
        """Refuse more than the limit."""
        if count and count + lately > self.most:
            before = f" and {lately} were sent within the last hour," if lately else ""
            raise LimitExceeded(
                f"{count} {self.due}{before} and {self.parameter} is {self.most}: {self.undone}."
                " Look at this run's table; if it is right, run again with a higher"
                f" {self.parameter}."
            )


class Reading(ABC, Generic[T]):
    """What the jobs of a run are about, such as a shop's orders: where it comes from, and how."""

    options: "ReadingOptions"
    needs: Needs = Needs()  # of the answers, for all jobs
    alone: bool = False  # of one order: no plan, no progress, one artifact
    begun: float = 0.0  # when the reading of the latest chunk began
    missing: Sequence[int] = ()
    failed: Sequence[Failure] = ()

    @abstractmethod
    def __iter__(self) -> Iterator[Batch[T]]:
        """Read, chunk by chunk."""

    def found(self, *, dry_run: bool) -> dict[str, Any]:
        """What all reports have in common."""
        return {"dry_run": dry_run, "calls": 0, "failed": (), "notes": ()}

    def remember_completed(self, *, unless: Iterable[int]) -> None:
        """Keep in mind what need not be read again."""


class Watcher(Protocol):
    """What looks at all orders that are read, and shows something of them in the end."""

    def take(self, orders: Iterable[Order]) -> None:
        """Look at some."""
        ...

    def publish(self, *, mode: str) -> None:
        """Show it."""
        ...


class Job(ABC, Generic[T, C, R]):
    """What is done about what is read."""

    acting: ClassVar[str]  # what the progress counts
    shows_unread: ClassVar[bool] = False  # whether its table names orders that were not read
    table: ClassVar[str]  # what the table shows; empty if there is none
    report_type: type[R]
    needs: Needs = Needs()  # of Tracktor's answers
    reading: Reading[T]

    def __init__(self, *, title: str, key: str, limit: Limit | None, dry_run: bool) -> None:
        self.title = title
        self.key = key
        self.limit = limit
        self.dry_run = dry_run
        self.cases: list[C] = []
        self.calls = 0
        self.advice = ""
        self.notes: list[str] = []

    @property
    def leaves_traces(self) -> bool:
        """Whether what it does counts as done, unlike in a rehearsal."""
        return True

    @property
    def mode(self) -> str:
        """Whether it acts: live, rehearsal or dry_run."""
        if self.dry_run:
            return "dry_run"
        return "live" if self.leaves_traces else "rehearsal"

    def prepare(self) -> None:
        """See, before anything is read, that it can act."""

    def at_work(self) -> AbstractContextManager[None]:
        """Let others know that it is at work, from before it looks until all is done."""
        return nullcontext()

    @abstractmethod
    def choose(self, found: Sequence[T], /, *, read_at: float) -> None:
        """Add a case for all that is to be done about a chunk."""

    def refuse(self) -> None:
        """Stop before the first act, if not all is as it should be."""
        if self.limit:
            self.limit.check(len(self.planned))

    @abstractmethod
    def act(self) -> Iterator[C]:
        """Act on all planned cases; give each back when it has its outcome."""

    def look_back(self, *, acted: bool) -> None:
        """Complete the cases by what is known in the end."""

    def facts(self, found: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """What the report says beside the cases."""
        return {}

    @property
    def planned(self) -> list[C]:
        """The cases to act on."""
        return [case for case in self.cases if case.planned]

    @property
    def has_work(self) -> bool:
        """Whether there is anything to act on."""
        return bool(self.planned)

    @property
    def undone(self) -> str:
        """What a dry run leaves out."""
        return self.limit.undone if self.limit else "nothing was sent or written"

    @property
    def rows(self) -> Sequence[Row]:
        """What the table shows."""
        return rows_of(self.cases)

    def publish(self) -> None:
        """Show what neither table nor summary do."""


def carry_out(
    reading: Reading[Any],
    job: Job[Any, Any, R],
    *,
    watchers: Sequence[Watcher] = (),
    about: str = "",
) -> R:
    """Do one job; see `carry_out_all`."""
    [report] = carry_out_all(reading, [job], watchers=watchers, about=about)
    return report  # type: ignore[return-value]  # a job makes reports of its own type


def carry_out_all(
    reading: Reading[Any],
    jobs: Sequence[Job[Any, Any, Any]],
    *,
    watchers: Sequence[Watcher] = (),
    about: str = "",
    combine: Callable[[Sequence[RunReport]], Any] = list,
) -> list[RunReport]:
    """Read once, and do all jobs; a job that fails does not keep the others from theirs.

    What is left by several jobs is raised together, with what `combine` makes of their reports.
    """
    run = _Run(reading, jobs)
    modes = [job.mode for job in jobs]
    show_mode(jobs[0].title, *modes, about=about)
    with ExitStack() as at_work:
        run.prepare(at_work)
        try:
            run.read(watchers)
            run.act()
        except BaseException as error:
            run.ended_by(error)
            raise
        finally:
            reports = run.report()
            for watcher in watchers:
                watcher.publish(mode=mode_label(*modes))
    run.conclude(reports, combine)
    return reports


class _Run:
    def __init__(self, reading: Reading[Any], jobs: Sequence[Job[Any, Any, Any]]) -> None:
        self._reading = reading
        self._jobs = jobs
        for job in jobs:
            job.reading = reading
        reading.needs = reduce(or_, (job.needs for job in jobs))
        self._errors: dict[Job[Any, Any, Any], BaseException] = {}
        self._acted: list[Job[Any, Any, Any]] = []
        self._plans: dict[Job[Any, Any, Any], UUID | None] = {}

    def prepare(self, at_work: ExitStack) -> None:
        for job in self._jobs:
            self._attempt(job, job.prepare)
            self._attempt(job, partial(self._begin, job, at_work))
        if len(self._errors) == len(self._jobs):
            raise next(iter(self._errors.values()))

    def read(self, watchers: Iterable[Watcher]) -> None:
        for batch in self._reading:
            for watcher in watchers:
                watcher.take(batch.found)
            for job in self._jobs:
                choose = partial(job.choose, batch.found, read_at=self._reading.begun)
                self._attempt(job, choose)

    def act(self) -> None:
        for job in self._jobs:
            self._attempt(job, partial(self._carry_out, job))

    def ended_by(self, error: BaseException) -> None:
        """Let the reports say what ended the run; a page of one artifact shows no more of it."""
        for job in self._jobs:
            self._errors.setdefault(job, error)

    def _begin(self, job: Job[Any, Any, Any], at_work: ExitStack) -> None:
        at_work.enter_context(job.at_work())

    def _attempt(self, job: Job[Any, Any, Any], step: Callable[[], None]) -> None:
        """Take a step of a job; if it fails, the job ends, and the others go on."""
        if job in self._errors:
            return
        try:
            step()
        except Exception as error:
            if len(self._jobs) == 1:
                raise
            known = isinstance(error, TracktorError)
            get_run_logger().error("%s: %s", job.title, error, exc_info=not known)
            self._errors[job] = error

    def _carry_out(self, job: Job[Any, Any, Any]) -> None:
        job.refuse()
        if job.has_work and not job.dry_run:
            self._act(job)
        self._acted.append(job)

    def _act(self, job: Job[Any, Any, Any]) -> None:
        if job.table and not self._reading.alone:
            rows = _rows(job, self._reading)
            what = f"{mode_label(job.mode)}. The plan. {job.table}"
            self._plans[job] = publish_table(job.key, rows, description=what)
        name, total = f"tracktor-{job.key}", len(job.planned)
        progress = Progress(name, description=f"{mode_label(job.mode)}. {job.acting}", total=total)
        with nullcontext() if self._reading.alone else progress as shown:
            for _ in job.act():
                if shown:
                    shown.advance(1)

    def report(self) -> list[RunReport]:
        found: dict[str, Any] | None = None
        reports = []
        for job in self._jobs:
            job.look_back(acted=job in self._acted and not job.dry_run)
            if found is None:
                found = self._reading.found(dry_run=all(job.dry_run for job in self._jobs))
            reports.append(_report_of(job, found, self._error_of(job)))
            rows = None if self._reading.alone else _rows(job, self._reading)
            _publish(job, reports[-1], rows, self._plans.get(job))
        return reports

    def _error_of(self, job: Job[Any, Any, Any]) -> str:
        error = self._errors.get(job)
        if error is None:
            return ""
        return _words(error) if len(self._jobs) == 1 else f"{job.title}: {_words(error)}"

    def conclude(
        self, reports: Sequence[RunReport], combine: Callable[[Sequence[RunReport]], Any]
    ) -> None:
        acts = all(job.leaves_traces and not job.dry_run for job in self._jobs)
        if acts and not self._errors:
            left = {id_ for report in reports for id_ in report.left}
            self._reading.remember_completed(unless=left)
        # several jobs may say the same of what they all read
        said = dict.fromkeys(report.what_is_left for report in reports if not report.complete)
        if said:
            found = reports[0] if len(reports) == 1 else combine(reports)
            raise IncompleteRun(" ".join(said), report=found)


def _report_of(job: Job[Any, Any, R], found: Mapping[str, Any], error: str) -> R:
    unreadable = [case for case in job.cases if case.outcome is Outcome.UNREADABLE]
    unread = [Failure(case.id, case.reason) for case in unreadable]
    cases = [case for case in job.cases if case.outcome is not Outcome.UNREADABLE]
    said = {
        "dry_run": job.dry_run,
        "mode": job.mode,
        "calls": found["calls"] + job.calls,
        "own_calls": job.calls,
        "failed": (*found["failed"], *unread),
        "cases": tuple(Ended(c.id, c.outcome, c.reason, c.planned) for c in cases),
        "error": error,
        "advice": job.advice,
        "notes": (*found["notes"], *job.notes),
    }
    return job.report_type(**dict(found) | said | job.facts(found))


def _words(error: BaseException) -> str:
    if not isinstance(error, Exception):
        return "the run was stopped before it was done"
    # the words of others may repeat a customer's data
    known = isinstance(error, TracktorError)
    return str(error) if known else f"{type(error).__name__}; the run's log says more"


def _rows(job: Job[Any, Any, Any], reading: Reading[Any]) -> list[Row]:
    rows = [*job.rows]
    if job.shows_unread:
        unread = [(one.id, "Not read", one.reason) for one in reading.failed]
        unread += [(order_id, "Not found", "") for order_id in reading.missing]
        rows += [
            {"Order": str(id_), "Outcome": outcome, "Reason": reason, "Order id": str(id_)}
            for id_, outcome, reason in unread
        ]
    return rows


def _publish(
    job: Job[Any, Any, Any], report: RunReport, rows: list[Row] | None, plan: UUID | None
) -> None:
    counts = report.counts
    get_run_logger().info(report.sentence)
    if rows is not None:
        job.publish()
        if job.table:
            what = f"{mode_label(report.standing)}. {job.table}"
            publish_table(job.key, rows, description=what, replaces=plan)
    notes = [*filter(None, [report.what_is_left]), *report.notes]
    if report.dry_run:
        notes.append(f"This was a dry run: {job.undone}.")
    publish_summary(
        f"{job.key}-summary",
        title=job.title,
        counts=counts,
        notes=notes,
        mode=report.standing,
        act_on=[case.linked_row for case in job.cases if case.outcome.needs_a_person],
    )
