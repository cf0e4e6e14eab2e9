"""The engine of all flows: find, read, choose, show the plan, check the limit, act, report.

A job chooses cases from what is read, and acts on them. One scan of a shop can feed several jobs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial, reduce
from operator import itemgetter, or_
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from uuid import UUID

from prefect import get_run_logger

from prefect_tracktor.bulk import Batch, Failure
from prefect_tracktor.errors import IncompleteRun, InvalidInput, LimitExceeded, TracktorError
from prefect_tracktor.reporting.artifacts import publish_summary, publish_table
from prefect_tracktor.reporting.markdown import Row
from prefect_tracktor.reporting.progress import Progress
from prefect_tracktor.reporting.words import mode_label
from prefect_tracktor.runs.cases import Case, Ended, Outcome
from prefect_tracktor.runs.needs import Needs
from prefect_tracktor.runs.report import RunReport, sentences
from prefect_tracktor.runs.showing import show_mode

if TYPE_CHECKING:  # it imports SQLAlchemy, which webhooks do not need
    from prefect_tracktor.runs.reading import ReadingOptions

T = TypeVar("T")
C = TypeVar("C", bound=Case)
R = TypeVar("R", bound=RunReport)
Combined = TypeVar("Combined")


@dataclass(frozen=True, slots=True)
class Limit:
    """The number of cases above which a run stops before it acts on the first."""

    parameter: str
    most: int
    due: str
    undone: str

    def __post_init__(self) -> None:
        if self.most < 0:
            raise InvalidInput(f"{self.parameter} must be 0 or more, not {self.most}")

    def check(self, count: int, *, lately: int = 0) -> None:
        """Raise `LimitExceeded` for more than the limit, with what was sent lately."""
        if count and count + lately > self.most:
            before = f" and {lately} were sent within the last hour," if lately else ""
            raise LimitExceeded(
                f"{count} {self.due}{before} and {self.parameter} is {self.most}: {self.undone}."
                " Look at this run's table; if it is right, run again with a higher"
                f" {self.parameter}."
            )


class Reading(ABC, Generic[T]):
    """The input of a run's jobs, such as a shop's orders, read in chunks."""

    options: "ReadingOptions"
    needs: Needs = Needs()  # of all jobs
    single: bool = False  # of one order: no plan, no progress, one artifact
    begun: float = 0.0  # when the request for the latest chunk was sent
    missing: Sequence[int] = ()
    failed: Sequence[Failure] = ()

    @abstractmethod
    def __iter__(self) -> Iterator[Batch[T]]:
        """Read chunk by chunk."""

    @abstractmethod
    def report_fields(self, *, dry_run: bool) -> dict[str, Any]:
        """Return the fields that the reports of all jobs have in common."""

    def remember_completed(self, *, unless: Iterable[int]) -> None:
        """Record what later runs need not read again."""

    def publish(self, *, mode: str) -> None:
        """Publish what is known of all that was read."""


class Job(ABC, Generic[T, C, R]):
    """Cases chosen from a reading, and the action on them."""

    acting: ClassVar[str]  # what the progress counts
    table: ClassVar[str]  # the table's description; empty if there is no table
    report_type: type[R]
    about: str = ""  # the end of the run's name
    suspicion: str = ""
    needs: Needs = Needs()
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
        self.error: BaseException | None = None
        self.acted = False
        self.plan_id: UUID | None = None

    @property
    def takes_effect(self) -> bool:
        """Whether its actions count as done; in a rehearsal they do not."""
        return True

    @property
    def mode(self) -> str:
        """`live`, `rehearsal` or `dry_run`."""
        if self.dry_run:
            return "dry_run"
        return "live" if self.takes_effect else "rehearsal"

    def prepare(self) -> None:
        """Check, before anything is read, that the job can act."""

    def active(self) -> AbstractContextManager[None]:
        """Enter the context of the whole run, from before the first look-up to the report."""
        return nullcontext()

    @contextmanager
    def noted_in_dry_run(self, error_type: type[TracktorError]) -> Iterator[None]:
        """Turn an error that would stop a run that acts into a note of a run that does not."""
        try:
            yield
        except error_type as error:
            if not self.dry_run:
                raise
            self.note(f"A run that sends would stop: {error}")

    def note(self, note: str) -> None:
        get_run_logger().warning(note)
        self.notes.append(note)

    @abstractmethod
    def choose(self, found: Sequence[T], /) -> None:
        """Add the cases of a chunk."""

    def check_plan(self) -> None:
        """Raise an error before the first action, if the plan must not be carried out."""
        if self.limit:
            self.limit.check(len(self.planned))

    @abstractmethod
    def act(self) -> Iterator[C]:
        """Act on the planned cases, and yield each when it has its outcome."""

    def finish(self) -> None:
        """Update the outcomes by what is known at the end of the run."""

    def report_fields(self) -> dict[str, Any]:
        """Return the fields of the report that do not follow from the cases."""
        return {}

    @property
    def planned(self) -> list[C]:
        return [case for case in self.cases if case.planned]

    @property
    def has_work(self) -> bool:
        return bool(self.planned)

    @property
    def rows(self) -> Sequence[Row]:
        """The table's rows, those first that a person must act on."""
        outcomes = list(Outcome)
        visible = [case for case in self.cases if case.outcome.is_shown]
        return [c.row for c in sorted(visible, key=lambda case: outcomes.index(case.outcome))]

    def publish(self) -> None:
        """Publish further artifacts, besides the table and the summary."""


