"""The handbook's example pipeline: our tasks, custom tasks and a chat service."""

import asyncio
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import exceptions_digest as example
import pytest
from apprise.plugins.slack import NotifySlack
from apprise.plugins.workflows import NotifyWorkflows
from exceptions_digest import Channel, exceptions_digest
from exceptions_digest_async import aexceptions_digest
from prefect.blocks.notifications import (
    CustomWebhookNotificationBlock,
    MicrosoftTeamsWebhook,
    SlackWebhook,
)
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from pydantic import SecretStr

from prefect_tracktor import NotificationLedger, OrderFile, TracktorCredentials, TransportLimits
from prefect_tracktor.sandbox import Faults, Sandbox, Shop
from tests.support.chat import SLACK, TEAMS, ChatServer
from tests.support.serving import make_blocks_of, served

EXAMPLES = Path(example.__file__).parent

Run = Callable[..., int]

CHANNELS: dict[str, Callable[[ChatServer], Channel]] = {
    SLACK: lambda _: SlackWebhook(url=SecretStr(f"https://{SLACK}/services/T0001/B0001/t0ken")),
    TEAMS: lambda _: MicrosoftTeamsWebhook(
        url=SecretStr(
            f"https://{TEAMS}/workflows/abc/triggers/manual/paths/invoke"
            "?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=t0ken"
        )
    ),
    "127.0.0.1": lambda chat: CustomWebhookNotificationBlock(
        name="a chat", url=f"{chat.url}/t0ken", json_data={"text": "{{subject}}\n{{body}}"}
    ),
}


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A small shop; some of its parcels have exceptions."""
    with Sandbox(Shop(orders=60, expired=6)) as sandbox:
        yield sandbox


@pytest.fixture
def ledger(tmp_path: Path) -> NotificationLedger:
    return NotificationLedger(url=SecretStr(f"sqlite:///{tmp_path / 'ledger.sqlite3'}"))


@pytest.fixture
def export(tracktor: Sandbox, tmp_path: Path) -> OrderFile:
    tracktor.shop.write_orders_csv(tmp_path / "orders.csv")
    return OrderFile(path=str(tmp_path / "orders.csv"))


@pytest.fixture(params=["sync", "async"])
def run(
    request: pytest.FixtureRequest,
    prefect_api: None,
    credentials: TracktorCredentials,
    chat: ChatServer,
    ledger: NotificationLedger,
    export: OrderFile,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run the sync or the async pipeline with options."""
    monkeypatch.setattr(example.post, "retry_delay_seconds", 0)
    for plugin in (NotifySlack, NotifyWorkflows):  # by default they wait seconds between messages
        monkeypatch.setattr(plugin, "request_rate_per_sec", 0)
    usual: dict[str, Any] = {
        "credentials": credentials,
        "orders": export,
        "channel": CHANNELS["127.0.0.1"](chat),
        "ledger": ledger,
        "shop": "your-store",
    }

    def run(**options: Any) -> int:
        count: int
        if request.param == "sync":
            count = exceptions_digest(**(usual | options))
        else:
            count = asyncio.run(aexceptions_digest(**(usual | options)))
        return count

    return run


# for code that both versions share
IN_SYNC_CODE = pytest.mark.parametrize("run", ["sync"], indirect=True)


def orders_with_exceptions(tracktor: Sandbox) -> set[str]:
    """The names of the orders with undelivered parcels in exception, from the shop."""
    orders = map(tracktor.shop.order, tracktor.shop.order_ids)
    return {
        order["order_name"]
        for order in orders
        for parcel in order["fulfillments"]
        if parcel["exception_status"] and parcel["shipment_status"] != "delivered"
    }


def lines(chat: ChatServer) -> list[list[str]]:
    """The parts of each posted line, one for each parcel."""
    return [
        line.removeprefix("- ").split(", ")
        for text in chat.texts
        for line in text.splitlines()
        if line.startswith("- ")
    ]


@IN_SYNC_CODE
@pytest.mark.parametrize("host", CHANNELS)
def test_the_pipeline_posts_each_parcel_with_an_exception(
    host: str, run: Run, chat: ChatServer, tracktor: Sandbox
) -> None:
    count = run(channel=CHANNELS[host](chat))
    assert {posted.host for posted in chat.posted} == {host}
    assert {parts[0] for parts in lines(chat)} == orders_with_exceptions(tracktor)
    assert count == len(lines(chat)) >= len(orders_with_exceptions(tracktor)) > 6


@IN_SYNC_CODE
def test_each_posted_line_has_status_carrier_value_and_link(
    run: Run, chat: ChatServer, tracktor: Sandbox, export: OrderFile
) -> None:
    run()
    with Path(export.path).open(newline="", encoding="utf-8") as file:
        worth = {row["Name"]: float(row["Total"]) for row in csv.DictReader(file) if row["Total"]}
    orders = {
        order["order_name"]: order for order in map(tracktor.shop.order, tracktor.shop.order_ids)
    }
    for name, status, carrier, value, link in lines(chat):
        [parcel, *_] = orders[name]["fulfillments"]
        assert status in {
            "Tracking Expired",
            "Needs Attention",
            "Shipping Exception",
            "Failed Attempt",
            "Pending Details",
        }
        assert carrier == parcel["carrier"]["name"]
        assert float(value) == worth[name]
        assert (
            link == f"https://admin.shopify.com/store/your-store/orders/{orders[name]['order_id']}"
        )
    values = [float(parts[3]) for parts in lines(chat)]
    assert values == sorted(values, reverse=True)


