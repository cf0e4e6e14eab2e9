"""The scan of a shop, the first two steps of most flows: find the orders, read them in bulk."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_tracktor.bulk import NOT_TRIED, Batch, Failure
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import DatabaseError, InvalidInput
from prefect_tracktor.models import NO_FACTS, Order, OrderFacts
from prefect_tracktor.reporting.progress import Progress
from prefect_tracktor.reporting.words import shown
from prefect_tracktor.runs.engine import Reading
from prefect_tracktor.runs.missing import suspicion_about
from prefect_tracktor.runs.needs import Needs, ResponseCheck
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.sources import FoundOrder, FoundOrders, OrderSource, chunked, iter_orders
from prefect_tracktor.storage.completed_orders import arrived_at
from prefect_tracktor.tasks import batch_of, get_orders

if TYPE_CHECKING:  # reconciling and exporting have no figures
    from prefect_tracktor.figures import ExceptionStats


class Scan(Reading[Order]):
    """A shop's orders, read by one task run per chunk on the flow's task runner."""

    def __init__(
        self,
        credentials: TracktorCredentials,
        orders: Sequence[int | FoundOrder] | OrderSource,
        reading: ReadingOptions = DEFAULT_READING,
        *,
        may_skip: Callable[[int], bool] = lambda _order_id: True,
        calls: int = 0,
        needs: Needs = Needs(),  # noqa: B008 - immutable
        single: bool = False,
        stats: "ExceptionStats | None" = None,
    ) -> None:
        self.credentials = credentials
        self._credentials = _for_each_chunk(credentials, reading.chunks_at_once)
        self._orders = orders
        self.options = reading
        self._completed_orders = reading.completed_orders
        self._may_skip = may_skip
        self.single = single
        self._stats = stats
        self._all_read = False
        self._check = ResponseCheck(needs)
        self.needs = needs
        self.calls = calls
        self.read: list[int] = []
        self.completed: list[int] = []
        self.missing: list[int] = []
        self.failed: list[Failure] = []
        self.left_out: Mapping[str, int] = {}
        self.gave_up = False
        self._arrivals: dict[int, datetime] = {}

    def __iter__(self) -> Iterator[Batch[Order]]:
        self._check.needs = self.needs  # the engine has set the needs of the jobs by now
        total = len(set(self._orders)) if isinstance(self._orders, Sequence) else None
        progress = Progress("tracktor-scan", description="Orders read", total=total)
        with nullcontext() if self.single else progress as shown:
            for chunk in self._chunks():
                batch = self._take(chunk)
                yield batch
                if shown:
                    shown.advance(chunk.size - len(batch.failed))
        if self.needs.in_some:
            for note in self._check.notes():
                get_run_logger().warning(note)
            self._check.refuse_missing()
        self._all_read = True

    def report_fields(self, *, dry_run: bool) -> dict[str, Any]:
        suspicion, calls_for_it = "", 0
        if self._all_read:
            suspicion, calls_for_it = suspicion_about(
                self.credentials,
                found=len(self.read) + len(self.completed) + len(self.failed),
                missing=len(self.missing),
                dry_run=dry_run,
            )
        return {
            "calls": self.calls + calls_for_it,
            "read": tuple(self.read),
            "left_out": dict(self.left_out),
            "completed": tuple(self.completed),
            "missing": tuple(self.missing),
            "failed": tuple(self.failed),
            "suspicion": suspicion,
            "notes": tuple(self._check.notes()),
        }

    def remember_completed(self, *, unless: Iterable[int]) -> None:
        open_orders = set(unless)
        arrivals = {i: time for i, time in self._arrivals.items() if i not in open_orders}
        if self._completed_orders is not None:
            try:
                self._completed_orders.remember(self.credentials.account, arrivals)
            except DatabaseError as error:
                self._read_all_orders(error)

    def publish(self, *, mode: str) -> None:
        if self._stats:
            self._stats.publish(mode=mode)

    def _without_completed(self, chunk: list[int]) -> list[int]:
        if self._completed_orders is None:
            return chunk
        skippable = filter(self._may_skip, chunk)
        try:
            completed = self._completed_orders.among(self.credentials.account, skippable)
        except DatabaseError as error:
            self._read_all_orders(error)
            return chunk
        self.completed += (order_id for order_id in chunk if order_id in completed)
        return [order_id for order_id in chunk if order_id not in completed]

    def _read_all_orders(self, error: DatabaseError) -> None:
        """Continue without the completed orders; it costs look-ups, nothing else."""
        self._completed_orders = None
        get_run_logger().warning("All orders are read, and no completed ones recorded: %s", error)

    def _chunks(self) -> Iterator["_Chunk"]:
        """Start reading a few chunks ahead, and yield them in order."""
        orders = iter_orders(self._orders)
        self.left_out = orders.left_out
        chunks = chunked(self._at_least_one(orders), self.options.chunk_size)
        under_way = deque(map(self._start, islice(chunks, self.options.chunks_at_once)))
        while under_way:
            yield under_way.popleft()
            under_way.extend(map(self._start, islice(chunks, 1)))
        if orders.note:
            get_run_logger().info("Orders %s.", orders.note)

    def _at_least_one(self, orders: FoundOrders) -> Iterator[FoundOrder]:
        empty = True
        for found in orders:
            empty = False
            yield found
        if empty and not self.options.allow_empty:
            raise InvalidInput(
                f"orders contains no order: {orders.why_none}. If this is expected, set allow_empty"
                " of the flow's reading options"
            )

    def _start(self, orders: list[FoundOrder]) -> "_Chunk":
        wanted = self._without_completed([found.order_id for found in orders])
        if self.gave_up or not wanted:
            return _Chunk(len(orders), time.time(), not_tried=wanted)
        begun = time.time()
        future = get_orders.submit(self._credentials, wanted, needs=self.needs.in_each)
        facts = {order_id: facts for order_id, facts in orders if facts != NO_FACTS}
        return _Chunk(len(orders), begun, future, facts=facts)

    def _take(self, chunk: "_Chunk") -> Batch[Order]:
        self.begun = chunk.begun
        batch = chunk.read()
        if batch.gave_up and not self.gave_up:
            self.gave_up = True
            get_run_logger().warning("Tracktor does not answer: no further orders are read.")
        self.calls += batch.requests
        self._check.take(batch.found)
        if self._stats:
            self._stats.take(batch.found)
        self.read += (order.order_id for order in batch.found)
        self.missing += batch.missing
        self.failed += batch.failed
        if self._completed_orders is not None:
            times = {order.order_id: arrived_at(order) for order in batch.found}
            self._arrivals |= {i: time for i, time in times.items() if time is not None}
        return batch


@dataclass(frozen=True, slots=True)
class _Chunk:
    size: int
    begun: float
    future: PrefectFuture[Batch[Order]] | None = None
    not_tried: Sequence[int] = ()
    facts: Mapping[int, OrderFacts] = field(default_factory=dict)

    def read(self) -> Batch[Order]:
        """Wait for the orders, and add what their source knows about them."""
        if self.future is None:
            return Batch(failed=[Failure(order_id, NOT_TRIED) for order_id in self.not_tried])
        batch = _without_mixed_up(batch_of(self.future))
        if not self.facts:
            return batch
        known = (self.facts.get(order.order_id, NO_FACTS) for order in batch.found)
        found = [order.with_facts(facts) for order, facts in zip(batch.found, known, strict=True)]
        return replace(batch, found=found)


def _without_mixed_up(batch: Batch[Order]) -> Batch[Order]:
    """Let orders fail whose response mixes up parcels."""
    reasons = {order.order_id: _why_mixed_up(order) for order in batch.found}
    failed = [Failure(order_id, reason) for order_id, reason in reasons.items() if reason]
    found = [order for order in batch.found if not reasons[order.order_id]]
    return replace(batch, found=found, failed=[*batch.failed, *failed]) if failed else batch


def _why_mixed_up(order: Order) -> str:
    problems = {
        "holds parcels of another order": order.foreign_parcels,
        "lists a parcel twice, and not the same": order.contradictory_parcels,
    }
    for problem, parcels in problems.items():
        if ids := list(dict.fromkeys(parcel.fulfillment_id for parcel in parcels)):
            return f"the response {problem}: fulfillments {shown(ids)}"
    return ""


def _for_each_chunk(credentials: TracktorCredentials, chunks_at_once: int) -> TracktorCredentials:
    """Divide the account's limits by the number of chunks that are read at once."""
    limits = credentials.limits
    if chunks_at_once > limits.max_concurrency:
        raise InvalidInput(
            f"chunks_at_once is {chunks_at_once}, and the credentials allow"
            f" {limits.max_concurrency} requests at once: each chunk needs one at least"
        )
    if chunks_at_once == 1:
        return credentials
    run = FlowRunContext.get()
    in_one_process = run is None or isinstance(run.task_runner, ThreadPoolTaskRunner)
    # all chunks within a process share the account's rate limiter
    processes = 1 if in_one_process else chunks_at_once
    shares = {
        "max_concurrency": limits.max_concurrency // chunks_at_once,
        "requests_per_second": limits.requests_per_second / processes,
    }
    return credentials.model_copy(update={"limits": limits.model_copy(update=shares)})