def run_job(reading: Reading[Any], job: Job[Any, Any, R]) -> R:
    """Run one job, as `run_jobs` does."""
    first: Callable[[Sequence[RunReport]], Any] = itemgetter(0)
    report: R = run_jobs(reading, [job], combine=first)
    return report


def run_jobs(
    reading: Reading[Any],
    jobs: Sequence[Job[Any, Any, Any]],
    *,
    combine: Callable[[Sequence[RunReport]], Combined],
) -> Combined:
    """Read once and run all jobs; the failure of one does not stop the others.

    The result, and the report of an `IncompleteRun`, is what `combine` makes of the jobs' reports.
    """
    run = _Run(reading, jobs)
    modes = [job.mode for job in jobs]
    show_mode(jobs[0].title, *modes, about=jobs[0].about)
    with ExitStack() as active:
        run.prepare(active)
        try:
            run.read()
            run.act()
        except BaseException as error:
            # artifacts show no state: the reports must say that the run failed
            for job in jobs:
                job.error = job.error or error
            raise
        finally:
            reports = run.report()
            reading.publish(mode=mode_label(*modes))
    return run.conclude(reports, combine)


class _Run:
    def __init__(self, reading: Reading[Any], jobs: Sequence[Job[Any, Any, Any]]) -> None:
        self._reading = reading
        self._jobs = jobs
        for job in jobs:
            job.reading = reading
        reading.needs = reduce(or_, (job.needs for job in jobs))

    def prepare(self, active: ExitStack) -> None:
        for job in self._jobs:
            self._attempt(job, partial(self._prepare, job, active))
        errors = [job.error for job in self._jobs if job.error]
        if len(errors) < len(self._jobs):
            return
        if len(set(map(str, errors))) == 1:
            raise errors[0]
        texts = [f"{job.title}: {_error_text(job.error)}" for job in self._jobs if job.error]
        raise TracktorError(sentences(*texts), may_have_arrived=False)

    def read(self) -> None:
        for batch in self._reading:
            for job in self._jobs:
                self._attempt(job, partial(job.choose, batch.found))

    def act(self) -> None:
        for job in self._jobs:
            self._attempt(job, partial(self._act, job))

    def _prepare(self, job: Job[Any, Any, Any], active: ExitStack) -> None:
        job.prepare()
        active.enter_context(job.active())

    def _attempt(self, job: Job[Any, Any, Any], step: Callable[[], None]) -> None:
        """Take a step of a job; if it fails, the job ends and the others continue."""
        if job.error:
            return
        try:
            step()
        except Exception as error:
            if len(self._jobs) == 1:
                raise
            known = isinstance(error, TracktorError)
            get_run_logger().error("%s: %s", job.title, error, exc_info=not known)
            job.error = error

    def _act(self, job: Job[Any, Any, Any]) -> None:
        job.check_plan()
        if job.has_work and not job.dry_run:
            self._act_on_plan(job)
        job.acted = not job.dry_run

    def _act_on_plan(self, job: Job[Any, Any, Any]) -> None:
        mode = mode_label(job.mode)
        if job.table and not self._reading.single:
            description = f"{mode}. The plan. {job.table}"
            job.plan_id = publish_table(job.key, job.rows, description=description)
        progress = Progress(
            f"tracktor-{job.key}", description=f"{mode}. {job.acting}", total=len(job.planned)
        )
        with nullcontext() if self._reading.single else progress as shown:
            for _ in job.act():
                if shown:
                    shown.advance(1)

    def report(self) -> list[RunReport]:
        common = self._reading.report_fields(dry_run=all(job.dry_run for job in self._jobs))
        reports = []
        for job in self._jobs:
            job.finish()
            reports.append(_report_of(job, common))
            _publish(job, reports[-1])
        return reports

    def conclude(
        self, reports: Sequence[RunReport], combine: Callable[[Sequence[RunReport]], Combined]
    ) -> Combined:
        if all(job.takes_effect and not job.dry_run and not job.error for job in self._jobs):
            left = {id_ for report in reports for id_ in report.left}
            self._reading.remember_completed(unless=left)
        combined = combine(reports)
        # several jobs may say the same about what they all read
        left_in_words = dict.fromkeys(report.what_is_left for report in reports)
        if text := " ".join(filter(None, left_in_words)):
            raise IncompleteRun(text, report=combined)
        return combined


