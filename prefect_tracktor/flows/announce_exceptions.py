"""`announce_exceptions`: events for parcels in trouble, of which no webhook of Tracktor's tells."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prefect import get_run_logger
from prefect.events import Event
from prefect.runtime import flow_run

from prefect_tracktor.bulk import Failure
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import (
    IncompleteRun,
    InvalidInput,
    InvalidResponse,
    LedgerReplaced,
    LimitExceeded,
)
from prefect_tracktor.events.prefect_api import send_events
from prefect_tracktor.events.schema import exception_event
from prefect_tracktor.flows.email_expired_exceptions import affected_parcels, asked_exceptions
from prefect_tracktor.flows.parameters import flow
from prefect_tracktor.models import Fulfillment, Order, exception_label
from prefect_tracktor.reporting import publish_summary, publish_table
from prefect_tracktor.runs.answers import TO_FIND_EXCEPTIONS
from prefect_tracktor.runs.exception_stats import Trouble
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import RunReport, in_words, sentences
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.saved_blocks import shared_ledger
from prefect_tracktor.sources import Orders
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState, NotificationLedger
from prefect_tracktor.storage.ledger_memory import LedgerMemory, LedgerStanding

Row = dict[str, str | int]

ALL_EXCEPTIONS = frozenset({"all"})


class ExceptionsReport(RunReport):
    """What a run of `announce_exceptions` found and did; order ids throughout.

    Attributes:
        in_trouble: Those with an undelivered parcel in one of the exception statuses.
        due: Those with a parcel whose exception was not announced yet.
        announced: Those whose exception was announced, or only recorded.
        unannounced: Those whose event Prefect did not take; the next run sends it again.
        cancelled: Those that were passed over, since they or the parcel are cancelled or refunded.

    Example:
        >>> ExceptionsReport(in_trouble=(7,), due=(7,), announced=(7,)).complete
        True
    """

    in_trouble: tuple[int, ...] = ()
    due: tuple[int, ...] = ()
    announced: tuple[int, ...] = ()
    unannounced: tuple[int, ...] = ()
    cancelled: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done by a later run."""
        return super().complete and not self.unannounced


@flow(name="Announce exceptions", flow_run_name="announce-exceptions")
def announce_exceptions(
    credentials: TracktorCredentials,
    orders: Orders,
    *,
    dry_run: bool = False,
    remember_only: bool = False,
    max_events: int = 500,
    exception_statuses: frozenset[str] = ALL_EXCEPTIONS,
    include_cancelled: bool = False,
    ledger: NotificationLedger | None = None,
    reading: ReadingOptions = DEFAULT_READING,
) -> ExceptionsReport:
    """Emit an event, once, for each parcel with a new exception.

    The event is `tracktor.fulfillment.exception.<status>` about `tracktor.fulfillment.<id>`, so
    that automations and deployments can react to it; its payload holds ids and statuses.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, a file with them, or a search in Shopify.
        dry_run: Show what would be announced, and emit and record nothing. Read-only
            credentials do the same.
        remember_only: Record the current exceptions and emit nothing; use it for the first
            run.
        max_events: If more events than this are due, none is emitted.
        exception_statuses: Which exceptions to announce, by key or label: all, or some of expired
            (Tracking Expired), exception (Shipping Exception), not_found (Needs Attention), pending
            (Pending Details), undelivered (Failed Attempt), cancelled (Cancelled), and any other
            that Tracktor gives.
        include_cancelled: Include parcels that are cancelled, voided or refunded, or whose order
            is; the report counts those that are left out.
        ledger: Records what was announced. Default: the block `tracktor`, or else a SQLite file in
            the Prefect home of the machine that runs the flow. Several machines need PostgreSQL.
        reading: How orders are read: completed orders, chunk size and the like.

    Returns:
        What was found and done.

    Raises:
        InvalidInput: An argument is invalid, or `orders` names none; nothing was emitted.
        LimitExceeded: More than `max_events` events are due; none was emitted.
        LedgerError: The ledger cannot be used.
        InvalidResponse: No answer of Tracktor's had a field that is needed; none was emitted.
        LedgerReplaced: The account's events were remembered by another ledger before; none was
            emitted.
        IncompleteRun: All that could be done was done, and something is left. Its `report` says
            what.

    Example:
        >>> from prefect_tracktor.flows import announce_exceptions
        >>> first = announce_exceptions(credentials, order_ids, ledger=ledger)
        >>> second = announce_exceptions(credentials, order_ids, ledger=ledger)
        >>> len(first.announced) > 20, len(second.due)
        (True, 0)
    """
    asked = asked_exceptions(exception_statuses)
    if max_events < 0:
        raise InvalidInput(f"max_events must be 0 or more, not {max_events}")
    scan = Scan(
        credentials,
        orders,
        reading,
        needs=TO_FIND_EXCEPTIONS,
    )
    news = _News(
        credentials.account,
        asked,
        ledger or shared_ledger(),
        LedgerMemory.of(credentials.account, base_url=credentials.base_url, purpose="events"),
        include_cancelled=include_cancelled,
    )
    dry_run = dry_run or credentials.read_only
    _recognise(news, dry_run=dry_run)
    trouble = Trouble()
    try:
        for batch in scan:
            trouble.take(batch.found)
            news.take(batch.found)
        news.act(dry_run=dry_run, remember_only=remember_only, max_events=max_events)
    finally:
        report = _report(scan, news, dry_run=dry_run)
        _publish(report, news)
        trouble.publish()
    if not dry_run:
        if report.announced:
            news.memory.keep(news.standing())
        scan.remember_completed(unless=report.unannounced)
    if not report.complete:
        raise IncompleteRun(_what_is_left(report), report=report)
    return report


