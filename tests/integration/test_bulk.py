"""Bulk reads: one outcome for each id."""

import logging
import socket
from collections.abc import Callable
from uuid import uuid4

import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from prefect_tracktor import TracktorCredentials, api
from prefect_tracktor.bulk import Batch, calls_for
from prefect_tracktor.errors import AuthenticationError, InvalidInput
from prefect_tracktor.models import Order
from prefect_tracktor.sandbox import Faults, Sandbox
from tests.support.bulk import send_all_from_anywhere
from tests.support.scripted import ScriptedServer, answer

Read = Callable[..., Batch[Order]]


@pytest.fixture
def read(credentials: TracktorCredentials) -> Read:
    def read(ids: list[int]) -> Batch[Order]:
        return send_all_from_anywhere(credentials.get_async_client, calls_for(api.get_order, ids))

    return read


def test_a_batch_lists_found_orders_in_input_order(read: Read, tracktor: Sandbox) -> None:
    wanted = list(reversed(tracktor.shop.order_ids[:30]))
    assert [order.order_id for order in read(wanted).found] == wanted


def test_a_repeated_id_is_requested_once(read: Read, tracktor: Sandbox) -> None:
    first = tracktor.shop.order_ids[0]
    tracktor.reset_calls()
    assert len(read([first, first, first]).found) == 1
    assert len(tracktor.calls) == 1


def test_unknown_ids_are_missing_and_do_not_stop_the_others(read: Read, tracktor: Sandbox) -> None:
    first = tracktor.shop.order_ids[0]
    batch = read([1, first, 2])
    assert batch.missing == [1, 2]
    assert [order.order_id for order in batch.found] == [first]
    assert batch.complete


def test_a_bulk_read_of_no_ids_returns_an_empty_batch(read: Read) -> None:
    assert read([]) == Batch()


def test_invalid_ids_are_refused_before_a_request_is_sent(read: Read, tracktor: Sandbox) -> None:
    tracktor.reset_calls()
    with pytest.raises(InvalidInput, match=r"item 1 of the ids.*positive whole number"):
        read([tracktor.shop.order_ids[0], -1])
    assert not tracktor.calls


