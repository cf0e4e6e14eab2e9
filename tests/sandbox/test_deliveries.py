"""Webhooks are really delivered, to this machine only, and nobody waits for them."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from prefect_tracktor.sandbox import AnswerShape, Sandbox


class Receiver:
    """A web server that keeps what is posted to it, after failing as often as it is told."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, Any]] = []
        self.failures = 0
        self.gate = threading.Event()
        self.gate.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.gate.wait(10)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                failing, receiver.failures = receiver.failures > 0, receiver.failures - 1
                if not failing:
                    receiver.posts.append((self.path, json.loads(body)))
                self.send_response(500 if failing else 204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # inherited
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,))
    thread.start()
    yield receiver
    receiver.gate.set()
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


def order_in_transit(tracktor: Sandbox) -> dict[str, Any]:
    orders = map(tracktor.shop.order, tracktor.shop.order_ids)
    return next(order for order in orders if order["statuses"] == ["in_transit"])


def test_a_status_change_is_posted_to_the_webhooks_whose_topic_fits(
    tracktor: Sandbox, api: httpx.Client, receiver: Receiver
) -> None:
    for topic in ("order/all", "order/delivered", "order/in_transit", "fulfillment/delivered"):
        address = f"{receiver.address}/{topic}"
        api.post("webhooks.json", json={"webhook": {"topic": topic, "address": address}})
    order_id = order_in_transit(tracktor)["order_id"]
    order = api.post(f"orders/{order_id}.json", json={"status": "Delivered"}).json()["order"]
    tracktor.settle()
    assert sorted(receiver.posts, key=str) == sorted(
        [
            ("/order/all", order),
            ("/order/delivered", order),
            ("/fulfillment/delivered", order["fulfillments"][0]),
        ],
        key=str,
    )
    assert {delivery.status for delivery in tracktor.deliveries} == {204}


def test_a_ready_order_is_pre_transit_and_a_custom_status_only_all(
    tracktor: Sandbox, receiver: Receiver
) -> None:
    for topic in ("order/pre_transit", "fulfillment/all"):
        tracktor.shop.create_webhook(topic=topic, address=f"{receiver.address}/{topic}")
    order_id = order_in_transit(tracktor)["order_id"]
    tracktor.shop.set_status(order_id, status="order_ready")
    tracktor.shop.set_status(order_id, status="Sewing")
    tracktor.settle()
    assert [path for path, _ in receiver.posts if "pre_transit" in path] == ["/order/pre_transit"]
    told = [body["shipment_status"] for path, body in receiver.posts if "fulfillment" in path]
    assert told == ["order_ready", "Sewing"]


def test_what_changes_nothing_is_not_posted(tracktor: Sandbox, receiver: Receiver) -> None:
    tracktor.shop.create_webhook(topic="order/all", address=receiver.address)
    order_id = order_in_transit(tracktor)["order_id"]
    tracktor.shop.set_status(order_id, status="in_transit")
    tracktor.shop.set_status(order_id, automatic_carrier_updates=False)
    tracktor.settle()
    assert receiver.posts == []


def test_a_parcel_moved_by_its_carrier_is_posted_alone(
    tracktor: Sandbox, receiver: Receiver
) -> None:
    tracktor.shop.create_webhook(topic="fulfillment/all", address=receiver.address)
    tracktor.answers = AnswerShape(wrapped_deliveries=True)
    orders = map(tracktor.shop.order, tracktor.shop.order_ids)
    parcel = next(order for order in orders if len(order["fulfillments"]) > 1)["fulfillments"][1]
    moved = tracktor.shop.set_parcel(parcel["fulfillment_id"], shipment_status="out_for_delivery")
    tracktor.settle()
    assert receiver.posts == [("/", {"fulfillment": moved})]


def test_a_failed_delivery_is_tried_again(tracktor: Sandbox, receiver: Receiver) -> None:
    receiver.failures = 2
    tracktor.shop.create_webhook(topic="order/all", address=receiver.address)
    tracktor.shop.set_status(tracktor.shop.order_ids[0], status="Sewing")
    tracktor.settle()
    assert len(receiver.posts) == 1


def test_a_receiver_that_is_not_there_is_given_up(tracktor: Sandbox) -> None:
    tracktor.shop.create_webhook(topic="order/all", address="http://127.0.0.1:9/")
    tracktor.shop.set_status(tracktor.shop.order_ids[0], status="Sewing")
    tracktor.settle()
    assert [delivery.status for delivery in tracktor.deliveries] == [None]


def test_the_answer_does_not_wait_for_the_delivery(
    tracktor: Sandbox, api: httpx.Client, receiver: Receiver
) -> None:
    receiver.gate.clear()
    tracktor.shop.create_webhook(topic="order/all", address=receiver.address)
    order_id = tracktor.shop.order_ids[0]
    assert api.post(f"orders/{order_id}.json", json={"status": "Sewing"}).status_code == 200
    assert receiver.posts == []
    receiver.gate.set()
    tracktor.settle()
    assert len(receiver.posts) == 1


def test_nothing_is_posted_to_other_machines(
    tracktor: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    tracktor.shop.create_webhook(topic="order/all", address="https://shop.example/hook")
    with caplog.at_level(logging.WARNING):
        tracktor.shop.set_status(tracktor.shop.order_ids[0], status="Sewing")
        tracktor.settle()
    assert "this machine only" in caplog.text
    assert tracktor.deliveries == []


def test_a_deleted_webhook_is_not_told(tracktor: Sandbox, receiver: Receiver) -> None:
    webhook = tracktor.shop.create_webhook(topic="order/all", address=receiver.address)
    tracktor.shop.delete_webhook(webhook["id"])
    tracktor.shop.set_status(tracktor.shop.order_ids[0], status="Sewing")
    tracktor.settle()
    assert receiver.posts == []
