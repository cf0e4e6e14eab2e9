"""Simulated shop: orders that are generated from a seed, and the state that API calls change.

An order is generated each time it is requested, and only changed orders are kept in memory. So a
shop of a million orders starts at once.
"""

import csv
import datetime as dt
import itertools
import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from prefect_tracktor.models import ExceptionStatus, ShipmentStatus, WebhookTopic
from prefect_tracktor.sandbox.order_factory import (
    CUSTOM_LABELS,
    EXPORT_COLUMNS,
    OrderFactory,
    export_rows,
    index_of_fulfillment,
    key_of,
    summarise,
)

# fixed, so that a seed gives the same shop on any day
DEFAULT_NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)

_LARGEST_SHOP = 10_000_000
_DEFAULT_EXPIRED = 20
_DELIVERED = ShipmentStatus.DELIVERED


class UnknownId(LookupError):
    """The shop has no such order, fulfillment or webhook.

    Example:
        >>> Shop(orders=1).order(7)
        Traceback (most recent call last):
        ...
        prefect_tracktor.sandbox.shop.UnknownId: no order with the id 7
    """


class RefusedValue(ValueError):
    """A value that the shop does not accept.

    Attributes:
        field: The name of the field.
        problem: What is wrong with its value.

    Example:
        >>> shop = Shop(orders=1)
        >>> shop.set_status(shop.order_ids[0], status="Lost at sea")
        Traceback (most recent call last):
        ...
        prefect_tracktor.sandbox.shop.RefusedValue: status is not one of the shop's status options
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem


class StatusChange(NamedTuple):
    """A change of an order's status to another one.

    `old` has the previous statuses of the changed parcels, separated by commas; `None` if there was
    none.

    Example:
        >>> StatusChange(order_id=7, old="in_transit", new="delivered").new
        'delivered'
    """

    order_id: int
    old: str | None
    new: str


class Arrival(NamedTuple):
    """The delivery of a parcel, and its customer.

    `order_email` is `None` if the customer gave only a phone number.

    Example:
        >>> Arrival(fulfillment_id=4, order_id=7, order_email=None).fulfillment_id
        4
    """

    fulfillment_id: int
    order_id: int
    order_email: str | None


class ChangedOrder(NamedTuple):
    """A changed order as listeners get it: its present state, the moved parcels, their status."""

    order: dict[str, Any]
    moved: list[dict[str, Any]]
    status_key: str


Listener = Callable[[ChangedOrder], None]


class Shop:
    """A simulated shop, with the state that API calls change. It can be used from several threads.

    Args:
        orders: The number of orders.
        seed: Random seed; the same arguments give the same shop.
        expired: The number of orders whose customer must be emailed: they have an email address,
            and a parcel whose tracking has expired and which has not arrived. A few of them have
            two such parcels, or a second one without exception. By default 20, or fewer if there
            are fewer orders.
        just_ready: The number of further orders with a single parcel that is ready to be sent and a
            customer with an email address; for a `Movement` from the first status on.
        now: The shop's present time; the orders were placed in the 120 days before it.

    Attributes:
        now: The shop's present time.

    Raises:
        ValueError: A number is negative or too large, `expired` and `just_ready` exceed `orders`,
            or the time is naive.

    Example:
        >>> shop = Shop(orders=100, seed=7, expired=3)
        >>> len(shop.order_ids), len(shop.customers_to_write_to())
        (100, 3)
        >>> shop.order(shop.order_ids[0])["order_name"]
        '#1001'
    """

    def __init__(
        self,
        *,
        orders: int = 1000,
        seed: int = 1,
        expired: int | None = None,
        just_ready: int = 0,
        now: dt.datetime = DEFAULT_NOW,
    ) -> None:
        if not 0 <= orders <= _LARGEST_SHOP:
            raise ValueError(f"orders must be between 0 and {_LARGEST_SHOP:,}, not {orders}")
        if not 0 <= just_ready <= orders:
            raise ValueError(
                f"just_ready must be between 0 and orders ({orders}), not {just_ready}"
            )
        others = orders - just_ready
        expired = min(_DEFAULT_EXPIRED, others) if expired is None else expired
        if not 0 <= expired <= others:
            which = f"orders - just_ready ({others})" if just_ready else f"orders ({orders})"
            raise ValueError(f"expired must be between 0 and {which}, not {expired}")
        if now.tzinfo is None:
            raise ValueError("now must be an aware time: give it a tzinfo such as datetime.UTC")
        self.now = now
        self._factory = OrderFactory(
            orders=orders, seed=seed, expired=expired, now=now, just_ready=just_ready
        )
        self._lock = threading.RLock()
        self._changed: dict[int, dict[str, Any]] = {}
        self._revisions: dict[int, int] = {}
        self._webhooks: dict[int, dict[str, Any]] = {}
        self._webhook_ids = itertools.count(1)
        self._status_changes: list[StatusChange] = []
        self._arrivals: list[Arrival] = []
        self._listeners: list[Listener] = []

    @property
    def order_ids(self) -> range:
        """The ids of all orders, ascending and evenly spaced."""
        return self._factory.order_ids

    @property
    def status_options(self) -> list[dict[str, str]]:
        """The statuses that can be set, built-in and custom, each with `key` and `label`."""
        built_in = [{"key": str(status), "label": status.label} for status in ShipmentStatus]
        return built_in + [{"key": key_of(label), "label": label} for label in CUSTOM_LABELS]

    @property
    def webhooks(self) -> list[dict[str, Any]]:
        """The existing webhooks, each with `id`, `topic` and `address`."""
        return [dict(webhook) for webhook in list(self._webhooks.values())]

    @property
    def status_changes(self) -> list[StatusChange]:
        """The changes by status updates, oldest first."""
        return list(self._status_changes)

    @property
    def arrivals(self) -> list[Arrival]:
        """The deliveries of parcels since the start, oldest first."""
        return list(self._arrivals)

    def order(self, order_id: int) -> dict[str, Any]:
        """Return an order with its parcels, as the API does.

        Raises:
            UnknownId: There is no such order.
        """
        with self._lock:
            if order_id in self._changed:
                return deepcopy(self._changed[order_id])
        if order_id not in self.order_ids:
            raise UnknownId(f"no order with the id {order_id}")
        return self._factory.generate(self.order_ids.index(order_id))[0]

    def order_id_of(self, fulfillment_id: int) -> int:
        """Return the id of a parcel's order, without generating the order."""
        index = index_of_fulfillment(fulfillment_id)
        if not 0 <= index < len(self.order_ids):
            raise UnknownId(f"no fulfillment with the id {fulfillment_id}")
        return self.order_ids[index]

    def fulfillment(self, fulfillment_id: int) -> dict[str, Any]:
        """Return a parcel, as the API does."""
        return _parcel_in(self.order(self.order_id_of(fulfillment_id)), fulfillment_id)

    def revision(self, order_id: int) -> int:
        """Return how many times an order was changed; cached copies have one revision."""
        return self._revisions.get(order_id, 0)

    def customers_to_write_to(self) -> dict[int, str]:
        """Return the customers that a flow should email, by order id, for tests."""
        with self._lock:
            generated = {self.order_ids[index] for index in self._factory.expired}
            orders = [self.order(order_id) for order_id in sorted(generated | self._changed.keys())]
        return {
            order["order_id"]: order["order_email"]
            for order in orders
            if order["order_email"] and any(map(_is_expired, order["fulfillments"]))
        }

    def set_status(
        self,
        order_id: int,
        *,
        status: str | None = None,
        automatic_carrier_updates: bool | None = None,
        force: bool | None = None,  # noqa: ARG002  # its effect is not published
    ) -> dict[str, Any]:
        """Update an order as the API's POST does; values that are left out stay.

        Args:
            order_id: One of `order_ids`.
            status: The label or key of one of `status_options`, for all parcels.
            automatic_carrier_updates: Whether the carrier's reports have an effect.
            force: Accepted, without effect.

        Raises:
            UnknownId: There is no such order.
            RefusedValue: The status is not one of `status_options`.
        """
        step = None if status is None else self._step(status, field="status")
        with self._lock:
            order = self.order(order_id)
            if automatic_carrier_updates is not None:
                _set_carrier_updates(order, automatic_carrier_updates)
            moved = self._move(order, order["fulfillments"], step)
            self._keep(order)
        self._notify(moved)
        return deepcopy(order)

    def set_parcel(
        self,
        fulfillment_id: int,
        *,
        shipment_status: str | None = None,
        exception_status: str | None = None,
        if_automatic: bool = False,
    ) -> dict[str, Any]:
        """Move one parcel, or report an exception, as a carrier does.

        Args:
            fulfillment_id: The parcel's id.
            shipment_status: The label or key of one of `status_options`; left out, it stays.
            exception_status: The exception; an empty string ends it; left out, it stays.
            if_automatic: Change nothing if the order's automatic carrier updates are off.

        Raises:
            UnknownId: There is no such fulfillment.
            RefusedValue: A status is unknown.
        """
        if exception_status and exception_status not in set(ExceptionStatus):
            raise RefusedValue("exception_status", "is not an exception status")
        step = None if shipment_status is None else self._step(shipment_status, "shipment_status")
        with self._lock:
            order = self.order(self.order_id_of(fulfillment_id))
            parcel = _parcel_in(order, fulfillment_id)
            if if_automatic and not order["automatic_carrier_updates"]:
                return parcel
            if exception_status is not None:
                parcel["exception_status"] = exception_status or None
            moved = self._move(order, [parcel], step)
            summarise(order)
            self._keep(order)
        self._notify(moved)
        return deepcopy(parcel)

    def replace(self, order: dict[str, Any]) -> None:
        """Replace the order with the same id, without calling webhooks.

        This simulates what the shop itself does: place an order, add a parcel, cancel the order.

        Args:
            order: The order, as `order` returns it. Its parcels keep their ids. It may get three
                more parcels, each with an id that is 4,500 higher than the one before.

        Raises:
            UnknownId: There is no such order.

        Example:
            >>> shop = Shop(orders=1, just_ready=1)
            >>> order = shop.order(shop.order_ids[0])
            >>> shop.replace(order | {"fulfillments": [], "statuses": []})
            >>> shop.order(order["order_id"])["fulfillments"]
            []
        """
        with self._lock:
            self.order(order["order_id"])
            order = deepcopy(order)
            summarise(order)
            self._keep(order)

    def create_webhook(self, *, topic: str, address: str) -> dict[str, Any]:
        """Create a webhook; a second one with the same values is created, too.

        Raises:
            RefusedValue: The topic is not documented, or the address is not an HTTP address.
        """
        if topic not in set(WebhookTopic):
            raise RefusedValue("topic", "is not a topic")
        if not address.startswith(("http://", "https://")):
            raise RefusedValue("address", "is not an HTTP address")
        webhook_id = next(self._webhook_ids)
        webhook = {"id": webhook_id, "topic": topic, "address": address}
        self._webhooks[webhook_id] = webhook
        return dict(webhook)

    def delete_webhook(self, webhook_id: int) -> None:
        """Delete a webhook."""
        if self._webhooks.pop(webhook_id, None) is None:
            raise UnknownId(f"no webhook with the id {webhook_id}")

    def add_listener(self, listener: Listener) -> None:
        """Add a function that is called when an order's status changes."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Remove a listener."""
        self._listeners.remove(listener)

    def write_orders_csv(self, path: str | Path) -> None:
        """Write an orders export as Shopify's admin does, with a row for each line item."""
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, EXPORT_COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            for index, order_id in enumerate(self.order_ids):
                order, items = self._factory.generate(index)
                writer.writerows(export_rows(self._changed.get(order_id, order), items))

    def _step(self, status: str, field: str) -> dict[str, str]:
        """Find the status option for a label or key."""
        wanted = status.strip().casefold()
        for option in self.status_options:
            if wanted in {option["key"], option["label"].casefold()}:
                return option
        raise RefusedValue(field, "is not one of the shop's status options")

    def _move(
        self, order: dict[str, Any], parcels: list[dict[str, Any]], step: dict[str, str] | None
    ) -> ChangedOrder | None:
        """Set a status on the parcels that do not have it; return `None` if all have it."""
        if step is None:
            return None
        new = _as_shown(step)
        moved = [parcel for parcel in parcels if parcel["shipment_status"] != new]
        old = [parcel["shipment_status"] for parcel in moved]
        if not order["fulfillments"]:
            # a status such as "Preparing your order" can be set before there is a parcel
            old, order["statuses"] = order["statuses"], [new]
        if not moved and (order["fulfillments"] or old == [new]):
            return None
        for parcel in moved:
            _reach(parcel, step)
            if step["key"] == _DELIVERED:
                self._arrivals.append(
                    Arrival(parcel["fulfillment_id"], order["order_id"], order["order_email"])
                )
        summarise(order)
        self._status_changes.append(
            StatusChange(order["order_id"], ", ".join(dict.fromkeys(old)) or None, new)
        )
        return ChangedOrder(order, moved, step["key"])

    def _keep(self, order: dict[str, Any]) -> None:
        order_id = order["order_id"]
        if order != self.order(order_id):
            self._changed[order_id] = deepcopy(order)
            self._revisions[order_id] = self.revision(order_id) + 1

    def _notify(self, changed: ChangedOrder | None) -> None:
        if changed is not None:
            for listener in list(self._listeners):
                listener(deepcopy(changed))