@IN_SYNC_CODE
def test_the_pipeline_posts_no_personal_data(run: Run, chat: ChatServer, tracktor: Sandbox) -> None:
    run()
    posted = "".join(chat.texts)
    for order in map(tracktor.shop.order, tracktor.shop.order_ids):
        private = {order["order_email"], order["order_phone"], order["customer_last_name"]}
        assert not [value for value in private - {None} if value in posted]


def test_the_pipeline_posts_each_parcel_once_and_nothing_without_news(
    run: Run, chat: ChatServer, tracktor: Sandbox
) -> None:
    run()
    before = len(lines(chat))
    chat.posted.clear()
    assert run() == 0
    assert not chat.posted

    [parcel, *_] = next(
        order["fulfillments"]
        for order in map(tracktor.shop.order, tracktor.shop.order_ids)
        if order["statuses"] == ["in_transit"] and not order["exception_statuses"]
    )
    tracktor.shop.set_parcel(parcel["fulfillment_id"], exception_status="undelivered")
    assert run() == 1
    assert [parts[:2] for parts in lines(chat)] == [[parcel["order_name"], "Failed Attempt"]]
    assert before > 1


@IN_SYNC_CODE
def test_the_pipeline_splits_a_long_list_into_several_messages(
    run: Run, chat: ChatServer, monkeypatch: pytest.MonkeyPatch, tracktor: Sandbox
) -> None:
    monkeypatch.setattr(example, "LINES_A_MESSAGE", 4)
    count = run()
    assert len(chat.posted) == -(-count // 4) > 2
    assert {parts[0] for parts in lines(chat)} == orders_with_exceptions(tracktor)


def test_the_pipeline_reports_unreadable_orders_and_reads_them_next_time(
    run: Run,
    chat: ChatServer,
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    export: OrderFile,
) -> None:
    impatient = credentials.model_copy(update={"limits": TransportLimits(max_attempts=1)})
    tracktor.faults = Faults(server_error=1)
    assert run(credentials=impatient) == 0
    [text] = chat.texts
    assert f"{len(list(export.find_orders().order_ids))} orders could not be read" in text
    tracktor.faults = Faults()
    assert run() > 6


@IN_SYNC_CODE
def test_the_pipeline_retries_a_failed_post(run: Run, chat: ChatServer, tracktor: Sandbox) -> None:
    chat.statuses = [503]
    run()
    assert {parts[0] for parts in lines(chat)} == orders_with_exceptions(tracktor)


@pytest.mark.parametrize(
    ("run", "host"),
    [("sync", SLACK), ("sync", "127.0.0.1"), ("async", "127.0.0.1")],
    indirect=["run"],
)
def test_a_rejected_post_fails_the_run_and_the_next_run_posts_it(
    host: str,
    run: Run,
    chat: ChatServer,
    tracktor: Sandbox,
) -> None:
    channel = CHANNELS[host](chat)
    chat.statuses = [503] * 3
    with pytest.raises(RuntimeError, match="the message was rejected") as caught:
        run(channel=channel)
    assert "t0ken" not in str(caught.value)
    assert caught.value.__cause__ is None
    run(channel=channel)
    assert {parts[0] for parts in lines(chat)} == orders_with_exceptions(tracktor)


def test_the_next_run_posts_the_messages_that_were_rejected(
    run: Run, chat: ChatServer, monkeypatch: pytest.MonkeyPatch, tracktor: Sandbox
) -> None:
    monkeypatch.setattr(example, "LINES_A_MESSAGE", 4)
    chat.statuses = [200, 503, 503, 503]
    with pytest.raises(RuntimeError, match="the message was rejected"):
        run()
    run()
    posted = [parts[0] for parts in lines(chat)]
    assert set(posted) == orders_with_exceptions(tracktor)
    assert len(chat.posted) == -(-len(posted) // 4)


@pytest.mark.usefixtures("prefect_api")
def test_the_served_pipeline_posts_when_its_deployment_runs(
    tracktor: Sandbox, chat: ChatServer, tmp_path: Path
) -> None:
    make_blocks_of(tracktor, tmp_path)
    CHANNELS[SLACK](chat).save("parcels", overwrite=True)
    with served(str(EXAMPLES / "serve_digest.py"), folder=tmp_path):
        run = run_deployment("Exceptions digest/daily", poll_interval=1)
    assert isinstance(run, FlowRun)
    assert run.state is not None
    assert run.state.is_completed(), run.state.message
    assert run.parameters["channel"].keys() == {"$ref"}
    assert {parts[0] for parts in lines(chat)} == orders_with_exceptions(tracktor)


@pytest.mark.parametrize(
    "name", ["exceptions_digest.py", "exceptions_digest_async.py", "serve_digest.py"]
)
def test_the_handbook_shows_the_code_of_the_pipeline(name: str) -> None:
    page = (EXAMPLES.parent / "how-to" / "compose.md").read_text(encoding="utf-8")
    code = (EXAMPLES / name).read_text(encoding="utf-8")
    assert f'```python title="{name}"\n{code}```' in page
