"""How parcels move on by themselves: a timeline drawn from a seed, and what plays it."""

import threading
import time
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from prefect_tracktor.models import ExceptionStatus, ShipmentStatus
from prefect_tracktor.sandbox.shop import Shop

# how many hours after the step before it each status is reached, at least and at most
_HOURS_TO = {
    ShipmentStatus.IN_TRANSIT: (2.0, 30.0),
    ShipmentStatus.OUT_FOR_DELIVERY: (20.0, 80.0),
    ShipmentStatus.DELIVERED: (2.0, 10.0),
}
_HOURS_TO_RECOVERY = (12.0, 72.0)
_WAY = tuple(ShipmentStatus)
_SECONDS_PER_HOUR = 3600


class MovementStep(NamedTuple):
    """What a carrier reports about a parcel, and when.

    A status that is `None` stays as it is; an empty `exception_status` ends the exception.

    Example:
        >>> MovementStep(after_hours=8.5, fulfillment_id=4, shipment_status="in_transit")
        MovementStep(after_hours=8.5, fulfillment_id=4, shipment_status='in_transit',
        exception_status=None)
    """

    after_hours: float
    fulfillment_id: int
    shipment_status: str | None = None
    exception_status: str | None = None


class Movement(BaseModel):
    """Which parcels move, how fast, and how many run into exceptions.

    A parcel passes through all statuses that lie before it, from `order_ready` to `delivered`. Only
    parcels that are on their way move: not those that were delivered or have an exception, nor
    those of orders whose automatic carrier updates are off.

    Attributes:
        seed: Random seed; the same seed gives the same timeline.
        speed: How many times faster than real carriers: at 3,600 an hour takes a second, and the
            whole movement some three minutes. With `inf` nothing waits.
        parcels: How many parcels move, the oldest orders' first; by default all that can.
        exception_rate: The probability that a parcel runs into an exception.
        recovery_rate: The probability that a parcel recovers from its exception and moves on.

    Example:
        >>> shop = Shop(orders=1, just_ready=1)
        >>> [step.shipment_status for step in Movement(exception_rate=0).steps(shop)]
        ['in_transit', 'out_for_delivery', 'delivered']
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 1
    speed: float = Field(default=3600.0, ge=1)
    parcels: int | None = Field(default=None, ge=0)
    exception_rate: float = Field(default=0.1, ge=0, le=1)
    recovery_rate: float = Field(default=0.5, ge=0, le=1)

    def steps(self, shop: Shop) -> list[MovementStep]:
        """The whole timeline, as the shop is now, whatever the speed; the shop is not changed.

        Raises:
            ValueError: Fewer than `parcels` parcels can move.
        """
        chosen = list(islice(_movable(shop), self.parcels))
        if self.parcels is not None and len(chosen) < self.parcels:
            raise ValueError(
                f"parcels: only {len(chosen)} can move, not {self.parcels}; "
                "ask for fewer, or make a shop of more orders"
            )
        steps = [step for parcel in chosen for step in self._timeline(parcel)]
        return sorted(steps, key=lambda step: step.after_hours)

    def _timeline(self, parcel: dict[str, Any]) -> Iterator[MovementStep]:
        fulfillment_id = parcel["fulfillment_id"]
        random = Random(f"{self.seed}/movement/{fulfillment_id}")
        ahead = _ahead(parcel)
        meets_exception = random.random() < self.exception_rate
        exception_before = random.choice(ahead) if meets_exception else None
        exception = random.choice(tuple(ExceptionStatus))
        recovers = random.random() < self.recovery_rate
        hours = 0.0
        for status in ahead:
            hours += random.uniform(*_HOURS_TO[status])
            ended = None
            if status is exception_before:
                yield MovementStep(hours, fulfillment_id, exception_status=str(exception))
                if not recovers:
                    return
                hours += random.uniform(*_HOURS_TO_RECOVERY)
                ended = ""
            yield MovementStep(hours, fulfillment_id, str(status), ended)


class Moving:
    """A movement under way, in a background thread, until its last step or the block's end.

    A step of an order whose automatic carrier updates were switched off meanwhile has no effect.

    Args:
        shop: Whose parcels move.
        movement: What is to happen.

    Raises:
        ValueError: Fewer than `movement.parcels` parcels can move.

    Example:
        >>> from prefect_tracktor.sandbox import Sandbox
        >>> with Sandbox(Shop(orders=3, just_ready=3)) as tracktor:
        ...     moving = tracktor.move(Movement(speed=float("inf"), exception_rate=0))
        ...     moving.wait()
        ...     len(tracktor.shop.arrivals)
        True
        3
    """

    def __init__(self, shop: Shop, movement: Movement) -> None:
        self._shop = shop
        self._speed = movement.speed
        self._steps = movement.steps(shop)
        self._taken = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox-movement", daemon=True)

    @property
    def under_way(self) -> bool:
        """Whether it has begun and neither ended nor been stopped."""
        return self._thread.is_alive()

    @property
    def done(self) -> bool:
        """Whether all parcels have reached their end."""
        return self._taken == len(self._steps)

    def progress(self) -> dict[str, int | bool]:
        """How far it is: `steps`, `steps_left` and `done`."""
        steps = len(self._steps)
        return {"steps": steps, "steps_left": steps - self._taken, "done": self.done}

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it ends or is stopped, or so long; return whether all have arrived."""
        self._thread.join(timeout_seconds)
        return self.done

    def stop(self) -> None:
        """Take no further step; what has moved stays where it is."""
        self._stopping.set()
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        started = time.monotonic()
        for step in self._steps:
            due = started + step.after_hours * _SECONDS_PER_HOUR / self._speed
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            self._shop.set_parcel(
                step.fulfillment_id,
                shipment_status=step.shipment_status,
                exception_status=step.exception_status,
                if_automatic=True,
            )
            self._taken += 1


def _movable(shop: Shop) -> Iterator[dict[str, Any]]:
    for order in map(shop.order, shop.order_ids):
        if order["automatic_carrier_updates"]:
            for parcel in order["fulfillments"]:
                if _ahead(parcel) and not parcel["exception_status"]:
                    yield parcel


def _ahead(parcel: dict[str, Any]) -> tuple[ShipmentStatus, ...]:
    """The statuses before a parcel; from one of the shop's own it goes on as from a ready one."""
    status = parcel["shipment_status"]
    reached = _WAY.index(ShipmentStatus(status)) if status in set(_WAY) else 0
    return _WAY[reached + 1 :]