def _report_of(job: Job[Any, Any, R], common: Mapping[str, Any]) -> R:
    unread = [Failure(c.id, c.reason) for c in job.cases if c.outcome is Outcome.UNREADABLE]
    cases = [case for case in job.cases if case.outcome is not Outcome.UNREADABLE]
    fields = {
        "dry_run": job.dry_run,
        "mode": job.mode,
        "calls": common["calls"] + job.calls,
        "own_calls": job.calls,
        "failed": (*common["failed"], *unread),
        "cases": tuple(Ended(c.id, c.outcome, c.reason, c.planned) for c in cases),
        "error": f"{job.title}: {_error_text(job.error)}" if job.error else "",
        "suspicion": common["suspicion"] or job.suspicion,
        "advice": job.advice,
        "notes": (*common["notes"], *job.notes),
    }
    return job.report_type(**dict(common) | fields | job.report_fields())


def _error_text(error: BaseException) -> str:
    if not isinstance(error, Exception):
        return "the run was stopped before it was done"
    # the text of another library's error may repeat a customer's data
    known = isinstance(error, TracktorError)
    return str(error) if known else f"{type(error).__name__}; see the run's log"


def _publish(job: Job[Any, Any, Any], report: RunReport) -> None:
    get_run_logger().info(report.sentence)
    if not job.reading.single:
        job.publish()
        if job.table:
            description = f"{mode_label(report.standing)}. {job.table}"
            publish_table(job.key, job.rows, description=description, replaces=job.plan_id)
    notes = [*filter(None, [report.what_is_left]), *report.notes]
    if report.dry_run:
        undone = job.limit.undone if job.limit else "nothing was sent or written"
        notes.append(f"This was a dry run: {undone}.")
    publish_summary(
        f"{job.key}-summary",
        title=job.title,
        counts=report.counts,
        notes=notes,
        mode=report.standing,
        act_on=[case.linked_row for case in job.cases if case.outcome.needs_a_person],
    )
