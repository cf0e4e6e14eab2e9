"""A Tracktor that answers with exactly the orders that a test gives it, over real sockets."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from prefect_tracktor import TracktorCredentials

_AUTOMATIC = "automatic_carrier_updates"
OPTIONS = ["Order ready", "In transit", "Out for delivery", "Delivered", "Cutting", "Sewing"]


class OrderServer:
    """Answers with what stands in `orders`, by id; `gone` makes the whole account unknown."""

    def __init__(self) -> None:
        self.orders: dict[int, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.options = OPTIONS
        self.gone = False
        self.before_answer: Callable[[str], None] = lambda _path: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def credentials(self) -> TracktorCredentials:
        """An account at this server."""
        return TracktorCredentials(
            uuid="00000000-0000-4000-8000-000000000001",
            api_key="k3y",
            base_url=f"http://127.0.0.1:{self._server.server_port}",
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str) -> Any:
        """The object at a path; `None` if there is none."""
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
        """Do what the API's POST does."""
        order = self.answer(path)
        if order is None:
            return None
        order |= {name: value for name, value in update.items() if name == _AUTOMATIC}
        if "status" in update:
            order["statuses"] = [update["status"]]
            for parcel in order["fulfillments"]:
                parcel["shipment_status"] = update["status"]
        return order

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._reply(server.answer(self._name()))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._reply(server.update(self._name(), body["order"]))

            def _name(self) -> str:
                return "/".join(self.path.removesuffix(".json").split("/")[2:])

            def _reply(self, found: Any) -> None:
                body = json.dumps(found if found is not None else {}).encode()
                self.send_response(200 if found is not None else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler


def parcel(number: int, status: str = "in_transit", /, **fields: Any) -> dict[str, Any]:
    """A parcel that got into its status just now."""
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
    """A parcel whose tracking has expired."""
    return parcel(number, exception_status="expired", **fields)


def order(number: int, /, *parcels: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An order that says of itself what its parcels say."""
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
