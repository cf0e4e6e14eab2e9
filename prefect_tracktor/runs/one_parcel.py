"""Notifying the customer of the one parcel in an event, if the event is still true."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from prefect_tracktor.conditions import Condition, is_undated, parcels_in_status
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import (
    DatabaseError,
    IncompleteRun,
    InvalidInput,
    InvalidResponse,
    MailServerError,
)
from prefect_tracktor.messages.channel import Content
from prefect_tracktor.messages.mailer import Mailer
from prefect_tracktor.messages.template import EmailTemplate
from prefect_tracktor.models import Fulfillment, Order, says_cancelled
from prefect_tracktor.rules import Notification, Skipped, Subject
from prefect_tracktor.runs.cases import Ended, Outcome
from prefect_tracktor.runs.engine import run_job
from prefect_tracktor.runs.missing import suspicion_about
from prefect_tracktor.runs.needs import TO_NOTIFY_OF_ONE_STATUS
from prefect_tracktor.runs.notification_jobs import customer_job
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.report import MailReport
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.saved_blocks import ledger_of
from prefect_tracktor.tasks import batch_of, get_fulfillments

# events arrive one by one; `max_emails` limits the messages within this time
_BURST = timedelta(hours=1)
_MOST_RETRIES = 50
_MOST_DELAY_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class OneParcel:
    """The parcel and the status of an event, and since when the status is news."""

    fulfillment_id: int
    status: str
    begin: datetime
    template: EmailTemplate

    def choose(self, order: Order) -> Iterator[Notification | Skipped]:
        """Yield the notification, if the event is still true."""
        in_status = parcels_in_status(order, [self.status])
        parcels = {parcel.fulfillment_id: parcel for parcel in order.fulfillments}
        parcel = parcels.get(self.fulfillment_id)
        if parcel is None:
            get_run_logger().warning(
                "Order %s has no fulfillment %s: no email is sent.",
                order.order_id,
                self.fulfillment_id,
            )
            return
        why_not = self.why_not(parcel)
        if why_not is Outcome.UNDATED:
            yield Skipped.UNDATED
        elif why_not is None and parcel in in_status:
            yield self._notification(order, parcel)

    def _notification(self, order: Order, parcel: Fulfillment) -> Notification | Skipped:
        if order.has_cancelled(parcel) and not says_cancelled(self.status):
            return Skipped.CANCELLED
        reason = f"status:{self.status}"
        content = Content(self.template, (Condition(reason, parcel, parcel.reached_at),))
        return Notification(content, [Subject.of(parcel, reason)])

    def why_not(self, parcel: Fulfillment) -> Outcome | None:
        """Return and log why the customer is not notified; `None` if nothing is against it."""
        log, which = get_run_logger(), parcel.fulfillment_id
        if parcel.current_status != self.status:
            log.info(
                "Fulfillment %s is %s now, not %s: no email is sent.",
                which,
                parcel.current_status or "without a status",
                self.status,
            )
            return Outcome.SUPERSEDED
        if is_undated(parcel, datetime.now(UTC)):
            log.warning(
                "Fulfillment %s does not say when it got %s, or gives a future time: no email is"
                " sent.",
                which,
                self.status,
            )
            return Outcome.UNDATED
        if parcel.reached_at is None or parcel.reached_at < self.begin:
            log.warning(
                "Fulfillment %s has been %s for too long: no email is sent.", which, self.status
            )
            return Outcome.SUPERSEDED
        return None


def notify_of_one_parcel(
    credentials: TracktorCredentials,
    parcel: OneParcel,
    order_id: int | None,
    mailer: Mailer,
    *,
    dry_run: bool,
    max_emails: int,
) -> MailReport:
    """Read the parcel's order, and notify its customer if the event is still true."""
    looked_up = MailReport()
    if order_id is None:
        looked_up, order_id = _look_up(credentials, parcel)
    if order_id is None:
        return looked_up
    ledger = ledger_of(mailer)
    reading = ReadingOptions(chunk_size=1)
    scan = Scan(credentials, [order_id], reading, calls=looked_up.calls, single=True)
    job = customer_job(
        credentials,
        mailer,
        parcel.choose,
        title=f"Customer of a parcel that is {parcel.status}",
        key="status-change",
        ledger=ledger,
        dry_run=dry_run,
        max_emails=max_emails,
        sent_lately=lambda: ledger.count_since(credentials.account, kind="status", within=_BURST),
        needs=TO_NOTIFY_OF_ONE_STATUS,
    )
    job.about = f"{parcel.status}, fulfillment {parcel.fulfillment_id}"
    return run_job(scan, job)


def _look_up(credentials: TracktorCredentials, parcel: OneParcel) -> tuple[MailReport, int | None]:
    """Find the parcel's order; the id is `None` if no email is to be sent."""
    fulfillment_id = parcel.fulfillment_id
    needs = TO_NOTIFY_OF_ONE_STATUS.of_each_parcel
    batch = batch_of(get_fulfillments.submit(credentials, [fulfillment_id], needs=needs))
    report = MailReport(calls=batch.requests, failed=tuple(batch.failed))
    if batch.failed:
        raise IncompleteRun(
            f"fulfillment {fulfillment_id} could not be read: {batch.failed[0].reason}",
            report=report,
        )
    if batch.missing:
        get_run_logger().warning("Tracktor does not know fulfillment %s.", fulfillment_id)
        suspicion, calls = suspicion_about(credentials, found=0, missing=1, dry_run=True)
        report = report.model_copy(update={"calls": report.calls + calls, "suspicion": suspicion})
        if suspicion:
            raise IncompleteRun(suspicion, report=report)
        return report, None
    [found] = batch.found
    why_not = parcel.why_not(found)
    if why_not is not None:
        undated = why_not is Outcome.UNDATED and found.order_id is not None
        cases = (Ended(found.order_id or 0, why_not, planned=False),) if undated else ()
        return report.model_copy(update={"cases": cases}), None
    if found.order_id is None:
        raise InvalidResponse(f"the response for fulfillment {fulfillment_id} has no order_id")
    return report, found.order_id


def with_retries(
    write: Callable[[], MailReport], retry_delays_seconds: list[float]
) -> Task[[], MailReport]:
    """Make a task that is retried after temporary errors."""
    if len(retry_delays_seconds) > _MOST_RETRIES:
        raise InvalidInput(f"retry_delays_seconds has more than {_MOST_RETRIES} entries")
    for place, seconds in enumerate(retry_delays_seconds):
        if not 0 <= seconds <= _MOST_DELAY_SECONDS:
            raise InvalidInput(
                f"retry_delays_seconds[{place}] must be from 0 to {_MOST_DELAY_SECONDS}, not"
                f" {seconds}"
            )
    # without the tag of the tasks inside: with a limit of one run, they would wait for this task
    return task(
        name="Write to the customer",
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(retry_delays_seconds),
        retry_delay_seconds=retry_delays_seconds,
        retry_condition_fn=_is_temporary,
    )(write)


# Prefect accepts only plain functions as conditions; `state.data` is the error
def _is_temporary(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    error = state.data
    if isinstance(error, IncompleteRun):
        return bool(error.report.failed or error.report.deferred)
    return isinstance(error, MailServerError | DatabaseError)