def test_refused_credentials_stop_a_bulk_read_at_once(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    wrong = TracktorCredentials(
        uuid=credentials.uuid, api_key="wrong", base_url=credentials.base_url
    )
    tracktor.reset_calls()
    with pytest.raises(AuthenticationError):
        send_all_from_anywhere(
            wrong.get_async_client, calls_for(api.get_order, tracktor.shop.order_ids[:200])
        )
    assert len(tracktor.calls) <= 2 * wrong.limits.max_concurrency


def test_a_bulk_read_retries_temporary_errors(read: Read, tracktor: Sandbox) -> None:
    tracktor.faults = Faults.everything(rate=0.3, seed=3)
    with stamina.set_testing(True, attempts=30):
        batch = read(tracktor.shop.order_ids[:150])
    assert len(batch.found) == 150


def test_a_batch_has_the_reason_of_each_failure(read: Read, tracktor: Sandbox) -> None:
    tracktor.faults = Faults(server_error=1.0)
    with stamina.set_testing(True, attempts=1):
        batch = read(tracktor.shop.order_ids[:3])
    assert [failure.id for failure in batch.failed] == list(tracktor.shop.order_ids[:3])
    assert all("Tracktor failed" in failure.reason for failure in batch.failed)
    assert not batch.complete


def test_a_bulk_read_gives_up_while_tracktor_is_down(read: Read, tracktor: Sandbox) -> None:
    tracktor.faults = Faults(server_error=1.0)
    tracktor.reset_calls()
    with stamina.set_testing(True, attempts=1):
        batch = read(tracktor.shop.order_ids[:500])
    assert len(batch.failed) == 500
    assert "not tried" in batch.failed[-1].reason
    assert len(tracktor.calls) < 250


def test_a_batch_repr_shows_only_counts(read: Read, tracktor: Sandbox) -> None:
    assert repr(read(tracktor.shop.order_ids[:2])) == "Batch(2 found, 0 missing, 0 failed)"


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_every_id_has_exactly_one_outcome_in_a_batch(data: st.DataObject) -> None:
    with Sandbox() as tracktor:
        known = st.sampled_from(list(tracktor.shop.order_ids[:20]))
        ids = data.draw(st.lists(known | st.integers(1, 50), max_size=40))
        credentials = TracktorCredentials(
            uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
        )
        tracktor.faults = Faults(server_error=0.4)
        with stamina.set_testing(True, attempts=1):
            batch = send_all_from_anywhere(
                credentials.get_async_client, calls_for(api.get_order, ids)
            )
    outcomes = [order.order_id for order in batch.found] + batch.missing
    outcomes += [failure.id for failure in batch.failed]
    assert sorted(outcomes) == sorted(set(ids))


def test_a_batch_counts_requests_with_retries(read: Read, tracktor: Sandbox) -> None:
    tracktor.faults = Faults(server_error=0.3, seed=5)
    tracktor.reset_calls()
    with stamina.set_testing(True, attempts=30):
        batch = read(tracktor.shop.order_ids[:40])
    assert batch.requests == len(tracktor.calls) > 40


def test_a_bulk_read_sends_few_requests_while_tracktor_is_unreachable(
    read: Read, tracktor: Sandbox
) -> None:
    tracktor.faults = Faults(dropped=1.0)
    tracktor.reset_calls()
    with stamina.set_testing(True, attempts=3, cap=True):
        batch = read(tracktor.shop.order_ids[:200])
    assert batch.gave_up
    assert batch.failed_as_a_whole
    assert [failure.id for failure in batch.failed] == list(tracktor.shop.order_ids[:200])
    assert len(tracktor.calls) <= 4 * 3


class Replies(ScriptedServer):
    """A server whose response depends on the order id."""

    def __init__(self, reply: Callable[[int], bytes]) -> None:
        super().__init__([])
        self._reply = reply

    def _converse(self, connection: socket.socket) -> None:
        line = connection.recv(65536).decode().partition(".json")[0]
        connection.sendall(self._reply(int(line.rpartition("/")[2])))


def read_from(server: ScriptedServer, ids: range) -> Batch[Order]:
    credentials = TracktorCredentials(
        uuid="0" * 32, api_key=SecretStr("k3y"), base_url=server.address
    )
    with stamina.set_testing(True, attempts=2):
        return send_all_from_anywhere(credentials.get_async_client, calls_for(api.get_order, ids))


@pytest.mark.parametrize("count", [1, 4])
def test_a_server_error_for_some_orders_does_not_stop_the_others(count: int) -> None:
    def reply(order_id: int) -> bytes:
        return answer(500) if order_id <= count else answer(body=f'{{"order_id": {order_id}}}')

    with Replies(reply) as server:
        batch = read_from(server, range(1, 21))
    assert [failure.id for failure in batch.failed] == list(range(1, count + 1))
    assert len(batch.found) == 20 - count
    assert not batch.gave_up


@pytest.mark.parametrize(
    "bad",
    [answer(422), answer(body='{"order_id": 7000}'), answer(body='{"order_id": []}')],
    ids=["refused", "about another order", "unreadable"],
)
def test_many_bad_responses_in_a_row_do_not_stop_the_others(bad: bytes) -> None:
    def reply(order_id: int) -> bytes:
        return bad if order_id <= 60 else answer(body=f'{{"order_id": {order_id}}}')

    with Replies(reply) as server:
        batch = read_from(server, range(1, 201))
    assert [order.order_id for order in batch.found] == list(range(61, 201))
    assert not batch.gave_up


def test_one_log_line_names_the_outage_and_the_longest_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # another account: a line is logged once a minute for each
    with Sandbox(uuid=str(uuid4()), faults=Faults(dropped=1.0)) as tracktor:
        credentials = TracktorCredentials(
            uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
        )
        calls = calls_for(api.get_order, tracktor.shop.order_ids[:200])
        with stamina.set_testing(True, attempts=5, cap=True):
            send_all_from_anywhere(credentials.get_async_client, calls)
    [line] = [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert "Tracktor could not be reached" in line
    assert "up to 120 seconds" in line
