"""Webhook deliveries in the background, only to this machine."""

import json
import logging
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from prefect_tracktor.sandbox import (
    Fault,
    Faults,
    Movement,
    Sandbox,
    Shop,
)


class Receiver:
    """A web server that keeps the posted bodies, after a given number of failed requests."""

    def __init__(self, port: int = 0) -> None:
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

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

        self.server = Server(("127.0.0.1", port), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            self.gate.set()
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def status_counts(self) -> Counter[tuple[int, str]]:
        """Count the deliveries of each status of each parcel."""
        return Counter((body["fulfillment_id"], body["shipment_status"]) for _, body in self.posts)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    with receiver.serving():
        yield receiver


@pytest.fixture
def moving_shop() -> Iterator[Sandbox]:
    with Sandbox(Shop(orders=100, just_ready=100)) as sandbox:
        yield sandbox


def move_all(tracktor: Sandbox, receiver: Receiver) -> None:
    """Deliver every step of every parcel to the receiver, as fast as possible."""
    tracktor.shop.create_webhook(topic="fulfillment/all", address=receiver.address)
    assert tracktor.move(Movement(speed=float("inf"))).wait()
    tracktor.wait_for_deliveries()


def order_in_transit(tracktor: Sandbox) -> dict[str, Any]:
    orders = map(tracktor.shop.order, tracktor.shop.order_ids)
    return next(order for order in orders if order["statuses"] == ["in_transit"])


def test_a_status_change_is_delivered_to_webhooks_with_a_matching_topic(
    tracktor: Sandbox, api: httpx.Client, receiver: Receiver
) -> None:
    for topic in ("order/all", "order/delivered", "order/in_transit", "fulfillment/delivered"):
        address = f"{receiver.address}/{topic}"
        api.post("webhooks.json", json={"webhook": {"topic": topic, "address": address}})
    order_id = order_in_transit(tracktor)["order_id"]
    order = api.post(f"orders/{order_id}.json", json={"status": "Delivered"}).json()["order"]
    tracktor.wait_for_deliveries()
    assert sorted(receiver.posts, key=str) == sorted(
        [
            ("/order/all", order),
            ("/order/delivered", order),
            ("/fulfillment/delivered", order["fulfillments"][0]),
        ],
        key=str,
    )
    assert {delivery.status for delivery in tracktor.deliveries} == {204}


def test_order_ready_matches_pre_transit_and_custom_statuses_match_only_all(
    tracktor: Sandbox, receiver: Receiver
) -> None:
    for topic in ("order/pre_transit", "fulfillment/all"):
        tracktor.shop.create_webhook(topic=topic, address=f"{receiver.address}/{topic}")
    order_id = order_in_transit(tracktor)["order_id"]
    tracktor.shop.set_status(order_id, status="order_ready")
    tracktor.shop.set_status(order_id, status="Sewing")
    tracktor.wait_for_deliveries()
    assert [path for path, _ in receiver.posts if "pre_transit" in path] == ["/order/pre_transit"]
    statuses = [body["shipment_status"] for path, body in receiver.posts if "fulfillment" in path]
    assert statuses == ["order_ready", "Sewing"]


def test_an_update_without_a_status_change_is_not_delivered(
    tracktor: Sandbox, receiver: Receiver
) -> None:
    tracktor.shop.create_webhook(topic="order/all", address=receiver.address)
    order_id = order_in_transit(tracktor)["order_id"]
    tracktor.shop.set_status(order_id, status="in_transit")
    tracktor.shop.set_status(order_id, automatic_carrier_updates=False)
    tracktor.wait_for_deliveries()
    assert receiver.posts == []


def test_a_carrier_update_delivers_only_the_moved_parcel(
    tracktor: Sandbox, receiver: Receiver
) -> None:
    tracktor.shop.create_webhook(topic="fulfillment/all", address=receiver.address)
    orders = map(tracktor.shop.order, tracktor.shop.order_ids)
    parcel = next(order for order in orders if len(order["fulfillments"]) > 1)["fulfillments"][1]
    moved = tracktor.shop.set_parcel(parcel["fulfillment_id"], shipment_status="out_for_delivery")
    tracktor.wait_for_deliveries()
    assert receiver.posts == [("/", moved)]


def test_a_failed_delivery_is_retried(tracktor: Sandbox, receiver: Receiver) -> None:
    receiver.failures = 2
    tracktor.shop.create_webhook(topic="order/all", address=receiver.address)
    tracktor.shop.set_status(tracktor.shop.order_ids[0], status="Sewing")
    tracktor.wait_for_deliveries()
    assert len(receiver.posts) == 1


def test_deliveries_to_an_unreachable_receiver_end_after_patience_seconds(
    tracktor: Sandbox,
) -> None:
    tracktor.faults = Faults(patience_seconds=0.2)
    tracktor.shop.create_webhook(topic="order/all", address="http://127.0.0.1:9/")
    tracktor.shop.set_status(tracktor.shop.order_ids[0], status="Sewing")
    tracktor.wait_for_deliveries()
    [delivery] = tracktor.deliveries
    assert (delivery.status, delivery.is_accepted, delivery.attempts) == (None, False, 2)


def test_an_api_response_does_not_wait_for_webhook_deliveries(
    tracktor: Sandbox, api: httpx.Client, receiver: Receiver
) -> None:
    receiver.gate.clear()
    tracktor.shop.create_webhook(topic="order/all", address=receiver.address)
    order_id = tracktor.shop.order_ids[0]
    assert api.post(f"orders/{order_id}.json", json={"status": "Sewing"}).status_code == 200
    assert receiver.posts == []
    receiver.gate.set()
    tracktor.wait_for_deliveries()
    assert len(receiver.posts) == 1


def test_webhooks_on_other_machines_get_no_deliveries(
    tracktor: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    tracktor.shop.create_webhook(topic="order/all", address="https://shop.example/hook")
    with caplog.at_level(logging.WARNING):
        tracktor.shop.set_status(tracktor.shop.order_ids[0], status="Sewing")
        tracktor.wait_for_deliveries()
    assert "only posts to this machine" in caplog.text
    assert tracktor.deliveries == []


def test_a_deleted_webhook_gets_no_deliveries(tracktor: Sandbox, receiver: Receiver) -> None:
    webhook = tracktor.shop.create_webhook(topic="order/all", address=receiver.address)
    tracktor.shop.delete_webhook(webhook["id"])
    tracktor.shop.set_status(tracktor.shop.order_ids[0], status="Sewing")
    tracktor.wait_for_deliveries()
    assert receiver.posts == []


def test_every_step_is_delivered_once_and_in_order_for_each_parcel(
    moving_shop: Sandbox, receiver: Receiver
) -> None:
    move_all(moving_shop, receiver)
    timelines: dict[int, list[str]] = {}
    for _, body in receiver.posts:
        timelines.setdefault(body["fulfillment_id"], []).append(body["shipment_status"])
    assert len(timelines) == 100
    assert set(map(tuple, timelines.values())) == {("in_transit", "out_for_delivery", "delivered")}
    assert all(delivery.is_accepted and not delivery.fault for delivery in moving_shop.deliveries)
    assert len(moving_shop.deliveries) == 300


def test_a_lost_delivery_is_not_sent_and_is_recorded_as_lost(
    moving_shop: Sandbox, receiver: Receiver
) -> None:
    moving_shop.faults = Faults(lost=0.2)
    move_all(moving_shop, receiver)
    lost = [d for d in moving_shop.deliveries if d.fault is Fault.LOST]
    assert 30 < len(lost) < 90
    assert {(delivery.status, delivery.attempts) for delivery in lost} == {(None, 0)}
    received = receiver.status_counts()
    assert len(receiver.posts) == 300 - len(lost) == len(received)
    assert not received.keys() & {(d.fulfillment_id, d.status_key) for d in lost}


def test_a_duplicated_delivery_is_sent_and_recorded_twice(
    moving_shop: Sandbox, receiver: Receiver
) -> None:
    moving_shop.faults = Faults(duplicated=0.2, max_delay_seconds=0.2)
    move_all(moving_shop, receiver)
    twice = {message for message, n in receiver.status_counts().items() if n == 2}
    copies = [d for d in moving_shop.deliveries if d.fault is Fault.DUPLICATED]
    assert 30 < len(copies) < 90
    assert twice == {(copy.fulfillment_id, copy.status_key) for copy in copies}
    assert len(receiver.posts) == 300 + len(copies)
    assert len(moving_shop.deliveries) == 300 + len(copies)


def test_a_reordered_delivery_arrives_after_later_ones_for_the_same_parcel(
    moving_shop: Sandbox, receiver: Receiver
) -> None:
    moving_shop.faults = Faults(reordered=0.2, max_delay_seconds=2)
    move_all(moving_shop, receiver)
    assert set(receiver.status_counts().values()) == {1}
    assert len(receiver.posts) == 300
    last = {body["fulfillment_id"]: body["shipment_status"] for _, body in receiver.posts}
    superseded = [parcel for parcel, status in last.items() if status != "delivered"]
    assert 10 < len(superseded) < 70
    late = {d.fulfillment_id for d in moving_shop.deliveries if d.fault is Fault.REORDERED}
    assert set(superseded) < late


def test_the_same_seed_loses_the_same_deliveries(tracktor: Sandbox, receiver: Receiver) -> None:
    tracktor.shop.create_webhook(topic="order/all", address=receiver.address)
    met = []
    for status in ("Sewing", "Cutting"):
        tracktor.faults = Faults(lost=0.5, seed=3)
        before = len(tracktor.deliveries)
        for order_id in tracktor.shop.order_ids[:20]:
            tracktor.shop.set_status(order_id, status=status)
        tracktor.wait_for_deliveries()
        met.append({d.order_id for d in tracktor.deliveries[before:] if d.fault})
    assert met[0] == met[1]
    assert 0 < len(met[0]) < 20


def test_a_receiver_gets_missed_deliveries_when_it_is_back(tracktor: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as away:
        port = away.getsockname()[1]
        tracktor.shop.create_webhook(topic="order/all", address=f"http://127.0.0.1:{port}/")
        tracktor.shop.set_status(tracktor.shop.order_ids[0], status="Sewing")
        # accepts the connection and closes it
        away.accept()[0].close()
    receiver = Receiver(port)
    with receiver.serving():
        tracktor.wait_for_deliveries()
    [delivery] = tracktor.deliveries
    assert delivery.is_accepted
    assert delivery.attempts > 1
    assert len(receiver.posts) == 1


def test_invalid_delivery_faults_are_refused() -> None:
    Faults(lost=0.6, dropped=0.6)  # one is for deliveries, the other for requests
    with pytest.raises(ValueError, match=r"add up to 1\.1"):
        Faults(lost=0.6, reordered=0.5)
    with pytest.raises(ValueError, match="patience_seconds"):
        Faults(patience_seconds=-1)