def _as_shown(step: dict[str, str]) -> str:
    """Return the key of a built-in status, or the label of a custom one."""
    return step["key"] if step["key"] in set(ShipmentStatus) else step["label"]


def _reach(parcel: dict[str, Any], step: dict[str, str]) -> None:
    reached = step | {"datetime": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
    for known in parcel["status"]:
        if known["key"] == step["key"]:
            known.update(reached)
            break
    else:
        parcel["status"].append(dict(reached))
    parcel["latest_status"] = reached
    parcel["shipment_status"] = _as_shown(step)


def _set_carrier_updates(order: dict[str, Any], automatic: bool) -> None:  # noqa: FBT001  # a value
    order["automatic_carrier_updates"] = automatic
    for parcel in order["fulfillments"]:
        parcel["is_automatic"] = automatic


def _parcel_in(order: dict[str, Any], fulfillment_id: int) -> dict[str, Any]:
    for parcel in order["fulfillments"]:
        if parcel["fulfillment_id"] == fulfillment_id:
            found: dict[str, Any] = parcel
            return found
    raise UnknownId(f"no fulfillment with the id {fulfillment_id}")


def _is_expired(parcel: dict[str, Any]) -> bool:
    is_delivered = parcel["shipment_status"] == _DELIVERED
    return parcel["exception_status"] == ExceptionStatus.EXPIRED and not is_delivered
