"""Faults in twenty per cent of all requests: nothing is lost or done twice."""

from collections import Counter
from contextlib import suppress

import stamina

from prefect_tracktor import TracktorCredentials, TracktorError, api
from prefect_tracktor.bulk import calls_for
from prefect_tracktor.sandbox import Faults, Sandbox
from tests.support.bulk import send_all_from_anywhere


def test_every_status_is_written_once_despite_faults(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    wanted = list(tracktor.shop.order_ids[:120])
    label = str(tracktor.shop.status_options[-1]["label"])
    before = {order_id: tracktor.shop.order(order_id)["statuses"] for order_id in wanted}
    tracktor.faults = Faults.everything(rate=0.2, seed=5)
    with stamina.set_testing(True, attempts=20), credentials.get_client() as client:
        for order_id in wanted:
            client.update_order(order_id, status=label, automatic_carrier_updates=False)
    changes = Counter(change.order_id for change in tracktor.shop.status_changes)
    assert set(changes.values()) <= {1}
    assert set(changes) >= {
        order_id for order_id, statuses in before.items() if set(statuses) - {label}
    }
    assert sum(tracktor.faults_met.values()) > 10


def test_no_webhook_is_created_twice_despite_faults(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    tracktor.faults = Faults.everything(rate=0.2, seed=6)
    with stamina.set_testing(True, attempts=20), credentials.get_client() as client:
        for number in range(80):
            # not retried if the response is lost
            with suppress(TracktorError):
                client.create_webhook(topic="order/all", address=f"https://shop.example/{number}")
    made = Counter(webhook["address"] for webhook in tracktor.shop.webhooks)
    assert set(made.values()) == {1}
    assert len(made) > 60
    assert sum(tracktor.faults_met.values()) > 10


def test_every_order_is_read_despite_faults(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    tracktor.faults = Faults.everything(rate=0.2, seed=7)
    with stamina.set_testing(True, attempts=20):
        batch = send_all_from_anywhere(
            credentials.get_async_client, calls_for(api.get_order, tracktor.shop.order_ids)
        )
    assert [order.order_id for order in batch.found] == list(tracktor.shop.order_ids)
    assert sum(tracktor.faults_met.values()) > 100
