"""Blocks see for themselves whether they work, soon and without leaving a trace."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, make_url

from prefect_tracktor import (
    APIConnectionError,
    CompletedOrders,
    EmailTemplate,
    InvalidInput,
    NotificationLedger,
    OrderFile,
    ServerError,
    ShopifyCredentials,
    ShopifyOrders,
    StatusFile,
    StatusQuery,
    TracktorCredentials,
    WebhookSubscription,
)
from prefect_tracktor.errors import DatabaseError, MailServerError, TemplateError
from prefect_tracktor.sandbox import Faults, MailServer, Sandbox, Shop
from prefect_tracktor.storage.database import DatabaseBlock
from prefect_tracktor.webhooks import WebhookQueue
from tests.support.mailers import mailer_of


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    with Sandbox(Shop(orders=600, now=datetime.now(UTC))) as sandbox:
        yield sandbox


@pytest.fixture
def shopify_credentials(tracktor: Sandbox) -> ShopifyCredentials:
    return ShopifyCredentials.model_validate(
        {
            "shop": "sandbox-shop",
            "access_token": tracktor.shopify_access_token,
            "base_url": tracktor.shopify_url,
        }
    )


def test_who_cannot_be_asked_is_tried_twice_and_no_more(
    credentials: TracktorCredentials, tracktor: Sandbox, shopify_credentials: ShopifyCredentials
) -> None:
    tracktor.faults = Faults(server_error=1)
    assert credentials.limits.max_attempts > 2
    with pytest.raises(ServerError):
        credentials.verify()
    assert len(tracktor.calls) == 2
    for block in (shopify_credentials, ShopifyOrders(credentials=shopify_credentials)):
        tracktor.reset_calls()
        with pytest.raises(ServerError):
            block.verify()
        assert len(tracktor.calls) == 2


def test_of_shopifys_orders_one_page_is_read(
    tracktor: Sandbox, shopify_credentials: ShopifyCredentials
) -> None:
    ShopifyOrders(credentials=shopify_credentials, created_within_days=60).verify()
    assert len(tracktor.shopify.searches) == 1


def test_that_shopify_finds_no_order_is_no_fault(shopify_credentials: ShopifyCredentials) -> None:
    ShopifyOrders(credentials=shopify_credentials, tag="nobody-has-it").verify()


@pytest.mark.parametrize("kind", [NotificationLedger, CompletedOrders, WebhookQueue])
def test_a_databases_tables_are_there_afterwards(
    kind: type[DatabaseBlock], database_url: str
) -> None:
    block = kind.model_validate({"url": database_url})
    block.verify()
    url = make_url(database_url)
    driver = "postgresql+psycopg" if url.drivername.startswith("postgres") else "sqlite"
    engine = create_engine(url.set(drivername=driver))
    assert {table.name for table in kind.tables} <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_a_database_that_is_none_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("this is no database, but a text of more than a page" * 99)
    block = CompletedOrders.model_validate({"url": f"sqlite:///{tmp_path / 'notes.txt'}"})
    with pytest.raises(DatabaseError, match="the database of the CompletedOrders block"):
        block.verify()


def test_of_files_the_header_and_the_first_row_are_read(tmp_path: Path) -> None:
    file = tmp_path / "plan.csv"
    file.write_text("Id,order_id,status\n5001,5001,Sewing\nnot read,not read,\n")
    OrderFile(path=str(file)).verify()
    StatusFile(path=str(file)).verify()
    file.write_text("Id,order_id,status\n")
    OrderFile(path=str(file)).verify()
    StatusFile(path=str(file)).verify()


@pytest.mark.parametrize("kind", [OrderFile, StatusFile])
def test_a_file_with_a_wrong_header_or_first_row_is_refused(
    kind: type[OrderFile] | type[StatusFile], tmp_path: Path
) -> None:
    file = tmp_path / "plan.csv"
    for text, problem in (("Name\n#1\n", "no column"), ("Id,order_id,status\n#1,#1,\n", "line 2")):
        file.write_text(text)
        with pytest.raises(InvalidInput, match=problem):
            kind(path=str(file)).verify()


def test_of_a_query_the_first_row_is_read_and_nothing_is_changed(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "erp.sqlite3") as erp:
        erp.execute("CREATE TABLE plan (order_id, status)")
        erp.executemany("INSERT INTO plan VALUES (?, ?)", [(5001, "Sewing"), ("not read", "")])
    url = f"sqlite:///{tmp_path / 'erp.sqlite3'}"
    query = StatusQuery.model_validate({"url": url, "query": "SELECT * FROM plan"})
    query.verify()
    with pytest.raises(InvalidInput, match="Check its url and query"):
        query.model_copy(update={"query": "DELETE FROM plan RETURNING *"}).verify()
    query.verify()


def test_the_default_words_can_be_written_whatever_is_known_of_an_order() -> None:
    EmailTemplate().verify()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("{{ order.nick_name }}", "unknown name nick_name"),
        ("{{ order.order_name.upper() }}", "order 1002: line 1: unknown name upper"),
        ("{{ 'x' if order.order_name == '#0' }}", "its result is empty"),
    ],
)
def test_words_that_fail_for_an_order_are_found_before_one_comes(words: str, problem: str) -> None:
    with pytest.raises(TemplateError, match=problem):
        EmailTemplate(text=words).verify()


def test_a_login_is_tried_and_nothing_sent() -> None:
    with MailServer(login=("shop", "pa55-word")) as server:
        mailer = mailer_of(server, username="shop", password="pa55-word", mode="dry_run")
        mailer.verify()
        wrong = mailer.model_copy(update={"username": "other"})
        with pytest.raises(MailServerError, match="Check username and password"):
            wrong.verify()
        assert not server.messages


def test_a_webhooks_host_is_asked_and_its_secret_path_is_not(tracktor: Sandbox) -> None:
    WebhookSubscription.model_validate({"address": f"{tracktor.shopify_url}/t0ken"}).verify()
    assert not [call for call in tracktor.calls if "t0ken" in str(call)]
    assert not tracktor.shop.webhooks


def test_a_webhooks_host_that_does_not_answer_is_named_without_its_path() -> None:
    block = WebhookSubscription.model_validate({"address": "https://127.0.0.1:9/t0ken"})
    with pytest.raises(APIConnectionError, match=r"https://127\.0\.0\.1:9 does not") as caught:
        block.verify()
    assert "t0ken" not in str(caught.value)


def test_a_host_without_tls_is_no_https_address(tracktor: Sandbox) -> None:
    address = tracktor.shopify_url.replace("http://", "https://")
    with pytest.raises(APIConnectionError, match="its certificate"):
        WebhookSubscription.model_validate({"address": f"{address}/t0ken"}).verify()
