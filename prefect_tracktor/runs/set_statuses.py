"""The job of setting statuses: everything is read and decided before the first write.

If a run is stopped, the next run finds and writes the remaining changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect_tracktor.bulk import NOT_TRIED, Batch
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.models import NO_FACTS, Order, OrderFacts, StatusOption
from prefect_tracktor.reporting.markdown import Row as TableRow
from prefect_tracktor.reporting.markdown import admin_link
from prefect_tracktor.reporting.words import label_of
from prefect_tracktor.runs.cases import Case, Outcome, Row
from prefect_tracktor.runs.engine import Job, Limit
from prefect_tracktor.runs.needs import Needs
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.report import StatusReport
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.sources import FoundOrder, chunked
from prefect_tracktor.statuses.desired import DesiredStatus
from prefect_tracktor.statuses.plan import Change, Decide, Protected, current
from prefect_tracktor.tasks import batch_of, update_orders


@dataclass(slots=True, kw_only=True, eq=False)
class _Update(Case):
    """An order that is to be written, or left alone although it differs."""

    update: DesiredStatus | None = None
    facts: OrderFacts = NO_FACTS


class StatusJob(Job[Order, _Update, StatusReport]):
    """Writes the changes of `decide`, and reads the orders back."""

    acting = "Orders written"
    table = "The planned changes, and the orders that are left alone and why."
    report_type = StatusReport

    def __init__(
        self,
        credentials: TracktorCredentials,
        decide: Decide,
        *,
        title: str,
        key: str,
        dry_run: bool,
        max_updates: int,
        needs: Needs,
        verify: bool = True,
        skipped: Sequence[int] = (),
    ) -> None:
        super().__init__(
            title=title,
            key=key,
            dry_run=dry_run or credentials.read_only,
            limit=Limit(
                "max_updates", max_updates, "orders are to be written", "nothing was written"
            ),
        )
        self._credentials = credentials
        self._decide = decide
        self._verify = verify
        self._skipped = tuple(skipped)
        self.needs = needs
        self._right: list[int] = []
        self._gave_up = False

    def choose(self, orders: Sequence[Order]) -> None:
        """Decide about a chunk; the orders themselves are not kept in memory."""
        for order in orders:
            match self._decide(order):
                case Change() as change:
                    case = _Update(id=order.order_id, columns=_columns(change), planned=True)
                    case.update, case.facts = change.update, order.facts
                    case.links = {"Order": admin_link(order)}
                    self.cases.append(case)
                case Protected() as protected:
                    case = _Update(id=order.order_id, columns=_columns(protected))
                    case.end(Outcome.PROTECTED, protected.reason)
                    self.cases.append(case)
                case None:
                    self._right.append(order.order_id)

    def act(self) -> Iterator[_Update]:
        """Write chunk by chunk, and read back."""
        planned = self.planned
        for chunk in chunked(planned, self.reading.options.chunk_size):
            if self._gave_up:
                for case in chunk:
                    case.end(Outcome.NOT_DONE, NOT_TRIED)
            else:
                self._write({case.id: case for case in chunk})
            yield from chunk
        if self._verify:
            self._read_back({case.id: case for case in planned if case.outcome is Outcome.DONE})

    def _write(self, cases: Mapping[int, _Update]) -> None:
        """Read and decide again, as an order may have been shipped since; then write."""
        updates = []
        for batch in self._read(cases):
            _end_failed(batch, cases, Outcome.NOT_DONE)
            for order in batch.found:
                decision = self._decide(order)
                if isinstance(decision, Change):
                    updates.append(decision.update)
                else:
                    cases[order.order_id].end(Outcome.SUPERSEDED, "it has changed since")
        if updates:
            written = batch_of(update_orders.submit(self._credentials, updates))
            self.calls += written.requests
            for order in written.found:
                cases[order.order_id].end(Outcome.DONE)
            _end_failed(written, cases, Outcome.NOT_DONE)

    def _read_back(self, cases: Mapping[int, _Update]) -> None:
        for batch in self._read(cases):
            _end_failed(batch, cases, Outcome.NOT_PERSISTED, "it could not be read back: ")
            for order in batch.found:
                if self._decide(order) is not None:
                    shows = f"it shows {current(order) or 'no status'}"
                    cases[order.order_id].end(Outcome.NOT_PERSISTED, shows)

    def _read(self, cases: Mapping[int, _Update]) -> Iterator[Batch[Order]]:
        orders = [FoundOrder(case.id, case.facts) for case in cases.values()]
        options = ReadingOptions(chunk_size=self.reading.options.chunk_size, allow_empty=True)
        scan = Scan(self._credentials, orders, options, needs=self.needs.of_each_order)
        yield from scan
        self.calls += scan.calls
        self._gave_up = scan.gave_up

    @property
    def rows(self) -> list[TableRow]:
        """The cases, and the orders that were not read."""
        unread = [(failure.id, "Not read", failure.reason) for failure in self.reading.failed]
        unread += [(order_id, "Not found", "") for order_id in self.reading.missing]
        return [
            *super().rows,
            *(
                {"Order": str(id_), "Outcome": outcome, "Reason": reason, "Order id": str(id_)}
                for id_, outcome, reason in unread
            ),
        ]

    def report_fields(self) -> dict[str, Any]:
        return {"right": tuple(self._right), "skipped": self._skipped}


def _end_failed(
    batch: Batch[Any], cases: Mapping[int, _Update], outcome: Outcome, prefix: str = ""
) -> None:
    for failure in batch.failed:
        cases[failure.id].end(outcome, prefix + failure.reason)
    for order_id in batch.missing:
        cases[order_id].end(outcome, "Tracktor does not know it any more")


def status_options(credentials: TracktorCredentials) -> tuple[list[StatusOption], int]:
    """Return the shop's status options and the number of requests."""
    with credentials.get_client() as client:
        return client.get_status_options(), client.requests_sent


def _columns(order: Change | Protected) -> Row:
    return {
        "Order": order.order_name,
        "From": ", ".join(map(label_of, order.old.split(", "))),
        "To": label_of(order.new),
        "Order id": str(order.order_id),
    }
