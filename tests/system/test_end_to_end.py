"""From a delivery to an email to the customer, with real parts only.

The sandbox moves parcels and sends webhooks twice and out of order; a receiver, a Prefect server, a
served deployment with its trigger, and SMTP follow. The receiver is killed in between.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import pytest
from prefect.settings import PREFECT_API_URL

from blocks.documents import DOCUMENTS
from prefect_tracktor import TracktorCredentials, WantedWebhook
from prefect_tracktor.flows import sync_webhooks
from prefect_tracktor.sandbox import Faults, MailServer, Movement, Sandbox, Shop
from prefect_tracktor.setup.blocks import save_blocks
from tests.support.programs import free_port, running, waiting
from tests.support.webhooks import TOKEN

# one before and one after the receiver is killed
PARCELS = 2

Start = Callable[..., Popen[bytes]]


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A shop whose parcels are all ready to ship, with unreliable webhooks."""
    faults = Faults(duplicated=0.3, reordered=0.3, patience_seconds=60)
    with Sandbox(Shop(orders=PARCELS, just_ready=PARCELS), faults=faults) as sandbox:
        yield sandbox


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a Python module in another process, with the test's Prefect home."""
    own = {
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    with ExitStack() as programs:

        def start(*arguments: str, **environment: str) -> Popen[bytes]:
            log = tmp_path / f"{arguments[0]}.log"
            program = running("-m", *arguments, log=log, environment=os.environ | own | environment)
            return programs.enter_context(program)

        yield start


def test_each_customer_gets_one_email_about_a_delivery_although_the_receiver_is_killed(
    prefect_api: None, start: Start, tracktor: Sandbox, mail: MailServer, tmp_path: Path
) -> None:
    port = free_port()
    environment = {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "TRACKTOR_UUID": tracktor.uuid,
        "TRACKTOR_API_KEY": tracktor.api_key,
        "TRACKTOR_BASE_URL": tracktor.base_url,
        "TRACKTOR_ORDERS": str(tmp_path / "orders.csv"),
        "TRACKTOR_RECEIVER_TOKEN": TOKEN,
        "TRACKTOR_NOTIFY": "delivered",
        "TRACKTOR_SENDER": "Sandbox Shop <orders@sandbox-shop.example>",
        "TRACKTOR_MODE": "live",
        "SMTP_HOST": mail.host,
        "SMTP_PORT": str(mail.port),
        "SMTP_SECURITY": "none",
    }
    receiver = ("prefect_tracktor", "receive", "--port", str(port))
    assert save_blocks(environment, DOCUMENTS) == 0
    start("flows", "serve", "--only", "status_change", **environment)
    first = start(*receiver, **environment)
    for attempt in waiting():
        with attempt:
            assert b"listening" in (tmp_path / "prefect_tracktor.log").read_bytes()
    credentials = TracktorCredentials(
        uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
    )
    wanted = WantedWebhook(topic="fulfillment/all", address=f"http://127.0.0.1:{port}/{TOKEN}")
    sync_webhooks(credentials, [wanted])
    for attempt in waiting():
        with attempt:
            assert b"being served" in (tmp_path / "flows.log").read_bytes()

    arriving = tracktor.move(Movement(speed=100_000))
    for attempt in waiting():
        with attempt:
            assert tracktor.shop.arrivals
    first.kill()
    start(*receiver, **environment)
    arriving.wait()

    customers = sorted(str(event.order_email) for event in tracktor.shop.arrivals)
    assert len(customers) == PARCELS
    for attempt in waiting():
        with attempt:
            assert len(mail.messages) >= PARCELS
    tracktor.wait_for_deliveries()
    assert sorted(message.recipients[0] for message in mail.messages) == customers
    assert all("has been delivered" in message.message["Subject"] for message in mail.messages)
