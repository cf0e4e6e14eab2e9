"""Webhook queue: deliveries and events until they are processed."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from pydantic import SecretStr

from prefect_tracktor.errors import QueueFull
from prefect_tracktor.events import Kind, Subject, fulfillment_event, order_event
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.webhooks import WebhookQueue
from prefect_tracktor.webhooks.queue import InboxEntry, ReadResult

SHOP = "shop"
PARCEL, ORDER = Subject(Kind.FULFILLMENT, 7), Subject(Kind.ORDER, 7)


@pytest.fixture
def queue(database_url: str) -> WebhookQueue:
    """An empty queue in each database."""
    queue = WebhookQueue(url=SecretStr(database_url))
    queue.verify()
    return queue


def due(queue: WebhookQueue) -> list[InboxEntry]:
    return queue.due(SHOP, known=100, new=100, missing=100)


def missing(queue: WebhookQueue) -> list[ReadResult]:
    """Return the due entries as unknown to Tracktor."""
    now = datetime.now(UTC)
    return [ReadResult(one, retry_at=now, missing=True) for one in due(queue)]


def read(queue: WebhookQueue, status: str = "delivered") -> set[UUID]:
    """Add a delivery of a parcel, and record that it was read."""
    queue.add(SHOP, PARCEL)
    [waiting] = due(queue)
    parcel = Fulfillment(fulfillment_id=7, shipment_status=status)
    event = fulfillment_event(parcel, account=SHOP, received=waiting.received)
    return queue.complete(SHOP, [ReadResult(waiting, event=event)])


def test_deliveries_of_one_parcel_share_one_inbox_entry(
    queue: WebhookQueue,
) -> None:
    for subject in (PARCEL, PARCEL, ORDER, PARCEL):
        queue.add(SHOP, subject)
    assert {(one.subject, one.deliveries) for one in due(queue)} == {(PARCEL, 3), (ORDER, 1)}


def test_each_account_has_its_own_inbox(queue: WebhookQueue) -> None:
    queue.add("another", PARCEL)
    assert due(queue) == []
    assert queue.waiting("another") == (1, 0)


def test_a_parcel_delivered_again_while_it_is_read_stays_due(queue: WebhookQueue) -> None:
    queue.add(SHOP, PARCEL)
    [waiting] = due(queue)
    queue.add(SHOP, PARCEL)
    queue.complete(SHOP, [ReadResult(waiting)])
    assert [one.subject for one in due(queue)] == [PARCEL]


def test_a_new_delivery_does_not_hasten_a_postponed_entry(
    queue: WebhookQueue,
) -> None:
    queue.add(SHOP, PARCEL)
    [waiting] = due(queue)
    queue.complete(SHOP, [ReadResult(waiting, retry_at=datetime.now(UTC) + timedelta(hours=1))])
    queue.add(SHOP, PARCEL)
    assert due(queue) == []
    queue.complete(SHOP, [ReadResult(waiting, retry_at=datetime.now(UTC))])
    assert [one.failures for one in due(queue)] == [1]


def test_a_repeated_event_is_not_new_before_or_after_confirmation(queue: WebhookQueue) -> None:
    [event_id] = read(queue)
    assert read(queue) == set()
    events = queue.claim(SHOP, limit=10)
    assert [event.id for event in events] == [event_id]
    queue.confirm(event.id for event in events)
    assert read(queue) == set()
    assert queue.waiting(SHOP) == (0, 0)
    assert len(read(queue, "in_transit")) == 1


def test_events_are_claimed_once_and_in_order(queue: WebhookQueue) -> None:
    ids = list(range(1, 8))
    for order_id in ids:
        queue.add(SHOP, Subject(Kind.ORDER, order_id))
    for waiting in sorted(due(queue), key=lambda one: -one.subject.id):
        event = order_event(
            Order(order_id=waiting.subject.id), account=SHOP, received=waiting.received
        )
        queue.complete(SHOP, [ReadResult(waiting, event=event)])
    first, rest = queue.claim(SHOP, limit=3), queue.claim(SHOP, limit=10)
    assert [event.payload["order_id"] for event in [*first, *rest]] == sorted(ids, reverse=True)
    assert queue.claim(SHOP, limit=10) == []
    queue.release(event.id for event in first)
    assert queue.claim(SHOP, limit=10) == first


def test_sent_events_are_listed_until_they_are_confirmed(queue: WebhookQueue) -> None:
    read(queue)
    now = datetime.now(UTC)

    def unconfirmed(sent_before: datetime) -> int:
        return len(queue.sent(SHOP, before=sent_before, limit=10))

    assert unconfirmed(now + timedelta(hours=1)) == 0
    events = queue.claim(SHOP, limit=10)
    assert (unconfirmed(now), unconfirmed(now + timedelta(hours=1))) == (0, 1)
    queue.confirm(event.id for event in events)
    assert unconfirmed(now + timedelta(hours=1)) == 0


def test_a_parcel_is_known_once_prefect_has_stored_its_event(queue: WebhookQueue) -> None:
    read(queue)
    queue.confirm(event.id for event in queue.claim(SHOP, limit=10))
    queue.add(SHOP, PARCEL)
    queue.add(SHOP, ORDER)
    assert {one.subject: one.known for one in due(queue)} == {PARCEL: True, ORDER: False}


def test_old_stored_events_are_pruned(queue: WebhookQueue) -> None:
    read(queue)
    queue.confirm(event.id for event in queue.claim(SHOP, limit=10))
    assert queue.prune(SHOP, before=datetime.now(UTC) - timedelta(days=30)) == 0
    assert queue.prune(SHOP, before=datetime.now(UTC) + timedelta(seconds=1)) == 1
    assert len(read(queue)) == 1


def test_a_full_queue_refuses_new_entries(queue: WebhookQueue) -> None:
    small = WebhookQueue(url=queue.url, max_waiting=2)
    small.add(SHOP, PARCEL)
    small.add(SHOP, ORDER)
    with pytest.raises(QueueFull, match="2 orders and parcels wait to be read already"):
        small.add(SHOP, Subject(Kind.ORDER, 8))
    assert small.waiting(SHOP) == (2, 0)


def test_unknown_ids_do_not_fill_the_queue(queue: WebhookQueue) -> None:
    small = WebhookQueue(url=queue.url, max_waiting=2)
    small.add(SHOP, PARCEL)
    small.add(SHOP, ORDER)
    small.complete(SHOP, missing(small))
    assert [one.misses for one in due(small)] == [1, 1]
    small.add(SHOP, Subject(Kind.ORDER, 8))
    assert [one.subject.id for one in small.due(SHOP, known=9, new=9)] == [8]


def test_a_known_parcel_stays_known_after_a_miss(
    queue: WebhookQueue,
) -> None:
    read(queue)
    queue.confirm(event.id for event in queue.claim(SHOP, limit=10))
    queue.add(SHOP, PARCEL)
    queue.complete(SHOP, missing(queue))
    assert [one.subject for one in queue.due(SHOP, known=1)] == [PARCEL]


def test_the_latest_and_earliest_new_entries_are_read_first(queue: WebhookQueue) -> None:
    for order_id in range(1, 10):
        queue.add(SHOP, Subject(Kind.ORDER, order_id))
    assert [one.subject.id for one in queue.due(SHOP, new=4)] == [9, 8, 1, 2]
    assert [one.subject.id for one in queue.due(SHOP, new=1)] == [9]


def test_the_repr_of_a_webhook_queue_hides_its_password() -> None:
    queue = WebhookQueue(url="postgresql://user:s3cret@host/shop")
    assert "s3cret" not in repr(queue)
