"""The first two steps of every flow that scans a shop: find the orders, read them in bulk."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any

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


class Scan(Reading[Order]):
    """Reads a shop's orders, one task run per chunk, on the flow's task runner."""

    def __init__(
        self,
        credentials: TracktorCredentials,
        orders: Sequence[int | FoundOrder] | OrderSource,
        reading: ReadingOptions = DEFAULT_READING,
        *,
        may_skip: Callable[[int], bool] = lambda _order_id: True,
        calls: int = 0,
        needs: Needs = Needs(),  # noqa: B008 - immutable
        alone: bool = False,
    ) -> None:
        self.credentials = credentials
        self._credentials = _share(credentials, reading.chunks_at_once)
        self._orders = orders
        self.options = reading
        self._memory = reading.completed_orders
        self._may_skip = may_skip
        self.alone = alone
        self._all_read = False
        self._answers = ResponseCheck(needs)
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
        """Read chunk by chunk."""
        self._answers.needs = self.needs  # of the jobs, by now
        total = len(set(self._orders)) if isinstance(self._orders, Sequence) else None
        progress = Progress("tracktor-scan", description="Orders read", total=total)
        with nullcontext() if self.alone else progress as shown:
            for chunk in self._in_order():
                batch = self._take(chunk)
                yield batch
                if shown:
                    shown.advance(chunk.size - len(batch.failed))
        if self.needs.in_some:
            self._conclude()
        self._all_read = True

    def found(self, *, dry_run: bool) -> dict[str, Any]:
        """What all reports have in common."""
        suspicion, calls_for_it = "", 0
        if self._all_read:
            suspicion, calls_for_it = suspicion_about(
                self.credentials,
                found=len(self.read) + len(self.completed) + len(self.failed),
                missing=len(self.missing),
                dry_run=dry_run,
            )
        return {
            "dry_run": dry_run,
            "calls": self.calls + calls_for_it,
            "read": tuple(self.read),
            "left_out": dict(self.left_out),
            "completed": tuple(self.completed),
            "missing": tuple(self.missing),
            "failed": tuple(self.failed),
            "suspicion": suspicion,
            "notes": self.notes,
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What was unusual in the responses so far."""
        return self._answers.notes()

    def _conclude(self) -> None:
        """Say what all answers lacked, before anything is done about them."""
        for note in self.notes:
            get_run_logger().warning(note)
        self._answers.refuse_lost()

    def remember_completed(self, *, unless: Iterable[int]) -> None:
        """Keep in mind which orders need not be read again, after all was done about them."""
        open_orders = set(unless)
        arrivals = {i: time for i, time in self._arrivals.items() if i not in open_orders}
        if self._memory is not None:
            try:
                self._memory.remember(self.credentials.account, arrivals)
            except DatabaseError as trouble:
                self._go_without_memory(trouble)

    def _without_completed(self, chunk: list[int]) -> list[int]:
        if self._memory is None:
            return chunk
        skippable = filter(self._may_skip, chunk)
        try:
            settled = self._memory.among(self.credentials.account, skippable)
        except DatabaseError as trouble:
            self._go_without_memory(trouble)
            return chunk
        self.completed += (order_id for order_id in chunk if order_id in settled)
        return [order_id for order_id in chunk if order_id not in settled]

    def _go_without_memory(self, trouble: DatabaseError) -> None:
        """Without it orders are looked up that need not be; nothing else is lost."""
        self._memory = None
        get_run_logger().warning("All orders are read, and none is remembered: %s", trouble)

    def _in_order(self) -> Iterator["_Chunk"]:
        """The chunks as they come, each when its turn is to be waited for."""
        orders = iter_orders(self._orders)
        self.left_out = orders.left_out
        chunks = chunked(self._named(orders), self.options.chunk_size)
        under_way = deque(map(self._start, islice(chunks, self.options.chunks_at_once)))
        while under_way:
            yield under_way.popleft()
            under_way.extend(map(self._start, islice(chunks, 1)))
        if orders.note:
            get_run_logger().info("Orders %s.", orders.note)

    def _named(self, orders: FoundOrders) -> Iterator[FoundOrder]:
        empty = True
        for found in orders:
            empty = False
            yield found
        if empty and not self.options.allow_empty:
            raise InvalidInput(
                f"orders names no order at all: {orders.why_none}. If there may be none, set"
                " allow_empty of the flow's reading options"
            )

    def _start(self, orders: list[FoundOrder]) -> "_Chunk":
        wanted = self._without_completed([found.order_id for found in orders])
        if self.gave_up or not wanted:
            return _Chunk(len(orders), time.time(), not_tried=wanted)
        begun = time.time()
        reading = get_orders.submit(self._credentials, wanted, needs=self.needs.in_each)
        facts = {order_id: facts for order_id, facts in orders if facts != NO_FACTS}
        return _Chunk(len(orders), begun, reading, facts=facts)

    def _take(self, chunk: "_Chunk") -> Batch[Order]:
        self.begun = chunk.begun
        batch = chunk.read()
        if batch.gave_up and not self.gave_up:
            self.gave_up = True
            get_run_logger().warning("Tracktor does not answer: no further order is asked for.")
        self.calls += batch.requests
        self._answers.take(batch.found)
        self.read += (order.order_id for order in batch.found)
        self.missing += batch.missing
        self.failed += batch.failed
        if self._memory is not None:
            times = {order.order_id: arrived_at(order) for order in batch.found}
            self._arrivals |= {i: time for i, time in times.items() if time is not None}
        return batch


@dataclass(frozen=True, slots=True)
class _Chunk:
    size: int
    begun: float
    reading: PrefectFuture[Batch[Order]] | None = None
    not_tried: Sequence[int] = ()
    facts: Mapping[int, OrderFacts] = field(default_factory=dict)

    def read(self) -> Batch[Order]:
        """Wait for the orders; each comes with what its source knows about it."""
        if self.reading is None:
            return Batch(failed=[Failure(order_id, NOT_TRIED) for order_id in self.not_tried])
        batch = _of_one_order_each(batch_of(self.reading))
        if not self.facts:
            return batch
        known = (self.facts.get(order.order_id, NO_FACTS) for order in batch.found)
        found = [order.with_facts(facts) for order, facts in zip(batch.found, known, strict=True)]
        return replace(batch, found=found)


def _of_one_order_each(batch: Batch[Order]) -> Batch[Order]:
    """Whose parcels they are cannot be told where an answer mixes orders up."""
    mixed = {
        order.order_id: Failure(order.order_id, _mixed_up(order))
        for order in batch.found
        if order.foreign_parcels
    }
    if not mixed:
        return batch
    return Batch(
        found=[order for order in batch.found if order.order_id not in mixed],
        missing=batch.missing,
        failed=[*batch.failed, *mixed.values()],
        requests=batch.requests,
        gave_up=batch.gave_up,
    )


def _mixed_up(order: Order) -> str:
    ids = [parcel.fulfillment_id for parcel in order.foreign_parcels]
    return f"the answer holds parcels of another order: fulfillments {shown(ids)}"


def _share(credentials: TracktorCredentials, chunks_at_once: int) -> TracktorCredentials:
    """What each of several chunks may ask for, so that together they keep to the limits."""
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
    # within a process there is one limiter for the account, whatever the number of chunks
    processes = 1 if in_one_process else chunks_at_once
    shares = {
        "max_concurrency": limits.max_concurrency // chunks_at_once,
        "requests_per_second": limits.requests_per_second / processes,
    }
    return credentials.model_copy(update={"limits": limits.model_copy(update=shares)})