def _recognise(news: "_News", *, dry_run: bool) -> None:
    """Stop where the ledger is new or has forgotten."""
    try:
        news.memory.check(news.standing())
    except LedgerReplaced as replaced:
        if not dry_run:
            raise
        get_run_logger().warning("A run that announces would stop: %s", replaced)


@dataclass(slots=True)
class _News:
    """What is in trouble, and what of it nobody was told of yet."""

    account: str
    exception_statuses: Container[str]
    ledger: NotificationLedger
    memory: LedgerMemory
    include_cancelled: bool = False
    cancelled: list[int] = field(default_factory=list)
    in_trouble: list[int] = field(default_factory=list)
    unreadable: list[Failure] = field(default_factory=list)
    due: dict[NoticeKey, Event] = field(default_factory=dict)
    announced: list[NoticeKey] = field(default_factory=list)

    def standing(self) -> LedgerStanding:
        """Which ledger it is, and how much it knows of the account."""
        return self.ledger.standing(self.account)

    def take(self, orders: Iterable[Order]) -> None:
        """Take in a chunk."""
        now = datetime.now(UTC)
        found: dict[NoticeKey, Event] = {}
        for order in orders:
            found |= self._events(order, now)
        known = self.ledger.states(found)
        self.due |= {key: event for key, event in found.items() if key not in known}

    def _events(self, order: Order, now: datetime) -> dict[NoticeKey, Event]:
        try:
            parcels = affected_parcels(order, self.exception_statuses)
            keys = {parcel.fulfillment_id: self._key(order, parcel) for parcel in parcels}
        except (InvalidResponse, InvalidInput) as unreadable:
            self.unreadable.append(Failure(order.order_id, str(unreadable)))
            return {}
        open_ones = [p for p in parcels if self.include_cancelled or not order.has_cancelled(p)]
        if len(open_ones) < len(parcels):
            self.cancelled.append(order.order_id)
        if open_ones:
            self.in_trouble.append(order.order_id)
        return {
            keys[p.fulfillment_id]: exception_event(p, account=self.account, received=now)
            for p in open_ones
        }

    def _key(self, order: Order, parcel: Fulfillment) -> NoticeKey:
        reason = f"event:exception:{parcel.exception_status}"
        return NoticeKey(self.account, order.order_id, parcel.fulfillment_id, reason)

    def act(self, *, dry_run: bool, remember_only: bool, max_events: int) -> None:
        """Announce what is due, unless there is more than allowed; or only remember it."""
        if not remember_only:
            self._refuse_more_than(max_events)
        if dry_run or not self.due:
            return
        self.memory.keep(self.standing())
        if remember_only:
            self._remember(list(self.due))
            return
        stored = send_events(list(self.due.values()))
        self._remember([key for key, event in self.due.items() if event.id in stored])

    def _refuse_more_than(self, max_events: int) -> None:
        if len(self.due) > max_events:
            raise LimitExceeded(
                f"{len(self.due)} events are due and max_events is {max_events}: none was emitted."
                " Look at this run's table; if it is right, run again with a higher max_events, or"
                " once with remember_only to begin with what comes from now on."
            )

    def _remember(self, keys: list[NoticeKey]) -> None:
        """Not to be announced any more."""
        self.ledger.settle(keys, NoticeState.SENT, run=str(flow_run.get_id() or ""))
        self.announced += keys


def _report(scan: Scan, news: _News, *, dry_run: bool) -> ExceptionsReport:
    due = tuple(dict.fromkeys(key.order_id for key in news.due))
    announced = tuple(dict.fromkeys(key.order_id for key in news.announced))
    left = () if dry_run else tuple(order_id for order_id in due if order_id not in set(announced))
    found = scan.found(dry_run=dry_run)
    return ExceptionsReport(
        **found | {"failed": (*found["failed"], *news.unreadable)},
        in_trouble=tuple(news.in_trouble),
        due=due,
        announced=announced,
        unannounced=left,
        cancelled=tuple(news.cancelled),
    )


def _publish(report: ExceptionsReport, news: _News) -> None:
    counts = report.counts
    get_run_logger().info(", ".join(f"{n} {name}" for name, n in counts.items() if n))
    told = set(news.announced)
    rows: list[Row] = [
        {
            "Order": event.payload["order_name"] or "",
            "Exception": exception_label(key.reason.rpartition(":")[2]),
            "Carrier": event.payload["carrier"] or "",
            "Outcome": "Announced" if key in told else "Due",
            "Order id": str(key.order_id),
            "Fulfillment id": str(key.fulfillment_id),
        }
        for key, event in news.due.items()
    ]
    publish_table("exceptions", rows, description="Parcels with a new exception.")
    notes = [*([] if report.complete else [_what_is_left(report)]), *report.notes]
    if report.dry_run:
        notes.append("This was a dry run: nothing was announced.")
    publish_summary("exceptions-summary", title="Exceptions", counts=counts, notes=notes)


def _what_is_left(report: ExceptionsReport) -> str:
    left = {
        "could not be read; the next run reads them again": [f.id for f in report.failed],
        "could not be announced, Prefect has no such event; the next run tries again": (
            report.unannounced
        ),
    }
    first = f"The first failed as: {report.failed[0].reason}" if report.failed else ""
    return sentences(report.suspicion, in_words(left), first)
