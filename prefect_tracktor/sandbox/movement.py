"""Simulated movement of parcels: a timeline from a seed, played in a background thread."""

import threading
import time
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Annotated, Any, NamedTuple, Self

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field

from prefect_tracktor.models import ShipmentStatus
from prefect_tracktor.sandbox.shop import Shop

# the least and the most hours from the previous status to each
_HOURS_TO = {
    ShipmentStatus.IN_TRANSIT: (2.0, 30.0),
    ShipmentStatus.OUT_FOR_DELIVERY: (20.0, 80.0),
    ShipmentStatus.DELIVERED: (2.0, 10.0),
}
_STATUSES = tuple(ShipmentStatus)
_SECONDS_PER_HOUR = 3600


class MovementStep(NamedTuple):
    """A new status of a parcel, and its time.

    Example:
        >>> MovementStep(after_hours=8.5, fulfillment_id=4, shipment_status="in_transit")
        MovementStep(after_hours=8.5, fulfillment_id=4, shipment_status='in_transit')
    """

    after_hours: float
    fulfillment_id: int
    shipment_status: str


class Movement(BaseModel):
    """Which parcels move, and how fast.

    A parcel goes through all statuses after its present one, until `delivered`. Parcels that are
    delivered or have an exception do not move, and neither do parcels of orders whose automatic
    carrier updates are off.

    Attributes:
        seed: Random seed; the same seed gives the same timeline.
        speed: How many times faster than real carriers: at 3,600 an hour takes a second, and the
            whole movement about two minutes. With `inf` it takes no time.
        parcels: How many parcels move, those of the oldest orders first; by default all that can.

    Example:
        >>> shop = Shop(orders=1, just_ready=1)
        >>> [step.shipment_status for step in Movement().steps(shop)]
        ['in_transit', 'out_for_delivery', 'delivered']
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: Annotated[int, Parameter(parse=False)] = 1  # the command has one seed for all
    speed: float = Field(default=3600.0, ge=1)
    parcels: int | None = Field(default=None, ge=0)

    def steps(self, shop: Shop) -> list[MovementStep]:
        """Return the timeline for the shop's present state; the shop is not changed.

        Raises:
            ValueError: Fewer than `parcels` parcels can move.
        """
        movable = list(islice(_movable(shop), self.parcels))
        if self.parcels is not None and len(movable) < self.parcels:
            raise ValueError(
                f"parcels: only {len(movable)} can move, not {self.parcels}; "
                "request fewer, or create a shop with more orders"
            )
        steps = [step for parcel in movable for step in self._timeline(parcel)]
        return sorted(steps, key=lambda step: step.after_hours)

    def _timeline(self, parcel: dict[str, Any]) -> Iterator[MovementStep]:
        fulfillment_id = parcel["fulfillment_id"]
        random = Random(f"{self.seed}/movement/{fulfillment_id}")
        hours = 0.0
        for status in _remaining(parcel):
            hours += random.uniform(*_HOURS_TO[status])
            yield MovementStep(hours, fulfillment_id, str(status))


class Moving:
    """A movement that runs in a background thread until its last step or the end of the block.

    A step has no effect if the order's automatic carrier updates were switched off in the meantime.

    Args:
        shop: The shop whose parcels move.
        movement: The movement's settings.

    Attributes:
        steps_left: The number of steps that are still to come.

    Raises:
        ValueError: Fewer than `movement.parcels` parcels can move.

    Example:
        >>> from prefect_tracktor.sandbox import Sandbox
        >>> with Sandbox(Shop(orders=3, just_ready=3)) as tracktor:
        ...     moving = tracktor.move(Movement(speed=float("inf")))
        ...     moving.wait()
        ...     len(tracktor.shop.arrivals)
        True
        3
    """

    def __init__(self, shop: Shop, movement: Movement) -> None:
        self._shop = shop
        self._speed = movement.speed
        self._steps = movement.steps(shop)
        self.steps_left = len(self._steps)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox-movement", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether it has started, and has neither ended nor been stopped."""
        return self._thread.is_alive()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it ends, is stopped or the timeout is over; return whether it is complete."""
        self._thread.join(timeout_seconds)
        return not self.steps_left

    def stop(self) -> None:
        """Stop before the next step; changes so far stay."""
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
                step.fulfillment_id, shipment_status=step.shipment_status, if_automatic=True
            )
            self.steps_left -= 1


def _movable(shop: Shop) -> Iterator[dict[str, Any]]:
    for order in map(shop.order, shop.order_ids):
        if order["automatic_carrier_updates"]:
            for parcel in order["fulfillments"]:
                if _remaining(parcel) and not parcel["exception_status"]:
                    yield parcel


def _remaining(parcel: dict[str, Any]) -> tuple[ShipmentStatus, ...]:
    """Return a parcel's remaining statuses; a custom status counts as `order_ready`."""
    status = parcel["shipment_status"]
    reached = _STATUSES.index(ShipmentStatus(status)) if status in set(_STATUSES) else 0
    return _STATUSES[reached + 1 :]
