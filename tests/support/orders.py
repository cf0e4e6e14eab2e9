"""Tracktor server with the orders of a test, over real sockets."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.support.json_server import JsonServer

_AUTOMATIC = "automatic_carrier_updates"
OPTIONS = ["Order ready", "In transit", "Out for delivery", "Delivered", "Cutting", "Sewing"]


class OrderServer(JsonServer):
    """Respond with `orders`, by id; with `gone`, the account is unknown."""

    def __init__(self, *orders: dict[str, Any]) -> None:
        super().__init__()
        self.orders: dict[int, dict[str, Any]] = {order["order_id"]: order for order in orders}
        self.calls: list[str] = []
        self.options = OPTIONS
        self.gone = False
        self.before_answer: Callable[[str], None] = lambda _path: None

    def respond(self, method: str, path: str, body: Any, /) -> tuple[int, Any]:
        """Read or update the object at a path."""
        found = self.answer(path) if method == "GET" else self.update(path, body["order"])
        return (404, {}) if found is None else (200, found)

    def answer(self, path: str) -> Any:
        """Return the object at a path; `None` if there is none."""
        self.before_answer(path)
        self.calls.append(path)
        if self.gone:
            return None
        if path == "status-options":
            return self.options
        kind, _, number = path.partition("/")
        if kind == "orders":
            return self.orders.get(int(number))
        parcels = [parcel for order in self.orders.values() for parcel in order["fulfillments"]]
        return next((p for p in parcels if p["fulfillment_id"] == int(number)), None)

    def update(self, path: str, update: dict[str, Any]) -> Any:
        """Update an order as the API's POST does."""
        order = self.answer(path)
        if order is None:
            return None
        order |= {name: value for name, value in update.items() if name == _AUTOMATIC}
        if "status" in update:
            order["statuses"] = [update["status"]]
            for parcel in order["fulfillments"]:
                parcel["shipment_status"] = update["status"]
        return order


def parcel(number: int, status: str = "in_transit", /, **fields: Any) -> dict[str, Any]:
    """Return a parcel whose status has just changed."""
    now = datetime.now(UTC).isoformat()
    return {
        "fulfillment_id": 70_000 + number,
        "order_id": number,
        "order_name": f"#{number}",
        "fulfillment_status": "fulfilled",
        "shipment_status": status,
        "exception_status": None,
        "tracking_number": f"1Z{number}",
        "latest_status": {"key": status, "label": status, "datetime": now},
    } | fields


def expired(number: int, /, **fields: Any) -> dict[str, Any]:
    """Return a parcel whose tracking has expired."""
    return parcel(number, exception_status="expired", **fields)


def order(number: int, /, *parcels: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return an order with the statuses of its parcels."""
    exceptions = [entry["exception_status"] for entry in parcels if entry["exception_status"]]
    return {
        "order_id": number,
        "order_name": f"#{number}",
        "order_email": f"c{number}@example.com",
        "customer_first_name": "Ada",
        "statuses": [entry["shipment_status"] for entry in parcels if entry["shipment_status"]],
        "exception_statuses": exceptions,
        "fulfillments": list(parcels),
    } | fields
