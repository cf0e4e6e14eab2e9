"""A Tracktor that answers with exactly the orders that a test gives it, however odd these are."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from prefect_tracktor import TracktorCredentials


def order(order_id: int, *, email: str = "", **parcel: Any) -> dict[str, Any]:
    """An order with one parcel whose tracking has expired, unless a field says otherwise."""
    usual = {
        "fulfillment_id": order_id + 70_000,
        "shipment_status": "in_transit",
        "exception_status": "expired",
    }
    return {
        "order_id": order_id,
        "order_name": f"#{order_id}",
        "order_email": email or f"c{order_id}@example.com",
        "exception_statuses": ["expired"],
        "fulfillments": [usual | parcel],
    }


class StubTracktor:
    """Answers for the orders that it was given, and knows no other."""

    def __init__(self, *orders: dict[str, Any]) -> None:
        self.orders = {order["order_id"]: order for order in orders}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def credentials(self) -> TracktorCredentials:
        """An account at this server."""
        return TracktorCredentials.model_validate(
            {
                "uuid": "00000000-0000-4000-8000-000000000001",
                "api_key": "k3y",
                "base_url": f"http://127.0.0.1:{self._server.server_port}",
            }
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

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = stub.orders.get(int(self.path.rpartition("/")[2].removesuffix(".json")))
                body = json.dumps({"order": found}).encode()
                self.send_response(200 if found else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler
