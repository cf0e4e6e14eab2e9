"""What is in the spool stays until it is done, and no news is told twice."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from prefect_tracktor.events import DeliverySpool, Kind, Subject, fulfillment_event, order_event
from prefect_tracktor.events.spool import SpoolFull, Waiting
from prefect_tracktor.models import Fulfillment, Order

SHOP = "shop"
PARCEL, ORDER = Subject(Kind.FULFILLMENT, 7), Subject(Kind.ORDER, 7)


@pytest.fixture
def spool(database_url: str) -> DeliverySpool:
    """An empty spool in each database."""
    spool = DeliverySpool(url=SecretStr(database_url))
    spool.prepare()
    return spool


def due(spool: DeliverySpool) -> list[Waiting]:
    return spool.due(SHOP, known=100, new=100, unknown=100)


def read(spool: DeliverySpool, status: str = "delivered") -> set[str]:
    """Have a parcel delivered and read."""
    spool.add(SHOP, [PARCEL])
    [waiting] = due(spool)
    parcel = Fulfillment(fulfillment_id=7, shipment_status=status)
    event = fulfillment_event(parcel, account=SHOP, received=waiting.received)
    return spool.settle(SHOP, read=[(waiting, event)])


def test_deliveries_of_one_parcel_wait_as_one_and_apart_from_an_orders(
    spool: DeliverySpool,
) -> None:
    spool.add(SHOP, [PARCEL, PARCEL, ORDER])
    spool.add(SHOP, [PARCEL])
    assert {(one.subject, one.deliveries) for one in due(spool)} == {(PARCEL, 3), (ORDER, 1)}


def test_another_account_has_its_own(spool: DeliverySpool) -> None:
    spool.add("another", [PARCEL])
    assert due(spool) == []
    assert spool.waiting("another") == (1, 0)


def test_what_is_delivered_while_it_is_read_stays_due(spool: DeliverySpool) -> None:
    spool.add(SHOP, [PARCEL])
    [waiting] = due(spool)
    spool.add(SHOP, [PARCEL])
    spool.settle(SHOP, dropped=[waiting])
    assert [one.subject for one in due(spool)] == [PARCEL]


def test_what_is_postponed_is_due_later_and_a_new_delivery_does_not_hurry_it(
    spool: DeliverySpool,
) -> None:
    spool.add(SHOP, [PARCEL])
    [waiting] = due(spool)
    spool.settle(SHOP, postponed=[(waiting, datetime.now(UTC) + timedelta(hours=1))])
    spool.add(SHOP, [PARCEL])
    assert due(spool) == []
    spool.settle(SHOP, postponed=[(waiting, datetime.now(UTC))])
    assert [one.failures for one in due(spool)] == [1]


def test_news_is_told_once_before_and_after_it_was_confirmed(spool: DeliverySpool) -> None:
    [event_id] = read(spool)
    assert read(spool) == set()
    events = spool.claim(SHOP, limit=10)
    assert [event.event_id for event in events] == [event_id]
    spool.confirm(SHOP, events)
    assert read(spool) == set()
    assert spool.waiting(SHOP) == (0, 0)
    assert len(read(spool, "in_transit")) == 1


def test_events_are_claimed_once_and_in_their_order(spool: DeliverySpool) -> None:
    ids = list(range(1, 8))
    spool.add(SHOP, [Subject(Kind.ORDER, order_id) for order_id in ids])
    for waiting in sorted(due(spool), key=lambda one: -one.subject.id):
        event = order_event(
            Order(order_id=waiting.subject.id), account=SHOP, received=waiting.received
        )
        spool.settle(SHOP, read=[(waiting, event)])
    first, rest = spool.claim(SHOP, limit=3), spool.claim(SHOP, limit=10)
    assert [event.subject.id for event in [*first, *rest]] == sorted(ids, reverse=True)
    assert spool.claim(SHOP, limit=10) == []
    spool.release(first)
    assert spool.claim(SHOP, limit=10) == first


def test_what_was_sent_is_unconfirmed_until_it_is_confirmed(spool: DeliverySpool) -> None:
    read(spool)
    now = datetime.now(UTC)

    def unconfirmed(sent_before: datetime) -> int:
        return len(spool.unconfirmed(SHOP, after=0, sent_before=sent_before, limit=10))

    assert unconfirmed(now + timedelta(hours=1)) == 0
    events = spool.claim(SHOP, limit=10)
    assert (unconfirmed(now), unconfirmed(now + timedelta(hours=1))) == (0, 1)
    spool.confirm(SHOP, events)
    assert unconfirmed(now + timedelta(hours=1)) == 0


def test_a_parcel_is_known_once_prefect_has_an_event_of_it(spool: DeliverySpool) -> None:
    read(spool)
    spool.confirm(SHOP, spool.claim(SHOP, limit=10))
    spool.add(SHOP, [PARCEL, ORDER])
    assert {one.subject: one.confirmed for one in due(spool)} == {PARCEL: True, ORDER: False}


def test_old_news_is_forgotten(spool: DeliverySpool) -> None:
    read(spool)
    spool.confirm(SHOP, spool.claim(SHOP, limit=10))
    assert spool.prune(SHOP, before=datetime.now(UTC) - timedelta(days=30)) == 0
    assert spool.prune(SHOP, before=datetime.now(UTC) + timedelta(seconds=1)) == 1
    assert len(read(spool)) == 1


def test_a_full_spool_takes_no_more(spool: DeliverySpool) -> None:
    small = DeliverySpool(url=spool.url, max_waiting=2)
    small.add(SHOP, [PARCEL, ORDER])
    with pytest.raises(SpoolFull, match="2 parcels and orders wait to be read already"):
        small.add(SHOP, [Subject(Kind.ORDER, 8)])
    assert small.waiting(SHOP) == (2, 0)


def test_what_tracktor_does_not_know_takes_no_room_from_the_rest(spool: DeliverySpool) -> None:
    small = DeliverySpool(url=spool.url, max_waiting=2)
    small.add(SHOP, [PARCEL, ORDER])
    small.settle(SHOP, missed=[(one, datetime.now(UTC)) for one in due(small)])
    assert [one.misses for one in due(small)] == [1, 1]
    small.add(SHOP, [Subject(Kind.ORDER, 8)])
    assert [one.subject.id for one in small.due(SHOP, known=9, new=9)] == [8]


def test_a_known_parcel_stays_known_when_tracktor_once_does_not_know_it(
    spool: DeliverySpool,
) -> None:
    read(spool)
    spool.confirm(SHOP, spool.claim(SHOP, limit=10))
    spool.add(SHOP, [PARCEL])
    spool.settle(SHOP, missed=[(one, datetime.now(UTC)) for one in due(spool)])
    assert [one.subject for one in spool.due(SHOP, known=1)] == [PARCEL]


def test_the_latest_and_the_longest_due_of_the_new_come_first(spool: DeliverySpool) -> None:
    for order_id in range(1, 10):
        spool.add(SHOP, [Subject(Kind.ORDER, order_id)])
    assert [one.subject.id for one in spool.due(SHOP, new=4)] == [9, 8, 1, 2]
    assert [one.subject.id for one in spool.due(SHOP, new=1)] == [9]


def test_the_block_shows_no_password() -> None:
    spool = DeliverySpool(url="postgresql://user:s3cret@host/shop")
    assert "s3cret" not in repr(spool)
