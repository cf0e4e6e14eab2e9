"""A Tracktor over real sockets whose answers are whatever JSON a test puts into it."""

from typing import Any

from tests.support.json_server import JsonServer


def parcel(number: int, **fields: Any) -> dict[str, Any]:
    """A parcel with all documented fields, in transit and in no trouble."""
    return {
        "shop_url": "https://shop.example",
        "order_id": number,
        "order_name": f"#{number}",
        "shopify_carrier": "UPS",
        "carrier": {"slug": "ups", "name": "UPS"},
        "tracking_number": f"1Z{number}",
        "fulfillment_id": 70_000 + number,
        "fulfillment_status": "fulfilled",
        "shipment_status": "in_transit",
        "exception_status": None,
        "is_automatic": True,
        "line_items": [],
        "latest_status": {"key": "in_transit", "label": "In transit", "datetime": "2026-11-02"},
        "status": [],
    } | fields


def order(number: int, *parcels: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An order of these parcels, or else of one, with all documented fields."""
    of_it = list(parcels or [parcel(number)])
    return {
        "order_id": number,
        "order_name": f"#{number}",
        "order_email": f"customer-{number}@example.com",
        "order_phone": None,
        "order_source_name": "web",
        "order_created_at": "2026-11-01T09:00:00Z",
        "customer_first_name": "Ada",
        "customer_last_name": "Lovelace",
        "customer_full_name": "Ada Lovelace",
        "total_price": 59.9,
        "line_item_count": 1,
        "statuses": [one.get("shipment_status") for one in of_it],
        "exception_statuses": [
            one["exception_status"] for one in of_it if one.get("exception_status")
        ],
        "days_since_ordered": 1,
        "automatic_carrier_updates": True,
        "fulfillments": of_it,
    } | fields


class OddTracktor(JsonServer):
    """Answers with the orders, status options and webhooks that a test gives it.

    A webhook that is created gets the next of the ids.
    """

    def __init__(self) -> None:
        super().__init__()
        self.orders: dict[int, Any] = {}
        self.options: Any = ["Cutting", "Sewing"]
        self.webhooks: dict[str, dict[str, Any]] = {}
        self.webhook_ids = [f"{number:024x}" for number in range(0xA0, 0xFF)]
        self.writes: list[str] = []

    def put(self, *orders: dict[str, Any]) -> list[int]:
        """Know these orders and no other."""
        self.orders = {one["order_id"]: one for one in orders}
        return list(self.orders)

    def respond(self, method: str, path: str, body: Any, /) -> tuple[int, Any]:
        """What the API answers; writes are noted."""
        kind, _, name = path.partition("/")
        if method != "GET":
            self.writes.append(f"{method} {kind}/{name}")
        match method, kind:
            case "GET", "orders" if int(name) in self.orders:
                return 200, {"order": self.orders[int(name)]}
            case "GET", "status-options":
                return 200, self.options
            case "GET", "webhooks":
                return 200, {"webhooks": list(self.webhooks.values())}
            case "POST", "webhooks":
                webhook = {"id": self.webhook_ids.pop(0)} | body["webhook"]
                self.webhooks[webhook["id"]] = webhook
                return 200, {"webhook": webhook}
            case "DELETE", "webhooks" if self.webhooks.pop(name, None):
                return 200, {}
        return 404, {}
