"""The tasks in flow runs against a Prefect API and the sandbox."""

import asyncio
from typing import Any

import pytest
from prefect import flow, unmapped
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.settings import PREFECT_HOME

from prefect_tracktor import (
    Batch,
    DesiredStatus,
    InvalidInput,
    NotFound,
    Order,
    TracktorCredentials,
    tasks,
)
from prefect_tracktor.errors import (
    APIConnectionError,
    AuthenticationError,
    RateLimited,
    ReadOnlyAccount,
    ServerError,
    UnprocessableValue,
)
from prefect_tracktor.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("prefect_api")

HOOK = "https://shop.example/hook"
ALL_TASKS = [
    "get_fulfillment",
    "get_status_options",
    "get_order",
    "update_order",
    "list_webhooks",
    "create_webhook",
    "delete_webhook",
    "get_orders",
    "get_fulfillments",
    "update_orders",
    "call",
]


async def task_runs_of(run_id: str) -> list[TaskRun]:
    async with get_client() as client:
        while True:
            runs = await client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
            )
            # the API records task runs a moment after their end
            if runs and all(run.state and run.state.is_final() for run in runs):
                return runs
            await asyncio.sleep(0.1)


def test_all_seven_calls_work_in_a_sync_flow(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    order_id = tracktor.shop.order_ids[0]

    @flow
    def everything() -> None:
        order = tasks.get_order(credentials, order_id)
        parcel = order.fulfillments[0].fulfillment_id
        assert tasks.get_fulfillment(credentials, parcel).order_id == order_id
        label = tasks.get_status_options(credentials)[-1].label
        tasks.update_order(credentials, order_id, status=label, automatic_carrier_updates=False)
        assert tasks.get_order(credentials, order_id).fulfillments[0].shipment_status == label
        hook = tasks.create_webhook(credentials, topic="order/all", address=HOOK)
        assert [found.id for found in tasks.list_webhooks(credentials)] == [hook.id]
        tasks.delete_webhook(credentials, hook.id)
        answer: Any = tasks.call(credentials, "GET", "webhooks.json")
        assert answer == {"webhooks": []}

    everything()


def test_all_seven_calls_work_in_an_async_flow(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    order_id = tracktor.shop.order_ids[0]

    @flow
    async def everything() -> None:
        order = await tasks.aget_order(credentials, order_id)
        parcel = order.fulfillments[0].fulfillment_id
        assert (await tasks.aget_fulfillment(credentials, parcel)).order_id == order_id
        label = (await tasks.aget_status_options(credentials))[-1].label
        await tasks.aupdate_order(credentials, order_id, status=label)
        order = await tasks.aget_order(credentials, order_id)
        assert order.fulfillments[0].shipment_status == label
        hook = await tasks.acreate_webhook(credentials, topic="order/all", address=HOOK)
        assert [found.id for found in await tasks.alist_webhooks(credentials)] == [hook.id]
        await tasks.adelete_webhook(credentials, hook.id)
        assert await tasks.acall(credentials, "GET", "webhooks.json") == {"webhooks": []}

    asyncio.run(everything())


def test_bulk_tasks_can_be_called_submitted_and_mapped(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    ids = list(tracktor.shop.order_ids[:40])

    @flow
    def every_way() -> list[int]:
        called = tasks.get_orders(credentials, ids)
        submitted = tasks.get_orders.submit(credentials, ids).result()
        mapped = tasks.get_orders.map(unmapped(credentials), [ids[:20], ids[20:]]).result()
        parcels = [parcel.fulfillment_id for o in called.found for parcel in o.fulfillments]
        assert len(tasks.get_fulfillments(credentials, parcels).found) == len(parcels)
        return [len(called.found), len(submitted.found), *(len(batch.found) for batch in mapped)]

    assert every_way() == [40, 40, 20, 20]


def test_bulk_tasks_work_in_an_async_flow_awaited_and_blocking(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    ids = list(tracktor.shop.order_ids[:20])

    @flow
    async def both() -> list[int]:
        awaited = await tasks.aget_orders(credentials, ids)
        blocking = tasks.get_orders(credentials, ids)
        parcel = awaited.found[0].fulfillments[0].fulfillment_id
        parcels = await tasks.aget_fulfillments(credentials, [parcel])
        return [len(awaited.found), len(blocking.found), len(parcels.found)]

    assert asyncio.run(both()) == [20, 20, 1]


def test_update_orders_works_in_sync_and_async_flows(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    first, second = tracktor.shop.order_ids[:2]

    @flow
    def write() -> Batch[Order]:
        return tasks.update_orders(
            credentials, [DesiredStatus(first, "Sewing"), DesiredStatus(1, "Sewing")]
        )

    @flow
    async def write_too() -> Batch[Order]:
        return await tasks.aupdate_orders(credentials, [DesiredStatus(second, None, False)])

    batch = write()
    assert [order.order_id for order in batch.found] == [first]
    assert batch.missing == [1]
    assert batch.requests == 2
    assert asyncio.run(write_too()).complete
    assert set(tracktor.shop.order(first)["statuses"]) == {"Sewing"}
    assert tracktor.shop.order(second)["automatic_carrier_updates"] is False


@pytest.mark.parametrize(
    ("updates", "problem"),
    [
        ([DesiredStatus(7, "Sewing"), DesiredStatus(8)], r"updates\[1\]: .*status"),
        (
            [DesiredStatus(7, "Sewing"), DesiredStatus(7, "Cutting")],
            r"updates\[0\] and updates\[1\]",
        ),
    ],
)
def test_contradictory_or_empty_updates_are_refused_before_the_first_is_sent(
    credentials: TracktorCredentials,
    tracktor: Sandbox,
    updates: list[DesiredStatus],
    problem: str,
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        tasks.update_orders(credentials, updates)
    assert tracktor.calls == []


def test_a_bulk_read_is_one_task_run(credentials: TracktorCredentials, tracktor: Sandbox) -> None:
    @flow
    def read() -> str:
        tasks.get_orders(credentials, list(tracktor.shop.order_ids[:100]))
        return str(flow_run.id)

    assert len(asyncio.run(task_runs_of(read()))) == 1


def test_task_runs_have_names_with_the_order_id_and_a_tag(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    order_id = tracktor.shop.order_ids[0]

    @flow
    def read() -> str:
        tasks.get_order(credentials, order_id)
        return str(flow_run.id)

    [run] = asyncio.run(task_runs_of(read()))
    assert run.name == f"get-order-{order_id}"
    assert run.tags == ["tracktor"]


def test_a_tasks_error_reaches_the_flow_unchanged(credentials: TracktorCredentials) -> None:
    @flow
    def read() -> None:
        tasks.get_order(credentials, 1)

    with pytest.raises(NotFound, match=r"GET orders/1\.json"):
        read()


def test_results_of_tasks_are_not_written_to_disk(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    order_id = tracktor.shop.order_ids[0]

    @flow(persist_result=True)
    def read() -> None:
        tasks.get_order(credentials, order_id)
        tasks.get_orders(credentials, [order_id])

    before = set(PREFECT_HOME.value().rglob("*"))
    read()
    email = tracktor.shop.order(order_id)["order_email"] or "no address"
    written = [p for p in set(PREFECT_HOME.value().rglob("*")) - before if p.is_file()]
    assert all(email.encode() not in path.read_bytes() for path in written)


@pytest.mark.parametrize("name", ALL_TASKS)
def test_every_task_has_an_async_twin_with_the_same_name_and_options(name: str) -> None:
    sync, twin = getattr(tasks, name), getattr(tasks, f"a{name}")
    assert sync.name == twin.name
    assert sync.task_run_name == twin.task_run_name
    assert sync.retry_condition_fn is twin.retry_condition_fn
    assert not sync.isasync
    assert twin.isasync
    for task in (sync, twin):
        assert task.tags == {"tracktor"}
        assert task.persist_result is False
        assert task.retries == 3


def failed(error: Exception) -> State[Any]:
    return State(type="FAILED", data=error)


@pytest.mark.parametrize(
    ("error", "repeated"),
    [
        (RateLimited("429", may_have_arrived=False), True),
        (ServerError("502"), True),
        (APIConnectionError("reset"), True),
        (AuthenticationError("401"), False),
        (NotFound("404"), False),
        (UnprocessableValue("422"), False),
        (ValueError("a bug"), False),
    ],
)
def test_a_task_is_retried_only_after_temporary_errors(error: Exception, repeated: bool) -> None:
    condition: Any = tasks.get_order.retry_condition_fn
    assert condition(None, None, failed(error)) is repeated


def test_a_task_is_not_retried_after_a_refusal_before_sending() -> None:
    condition: Any = tasks.create_webhook.retry_condition_fn
    for refused in (InvalidInput("no topic"), ReadOnlyAccount("read-only")):
        assert not condition(None, None, failed(refused))


@pytest.mark.parametrize(("may_have_arrived", "repeated"), [(True, False), (False, True)])
def test_create_webhook_is_retried_only_if_the_request_did_not_arrive(
    may_have_arrived: bool, repeated: bool
) -> None:
    condition: Any = tasks.create_webhook.retry_condition_fn
    error = ServerError("503", may_have_arrived=may_have_arrived)
    assert condition(None, None, failed(error)) is repeated


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_prefect_retries_a_task_after_a_temporary_error(
    kind: str, credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    from prefect_tracktor.sandbox import Faults

    limits = credentials.limits.model_copy(update={"max_attempts": 1})
    hasty = credentials.model_copy(update={"limits": limits})
    tracktor.faults = Faults(server_error=1.0)
    tracktor.reset_calls()

    @flow
    def read() -> None:
        tasks.list_webhooks.with_options(retries=2, retry_delay_seconds=0)(hasty)

    @flow
    async def aread() -> None:
        await tasks.alist_webhooks.with_options(retries=2, retry_delay_seconds=0)(hasty)

    with pytest.raises(ServerError):
        read() if kind == "sync" else asyncio.run(aread())
    assert len(tracktor.calls) == 3


def test_bulk_reads_accept_text_ids_and_a_single_id(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    first, second = tracktor.shop.order_ids[:2]

    @flow
    def read() -> list[list[int]]:
        given: list[Any] = [[str(first), second], first, str(first), (first,), {first: None}.keys()]
        batches = [tasks.get_orders(credentials, ids) for ids in given]
        as_text: Any = str(second)
        assert tasks.get_order(credentials, as_text).order_id == second
        return [[order.order_id for order in batch.found] for batch in batches]

    assert read() == [[first, second], [first], [first], [first], [first]]


def test_update_orders_accepts_every_unambiguous_form(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    first, second = tracktor.shop.order_ids[:2]
    forms: list[Any] = [
        {first: "Sewing", second: "Sewing"},
        {str(first): "Cutting"},
        [(first, "Sewing"), [second, "Cutting"]],
        [(first, None, True)],
        [{"order_id": first, "status": "Cutting"}],
        {"order_id": first, "status": "Sewing"},
        DesiredStatus(first, "Cutting"),
        iter([DesiredStatus(first, "Sewing")]),
    ]

    @flow
    def write() -> list[int]:
        return [len(tasks.update_orders(credentials, form).found) for form in forms]

    assert write() == [2, 1, 2, 1, 1, 1, 1, 1]
    assert set(tracktor.shop.order(first)["statuses"]) == {"Sewing"}


NOT_IDS: list[Any] = [
    None,
    7.5,
    "tracktor",
    "#1001",
    b"7",
    bytearray(b"7"),
    {1: "Sewing"},
    [None],
    [["7"]],
    object(),
]
NOT_UPDATES: list[Any] = [
    None,
    5,
    "Sewing",
    ["Sewing"],
    [(1,)],
    [(1, "Sewing", None, 4)],
    [{"id": 1, "status": "Sewing"}],
    {1: 5},
    {"#1001": "Sewing"},
    [(1, ["Sewing"])],
    [None],
]


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        *((name, ids) for name in ("get_orders", "get_fulfillments") for ids in NOT_IDS),
        *(("update_orders", updates) for updates in NOT_UPDATES),
        ("get_order", None),
        ("get_order", ["7"]),
        ("get_fulfillment", {}),
        ("delete_webhook", None),
    ],
)
def test_invalid_ids_and_updates_are_refused_with_a_remedy_before_sending(
    credentials: TracktorCredentials, tracktor: Sandbox, name: str, argument: Any
) -> None:
    with pytest.raises(InvalidInput, match=r"must be|Input should be"):
        getattr(tasks, name).fn(credentials, argument)
    with pytest.raises(InvalidInput, match=r"must be|Input should be"):
        asyncio.run(getattr(tasks, f"a{name}").fn(credentials, argument))
    assert tracktor.calls == []


@pytest.mark.parametrize("value", ["tracktor", None, {"uuid": "x"}, 5])
@pytest.mark.parametrize("name", ALL_TASKS)
def test_every_task_refuses_a_value_that_is_not_a_credentials_block(name: str, value: Any) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "get_status_options": {},
        "list_webhooks": {},
        "create_webhook": {"topic": "order/all", "address": "https://shop.example/hook"},
        "update_order": {"order_id": 1, "status": "Sewing"},
        "update_orders": {"updates": [(1, "Sewing")]},
        "get_orders": {"order_ids": [1]},
        "get_fulfillments": {"fulfillment_ids": [1]},
        "call": {"method": "GET", "path": "webhooks.json"},
        "get_order": {"order_id": 1},
        "get_fulfillment": {"fulfillment_id": 1},
        "delete_webhook": {"webhook_id": 1},
    }
    remedy = r'TracktorCredentials\.load\("tracktor"\)'
    with pytest.raises(InvalidInput, match=remedy):
        getattr(tasks, name).fn(value, **arguments[name])
    with pytest.raises(InvalidInput, match=remedy):
        asyncio.run(getattr(tasks, f"a{name}").fn(value, **arguments[name]))


@pytest.mark.parametrize(
    ("method", "path", "json"),
    [(None, "x.json", None), ("GET", None, None), ("GET", 5, None), ("POST", "x.json", {1, 2})],
)
def test_call_refuses_an_invalid_method_path_or_body(
    credentials: TracktorCredentials, method: Any, path: Any, json: Any
) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        tasks.call.fn(credentials, method, path, json)
