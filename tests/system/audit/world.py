"""Simulated weeks of a shop: orders are placed, made, shipped, cancelled and delivered.

The shop follows the process's clock, and records a snapshot of each order whenever it changes: the
audit compares them with the notices.
"""

import heapq
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from random import Random
from typing import Any

from prefect_tracktor.sandbox import Sandbox

MADE_TO_ORDER = "made"
VIP = "VIP"
_PARCEL_ID_STEP = 4_500
_EXCEPTIONS = ("expired", "exception", "undelivered", "pending", "not_found")
_TRY_AGAIN = timedelta(hours=6)

Step = Callable[[], None]


@dataclass(frozen=True)
class Snapshot:
    """An order as the shop shows it from a time on, and whether Shopify has it as cancelled."""

    at: datetime
    order: dict[str, Any]
    is_cancelled: bool = False


@dataclass(frozen=True)
class StatusUpdate:
    """A status that was set through the API, and the order before."""

    at: datetime
    status: str
    before: Snapshot


@dataclass
class World:
    """A sandbox's shop, with its planned events and its history."""

    sandbox: Sandbox
    seed: int = 1
    history: dict[int, list[Snapshot]] = field(default_factory=lambda: defaultdict(list))
    updates: list[StatusUpdate] = field(default_factory=list)
    tags: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._steps: list[tuple[datetime, int, Step]] = []
        self._tie_breakers = count()
        self._cancelled: set[int] = set()
        self._own = threading.local()
        self._lock = threading.Lock()
        self.sandbox.shop.add_listener(
            lambda changed: self._on_change(changed.order, changed.status_key)
        )

    def placed_by(self, time: datetime) -> set[int]:
        """Return the orders placed until a time."""
        return {order_id for order_id, seen in self.history.items() if seen[0].at <= time}

    def plan_order(self, order_id: int, placed_at: datetime) -> None:
        """Plan the events of an order."""
        random = Random(f"{self.seed}/{order_id}")
        order = self.sandbox.shop.order(order_id)
        [drawn] = order["fulfillments"]
        made = random.random() < 0.2
        self.tags[order_id] = ((MADE_TO_ORDER,) if made else ()) + (
            (VIP,) if random.random() < 0.3 else ()
        )
        self.sandbox.shopify.describe(order_id, tags=self.tags[order_id])
        if random.random() < 0.02:  # some customers come back
            order["order_email"] = f"regular.{order_id % 4}@example.com"
        order |= {
            "order_created_at": placed_at.isoformat(timespec="seconds"),
            "fulfillments": [],
            "statuses": [],
            "automatic_carrier_updates": not made,
        }
        self.sandbox.shop.replace(order)
        self._plan(placed_at, partial(self._record, order_id))
        if random.random() < 0.04:
            cancelled_at = placed_at + _hours(random, 1, 144)
            self._plan(cancelled_at, partial(self._cancel, order_id))
        if random.random() < 0.03:
            return  # it is never shipped
        sent_at = placed_at + (_hours(random, 84, 160) if made else _hours(random, 6, 40))
        parts = 2 if random.random() < 0.2 and order["line_item_count"] > 1 else 1
        for number in range(parts):
            parcel = _part(drawn, number, parts)
            self._plan(sent_at, partial(self._send, order_id, parcel))
            for time, move in self._carrier_steps(parcel["fulfillment_id"], sent_at, random):
                self._plan(time, move)
            sent_at += _hours(random, 0, 60 if random.random() < 0.7 else 200)

    def advance(self, until: datetime, move_clock: Callable[[datetime], None]) -> None:
        """Move the clock, and run the events in between."""
        for time, step in self._due(until):
            if time > datetime.now(UTC):
                move_clock(time)
            self._act(step)
        if until > datetime.now(UTC):
            move_clock(until)

    def catch_up(self, until: datetime, pause: Callable[[], object]) -> None:
        """Run the events until a time now, with a pause after each."""
        for _, step in self._due(until):
            self._act(step)
            pause()

    def record_changes(self) -> None:
        """Record changes without an event: whether the carrier updates an order."""
        for order_id in list(self.history):
            if MADE_TO_ORDER in self.tags[order_id]:
                self._record(order_id)

    def _due(self, until: datetime) -> Iterator[tuple[datetime, Step]]:
        while self._steps and self._steps[0][0] <= until:
            time, _, step = heapq.heappop(self._steps)
            yield time, step

    def _plan(self, time: datetime, step: Step) -> None:
        heapq.heappush(self._steps, (time, next(self._tie_breakers), step))

    def _act(self, step: Step) -> None:
        self._own.acts = True
        step()
        self._own.acts = False

    def _on_change(self, order: dict[str, Any], status: str) -> None:
        before = self.history[order["order_id"]][-1]
        if not getattr(self._own, "acts", False):
            self.updates.append(StatusUpdate(datetime.now(UTC), status, before))
        self._record(order["order_id"])

    def _record(self, order_id: int) -> None:
        with self._lock:
            seen = self.history[order_id]
            order = self.sandbox.shop.order(order_id)
            now = Snapshot(datetime.now(UTC), order, order_id in self._cancelled)
            if not seen or (seen[-1].order, seen[-1].is_cancelled) != (order, now.is_cancelled):
                seen.append(now)

    def _cancel(self, order_id: int) -> None:
        """Cancel an order and its parcels, which may arrive all the same."""
        self._cancelled.add(order_id)
        self.sandbox.shopify.describe(order_id, tags=self.tags[order_id], cancelled=True)
        order = self.sandbox.shop.order(order_id)
        for parcel in order["fulfillments"]:
            parcel["fulfillment_status"] = "cancelled"
        self.sandbox.shop.replace(order)
        self._record(order_id)

    def _send(self, order_id: int, parcel: dict[str, Any]) -> None:
        """Add a parcel, unless the order is cancelled; a status that was set by hand stays."""
        if order_id in self._cancelled:
            return
        order = self.sandbox.shop.order(order_id)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ready = {"key": "order_ready", "label": "Order ready", "datetime": now}
        automatic = order["automatic_carrier_updates"]
        steps = [ready, *parcel["status"][1:]]
        latest = ready
        if not automatic and order["statuses"]:
            shown = order["statuses"][0]
            since = next(
                seen.at for seen in self.history[order_id] if seen.order["statuses"][:1] == [shown]
            )
            time = since.isoformat(timespec="seconds")
            latest = {"key": shown.casefold().replace(" ", "_"), "label": shown, "datetime": time}
            steps.append(latest)
        status = latest["label"] if latest is not ready else "order_ready"
        order["fulfillments"].append(
            parcel
            | {
                "status": steps,
                "latest_status": latest,
                "shipment_status": status,
                "is_automatic": automatic,
            }
        )
        self.sandbox.shop.replace(order)
        self._record(order_id)

    def _carrier_steps(
        self, parcel_id: int, sent_at: datetime, random: Random
    ) -> Iterator[tuple[datetime, Step]]:
        """Yield the carrier's reports about a parcel."""
        time = sent_at
        statuses = ["in_transit", "out_for_delivery", "delivered"]
        hours = {"in_transit": (2, 30), "out_for_delivery": (20, 80), "delivered": (2, 10)}
        if random.random() < 0.05:
            statuses.remove("out_for_delivery")
        if random.random() < 0.03:  # it was sent to the wrong depot
            statuses[1:1] = ["out_for_delivery", "in_transit"]
        exception_at = random.randrange(len(statuses)) if random.random() < 0.12 else None
        stalls = random.random() < 0.04
        for number, status in enumerate(statuses):
            time += _hours(random, *hours[status])
            if stalls and number == 1:
                time += _hours(random, 70, 130)
            if number == exception_at:
                exception = random.choice(_EXCEPTIONS)
                yield time, self._report(parcel_id, exception_status=exception)
                if random.random() < 0.4:
                    return
                time += _hours(random, 10, 160)
                yield time, self._report(parcel_id, exception_status="")
            yield time, self._report(parcel_id, shipment_status=status)

    def _report(self, parcel_id: int, **news: str) -> Step:
        """Return a step that reports the news, or later if automatic updates are off."""
        shop = self.sandbox.shop
        order_id = shop.order_id_of(parcel_id)

        def report() -> None:
            order = shop.order(order_id)
            parcels = {parcel["fulfillment_id"]: parcel for parcel in order["fulfillments"]}
            if parcel_id not in parcels or parcels[parcel_id]["shipment_status"] == "delivered":
                return  # it was cancelled before it was shipped, or is delivered
            if not order["automatic_carrier_updates"]:
                self._plan(datetime.now(UTC) + _TRY_AGAIN, report)
                return
            shop.set_parcel(parcel_id, if_automatic=True, **news)
            self._record(order_id)

        return report


def _hours(random: Random, at_least: float, at_most: float) -> timedelta:
    return timedelta(seconds=round(3600 * random.uniform(at_least, at_most)))


def _part(drawn: dict[str, Any], number: int, parts: int) -> dict[str, Any]:
    """Return one of the parcels of an order that ships in parts."""
    return drawn | {
        "fulfillment_id": drawn["fulfillment_id"] + number * _PARCEL_ID_STEP,
        "tracking_number": f"{drawn['tracking_number']}{number}",
        "line_items": drawn["line_items"][number::parts],
    }
