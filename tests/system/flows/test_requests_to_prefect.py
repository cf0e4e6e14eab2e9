"""The number of requests to Prefect's API, which are slow in Prefect Cloud."""

from collections import Counter
from typing import Any

import httpx
import pytest

from prefect_tracktor import Mailer, NotificationLedger
from prefect_tracktor.sandbox import Sandbox
from prefect_tracktor.saved_blocks import blocks_loaded_once, find_block
from tests.system.flows.conftest import Run

Requests = Counter[str]


@pytest.fixture
def requests(prefect_api: None, monkeypatch: pytest.MonkeyPatch) -> Requests:
    """The number of requests by synchronous clients, by method and kind of resource."""
    sent: Requests = Counter()
    send = httpx.Client.send

    def counted(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        kind = request.url.path.split("/")[2]
        sent[f"{request.method} {kind}"] += 1
        return send(client, request, **options)

    monkeypatch.setattr(httpx.Client, "send", counted)
    return sent


def requests_of(run: Run, requests: Requests, orders: list[int]) -> Requests:
    """The requests of one run, without those that depend on how long it takes."""
    requests.clear()
    run(orders=orders)
    return Counter({kind: n for kind, n in requests.items() if kind != "PATCH artifacts"})


def test_a_run_sends_prefect_as_many_requests_for_four_messages_as_for_one(
    run: Run, requests: Requests, tracktor: Sandbox
) -> None:
    due = list(tracktor.shop.customers_to_write_to())
    run(orders=due[:1])  # the first run creates a variable that later ones update
    with_one = requests_of(run, requests, due[1:2])
    assert requests_of(run, requests, due[2:]) == with_one


def test_a_run_with_nothing_due_only_reads_the_ledger_variable(
    run: Run, requests: Requests, tracktor: Sandbox
) -> None:
    due = list(tracktor.shop.customers_to_write_to())
    sending = requests_of(run, requests, due)
    again = requests_of(run, requests, due)
    assert {kind: n for kind, n in again.items() if "variables" in kind} == {"GET variables": 2}
    assert again.total() < sending.total()


def test_a_command_loads_each_saved_block_once(
    requests: Requests, ledger: NotificationLedger
) -> None:
    ledger.save("loaded-once", overwrite=True)
    requests.clear()
    with blocks_loaded_once():
        loaded = [find_block(NotificationLedger, "loaded-once") for _ in range(3)]
        missing = [find_block(Mailer, "loaded-never") for _ in range(3)]
    assert [block and block.url for block in loaded] == [ledger.url] * 3
    assert missing == [None] * 3
    of_the_first = requests.copy()
    with blocks_loaded_once():
        find_block(NotificationLedger, "loaded-once")
        find_block(Mailer, "loaded-never")
    assert requests - of_the_first == of_the_first
