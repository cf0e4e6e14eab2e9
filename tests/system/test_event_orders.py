"""EventOrders: a burst of events starts one run, which reads only their orders."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event

from prefect_tracktor import EventOrders, Fulfillment, TracktorCredentials
from prefect_tracktor.conditions import Condition
from prefect_tracktor.deploy import Shop, saved
from prefect_tracktor.events import condition_event, fulfillment_event, send_events
from prefect_tracktor.models import Order
from prefect_tracktor.sandbox import Sandbox
from prefect_tracktor.sandbox import Shop as SandboxShop
from tests.support.programs import PROJECT, waiting
from tests.support.serving import make_blocks_of
from tests.system.deployments.conftest import execute, make_pool
from tests.system.handbook.pages import blocks_of

PAGE = PROJECT / "docs/how-to/prefect-cloud.md"
# Prefect may process a later event first, so events of the minute before count as well
A_MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def client(prefect_api: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    with Sandbox(SandboxShop(orders=20, expired=0)) as sandbox:
        yield sandbox


def events_of(
    order_ids: Sequence[int], *, account: str, status: str = "delivered", hours_ago: float = 0
) -> list[Event]:
    now = datetime.now(UTC)
    reached = (now - timedelta(hours=hours_ago)).isoformat()
    parcels = [
        Fulfillment.model_validate(
            {
                "fulfillment_id": 90_000 + order_id % 1000,
                "order_id": order_id,
                "shipment_status": status,
                "latest_status": {"key": status, "label": status, "datetime": reached},
            }
        )
        for order_id in order_ids
    ]
    return [fulfillment_event(parcel, account=account, received=now) for parcel in parcels]


def store(events: Sequence[Event]) -> None:
    assert send_events(events) == {event.id for event in events}


def test_event_orders_finds_the_orders_of_recent_events_of_an_account(
    client: SyncPrefectClient,
) -> None:
    store(events_of([501], account="berlin"))
    time.sleep(0.1)
    since = datetime.now(UTC) + A_MINUTE
    late = events_of([502, 503, 502], account="berlin", status="in_transit", hours_ago=5)
    exception = Fulfillment(fulfillment_id=7, order_id=504, exception_status="expired")
    odd = Event(event="tracktor.order.odd", resource={"prefect.resource.id": "tracktor.order.9"})
    from_a_flow = condition_event(
        Order(order_id=504),
        Condition("exception:expired", exception),
        account="berlin",
        received=datetime.now(UTC),
    )
    mine = [*late, from_a_flow, odd]
    store([*mine, *events_of([505], account="alpine")])
    found = EventOrders(since=since, account="berlin").find_orders()
    assert sorted(found.order_ids) == [502, 503]
    assert sorted(EventOrders(since=since).find_orders().order_ids) == [502, 503, 505]
    nothing = EventOrders(since=datetime.now(UTC) + timedelta(hours=2)).find_orders()
    assert list(nothing) == []
    assert "no tracking event has named an order since" in nothing.why_none


def test_event_orders_reads_all_pages_of_events(client: SyncPrefectClient) -> None:
    since = datetime.now(UTC)
    order_ids = list(range(1001, 1131))
    store(events_of(order_ids, account="many"))
    found = EventOrders(since=since, account="many").find_orders()
    assert sorted(found.order_ids) == order_ids


def test_a_burst_of_events_starts_one_run_for_only_its_orders(
    client: SyncPrefectClient, tracktor: Sandbox, tmp_path: Path
) -> None:
    make_blocks_of(tracktor, tmp_path)
    make_pool(client, "burst", "process")
    shop = Shop("tracktor", notify=["delivered"])
    credentials = saved(TracktorCredentials, shop)
    made = module_of_the_handbook().deployment(shop)
    made.work_pool_name = "burst"
    deployment_id: Any = made.apply()
    mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))

    named = tracktor.shop.order_ids[:5]
    store(events_of(named, account=credentials.account))
    run = the_only_run(client, mine)
    assert run.expected_start_time
    assert run.created
    assert run.expected_start_time - run.created > timedelta(seconds=3)

    # waits for its scheduled time, as a worker does
    state = execute(run.id)
    assert state.is_completed(), state.message
    assert "5 orders read" in (state.message or "")
    assert the_only_run(client, mine).id == run.id


def module_of_the_handbook() -> ModuleType:
    """Return the file of the page, with a shorter window."""
    [block] = [block for block in blocks_of(PAGE) if block.title == "flows/after_a_burst.py"]
    module = ModuleType("after_a_burst", "A burst.")
    code = block.code.replace("timedelta(minutes=5)", "timedelta(seconds=6)")
    code = code.replace("timedelta(minutes=1)", "timedelta(seconds=1)")
    exec(compile(code, block.title, "exec"), vars(module))  # noqa: S102  # our own handbook
    return module


def the_only_run(client: SyncPrefectClient, mine: FlowRunFilter) -> FlowRun:
    for attempt in waiting():
        with attempt:
            runs = client.read_flow_runs(flow_run_filter=mine)
            assert len(runs) == 1
            return runs[0]
    raise AssertionError  # not reached: the last attempt raises
