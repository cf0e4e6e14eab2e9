"""A shop, a mail server and a ledger for a flow to run against."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_tracktor import Mailer, NotificationLedger, ShopifyCredentials, TracktorCredentials
from prefect_tracktor.flows import email_expired_exceptions
from prefect_tracktor.sandbox import MailServer, Sandbox, Shop
from tests.support.mailers import changed, mailer_of

Run = Callable[..., Any]


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A small shop, in which six customers are due an email."""
    with Sandbox(Shop(orders=60, expired=6)) as sandbox:
        yield sandbox


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """An SMTP server that keeps what it receives."""
    with MailServer() as server:
        yield server


@pytest.fixture
def ledger(tmp_path: Path) -> NotificationLedger:
    """An empty ledger."""
    return NotificationLedger(url=f"sqlite:///{tmp_path / 'ledger.sqlite3'}")


@pytest.fixture
def mailer(mail: MailServer, ledger: NotificationLedger) -> Mailer:
    """A live mailer with the ledger."""
    return mailer_of(mail, ledger=ledger)


@pytest.fixture
def shopify(tracktor: Sandbox) -> ShopifyCredentials:
    """Credentials for the sandbox's Shopify."""
    return ShopifyCredentials.model_validate(
        {
            "shop": "your-store",
            "access_token": tracktor.shopify_access_token,
            "base_url": tracktor.shopify_url,
        }
    )


@pytest.fixture
def run(
    prefect_api: None,
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    mailer: Mailer,
) -> Run:
    """Run the flow on the whole shop; options are for the flow, its mailer or its reading."""

    def run(**options: Any) -> Any:
        usual = {
            "credentials": credentials,
            "orders": list(tracktor.shop.order_ids),
            "mailer": mailer,
        }
        return email_expired_exceptions(**changed(usual, **options))

    return run


def written_to(mail: MailServer) -> list[str]:
    """The recipients of all messages, in the order of sending."""
    return [recipient for message in mail.messages for recipient in message.recipients]
