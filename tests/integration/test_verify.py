"""`verify` of each block: a quick check without side effects."""

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


def test_verify_sends_a_failing_request_at_most_twice(
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


def test_verify_reads_one_page_of_shopify_orders(
    tracktor: Sandbox, shopify_credentials: ShopifyCredentials
) -> None:
    ShopifyOrders(credentials=shopify_credentials, created_within_days=60).verify()
    assert len(tracktor.shopify.searches) == 1


def test_verify_accepts_a_shopify_search_without_orders(
    shopify_credentials: ShopifyCredentials,
) -> None:
    ShopifyOrders(credentials=shopify_credentials, tag="nobody-has-it").verify()


@pytest.mark.parametrize("kind", [NotificationLedger, CompletedOrders, WebhookQueue])
def test_verify_creates_the_tables_of_a_database_block(
    kind: type[DatabaseBlock], database_url: str
) -> None:
    block = kind.model_validate({"url": database_url})
    block.verify()
    url = make_url(database_url)
    driver = "postgresql+psycopg" if url.drivername.startswith("postgres") else "sqlite"
    engine = create_engine(url.set(drivername=driver))
    assert {table.name for table in kind.tables} <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_verify_names_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("this is no database, but a text of more than a page" * 99)
    block = CompletedOrders.model_validate({"url": f"sqlite:///{tmp_path / 'notes.txt'}"})
    with pytest.raises(DatabaseError, match="the database of the CompletedOrders block"):
        block.verify()


def test_verify_reads_only_the_header_and_first_row_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "plan.csv"
    file.write_text("Id,order_id,status\n5001,5001,Sewing\nnot read,not read,\n")
    OrderFile(path=str(file)).verify()
    StatusFile(path=str(file)).verify()
    file.write_text("Id,order_id,status\n")
    OrderFile(path=str(file)).verify()
    StatusFile(path=str(file)).verify()


@pytest.mark.parametrize("kind", [OrderFile, StatusFile])
def test_verify_refuses_a_file_with_a_wrong_header_or_first_row(
    kind: type[OrderFile] | type[StatusFile], tmp_path: Path
) -> None:
    file = tmp_path / "plan.csv"
    for text, problem in (("Name\n#1\n", "no column"), ("Id,order_id,status\n#1,#1,\n", "line 2")):
        file.write_text(text)
        with pytest.raises(InvalidInput, match=problem):
            kind(path=str(file)).verify()


def test_verify_reads_the_first_row_of_a_query_and_changes_nothing(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "erp.sqlite3") as erp:
        erp.execute("CREATE TABLE plan (order_id, status)")
        erp.executemany("INSERT INTO plan VALUES (?, ?)", [(5001, "Sewing"), ("not read", "")])
    url = f"sqlite:///{tmp_path / 'erp.sqlite3'}"
    query = StatusQuery.model_validate({"url": url, "query": "SELECT * FROM plan"})
    query.verify()
    with pytest.raises(InvalidInput, match="Check its url and query"):
        query.model_copy(update={"query": "DELETE FROM plan RETURNING *"}).verify()
    query.verify()


def test_verify_accepts_the_default_email_template() -> None:
    EmailTemplate().verify()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("{{ order.nick_name }}", "unknown name nick_name"),
        ("{{ order.order_name.upper() }}", "order 1002: line 1: unknown name upper"),
        ("{{ 'x' if order.order_name == '#0' }}", "its result is empty"),
    ],
)
def test_verify_finds_template_errors_before_the_first_order(words: str, problem: str) -> None:
    with pytest.raises(TemplateError, match=problem):
        EmailTemplate(text=words).verify()


def test_verify_tests_the_mail_login_and_sends_nothing() -> None:
    with MailServer(login=("shop", "pa55-word")) as server:
        mailer = mailer_of(server, username="shop", password="pa55-word", mode="dry_run")
        mailer.verify()
        wrong = mailer.model_copy(update={"username": "other"})
        with pytest.raises(MailServerError, match="Check username and password"):
            wrong.verify()
        assert not server.messages


def test_verify_requests_a_webhooks_host_without_its_secret_path(tracktor: Sandbox) -> None:
    WebhookSubscription.model_validate({"address": f"{tracktor.shopify_url}/t0ken"}).verify()
    assert not [call for call in tracktor.calls if "t0ken" in str(call)]
    assert not tracktor.shop.webhooks


def test_verify_names_an_unreachable_webhook_host_without_its_path() -> None:
    block = WebhookSubscription.model_validate({"address": "https://127.0.0.1:9/t0ken"})
    with pytest.raises(APIConnectionError, match=r"https://127\.0\.0\.1:9 does not") as caught:
        block.verify()
    assert "t0ken" not in str(caught.value)


def test_verify_reports_the_certificate_of_a_webhook_host_without_tls(tracktor: Sandbox) -> None:
    address = tracktor.shopify_url.replace("http://", "https://")
    with pytest.raises(APIConnectionError, match="its certificate"):
        WebhookSubscription.model_validate({"address": f"{address}/t0ken"}).verify()
