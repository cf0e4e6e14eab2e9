"""Examples in docstrings: every public name has one, and each runs."""

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prefect.blocks.core import Block

import prefect_tracktor
from prefect_tracktor import (
    CompletedOrders,
    EmailTemplate,
    Mailer,
    NotificationLedger,
    OrderFile,
    ShopifyCredentials,
    ShopifyOrders,
    StatusFile,
    StatusQuery,
    TracktorCredentials,
    WebhookSubscription,
    events,
    flows,
    sandbox,
    tasks,
    webhooks,
)
from prefect_tracktor.sandbox import Sandbox

# names that an example may use without defining them
TAKEN_FOR_GRANTED = re.compile(
    r"\b(?:(?:shopify_)?credentials|tracktor|order_ids|fulfillment_id|webhook_id|ledger|mailer)\b"
)
CODE = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(prefect_tracktor.__path__, "prefect_tracktor."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {test.name: test for module in modules() for test in finder.find(module)}
    return [test for _, test in sorted(found.items()) if test.examples]


def public_names() -> dict[str, Any]:
    names = {name: getattr(prefect_tracktor, name) for name in prefect_tracktor.__all__}
    names |= {f"events.{name}": getattr(events, name) for name in events.__all__}
    names |= {f"flows.{name}": getattr(flows, name) for name in flows.__all__}
    names |= {
        f"sandbox.{name}": value
        for name in sandbox.__all__
        if not isinstance(value := getattr(sandbox, name), str)
    }
    names |= {
        f"tasks.{name}": value for name, value in vars(tasks).items() if hasattr(value, "retries")
    }
    return names


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A small shop with as many affected customers as the demo's."""
    with Sandbox(sandbox.Shop(orders=60, expired=20)) as running:
        yield running


@pytest.fixture(scope="module")
def mail() -> Iterator[sandbox.MailServer]:
    """A mail server for the example's mailer."""
    with sandbox.MailServer() as server:
        yield server


@pytest.fixture
def names(
    credentials: TracktorCredentials,
    tracktor: Sandbox,
    mail: sandbox.MailServer,
    tmp_path: Path,
) -> dict[str, Any]:
    """The names that an example may use: an account, ids, a ledger, a mailer."""
    order_ids = list(tracktor.shop.order_ids)
    return {
        "credentials": credentials,
        "tracktor": tracktor,
        "order_ids": order_ids,
        "fulfillment_id": tracktor.shop.order(order_ids[0])["fulfillments"][0]["fulfillment_id"],
        "shopify_credentials": ShopifyCredentials(
            shop="sandbox-shop",
            access_token=tracktor.shopify_access_token,
            base_url=tracktor.shopify_url,
        ),
        "ledger": NotificationLedger(url=f"sqlite:///{tmp_path / 'ledger.sqlite3'}"),
        "mailer": Mailer(
            host=mail.host,
            port=mail.port,
            security="none",
            sender="Sandbox Shop <orders@sandbox-shop.example>",
        ),
    }


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_the_example_in_a_docstring_runs(
    request: pytest.FixtureRequest,
    example: doctest.DocTest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "".join(line.source for line in example.examples)
    names = request.getfixturevalue("names") if TAKEN_FOR_GRANTED.search(code) else {}
    if "webhook_id" in code:
        hook = names["tracktor"].shop.create_webhook(
            topic="order/all", address="https://shop.example/hook"
        )
        names["webhook_id"] = hook["id"]
    example.globs.update(names)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report: list[str] = []
    doctest.DocTestRunner(optionflags=flags).run(example, out=report.append)
    assert not report, "".join(report)


def is_shown_elsewhere(name: str) -> bool:
    """The sync task has the example of its async twin; errors have none."""
    value, twin = public_names()[name], name.replace("tasks.a", "tasks.")
    return (twin != name and twin in public_names()) or is_error(value)


def is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


@pytest.mark.parametrize("name", (n for n in public_names() if not is_shown_elsewhere(n)))
def test_every_public_name_has_an_example(name: str) -> None:
    value = public_names()[name]
    text = inspect.getdoc(getattr(value, "fn", value)) or ""
    assert ">>>" in text or "```python" in text


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize(
    "make",
    [
        lambda names: names["credentials"],
        lambda names: names["ledger"],
        lambda names: webhooks.WebhookQueue(url=names["ledger"].url),
        lambda names: names["mailer"],
        lambda _names: EmailTemplate(),
        lambda _names: OrderFile(path="orders.csv"),
        lambda names: CompletedOrders(url=names["ledger"].url),
        lambda _names: StatusFile(path="plan.csv"),
        lambda _names: StatusQuery(
            url="sqlite://", query="SELECT 1 AS order_id, 'Sewing' AS status"
        ),
        lambda _names: WebhookSubscription(address="https://shop.example/hook"),
        lambda names: names["shopify_credentials"],
        lambda names: ShopifyOrders(credentials=names["shopify_credentials"]),
    ],
)
def test_the_code_example_of_a_block_runs(
    make: Callable[[dict[str, Any]], Block],
    names: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    names["tracktor"].shop.write_orders_csv(tmp_path / "orders.csv")
    (tmp_path / "plan.csv").write_text("order_id,status\n1,Sewing\n")
    block = make(names)
    block.save("example", overwrite=True)
    [(indent, example)] = CODE.findall(block.get_code_example() or "")
    if "TracktorCredentials.load(" in example and block is not names["credentials"]:
        names["credentials"].save("example", overwrite=True)
    code = inspect.cleandoc(indent + example)
    order_id = str(names["order_ids"][0])
    code = code.replace("BLOCK_NAME", "example").replace("5000000001001", order_id)
    exec(code, names)  # noqa: S102  # our own example
