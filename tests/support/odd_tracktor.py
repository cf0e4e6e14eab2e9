"""Tracktor server with any JSON as orders, status options and webhooks, over real sockets."""

from typing import Any

from tests.support.json_server import JsonServer


def parcel(number: int, **fields: Any) -> dict[str, Any]:
    """Return a parcel with all documented fields, in transit and without exception."""
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
    """Return an order with all documented fields and these parcels, or one in transit."""
    its_parcels = list(parcels or [parcel(number)])
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
        "statuses": [parcel.get("shipment_status") for parcel in its_parcels],
        "exception_statuses": [
            parcel["exception_status"] for parcel in its_parcels if parcel.get("exception_status")
        ],
        "days_since_ordered": 1,
        "automatic_carrier_updates": True,
        "fulfillments": its_parcels,
    } | fields


class OddTracktor(JsonServer):
    """Respond with the orders, status options and webhooks of a test.

    A created webhook gets the next of `webhook_ids`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.orders: dict[int, Any] = {}
        self.options: Any = ["Cutting", "Sewing"]
        self.webhooks: dict[str, dict[str, Any]] = {}
        self.webhook_ids = [f"{number:024x}" for number in range(0xA0, 0xFF)]
        self.writes: list[str] = []

    def put(self, *orders: dict[str, Any]) -> list[int]:
        """Replace all orders, and return their ids."""
        self.orders = {order["order_id"]: order for order in orders}
        return list(self.orders)

    def respond(self, method: str, path: str, body: Any, /) -> tuple[int, Any]:
        """Respond as the API does, and record writes."""
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
