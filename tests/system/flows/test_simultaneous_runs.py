"""Simultaneous runs share the work, and report no claim of another as uncertain."""

from collections.abc import Iterator
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL

from prefect_tracktor import NotificationLedger, TracktorCredentials
from prefect_tracktor.sandbox import MailFaults, MailServer, Sandbox, Shop
from prefect_tracktor.storage.ledger import NoticeKey, NoticeState
from tests.system.flows.conftest import Run, written_to
from tests.system.flows.interrupted import run_flow_to_completion, start

pytestmark = pytest.mark.usefixtures("prefect_api")

AT_ONCE = 3


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A slow mail server, so that runs want to send the same message."""
    with MailServer(faults=MailFaults(delay_seconds=0.1)) as server:
        yield server


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    with Sandbox(Shop(orders=60, expired=24)) as sandbox:
        yield sandbox


@pytest.fixture
def ledger(database_url: str) -> NotificationLedger:
    return NotificationLedger(url=database_url)


def test_simultaneous_runs_succeed_and_each_customer_gets_one_message(
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    mail: MailServer,
    ledger: NotificationLedger,
) -> None:
    base: dict[str, Any] = {
        "uuid": tracktor.uuid,
        "api_key": tracktor.api_key,
        "base_url": credentials.base_url,
    }
    runs = [
        start(
            run_flow_to_completion,
            PREFECT_API_URL.value(),
            base,
            list(tracktor.shop.order_ids),
            ledger.url.get_secret_value(),
            mail.port,
        )
        for _ in range(AT_ONCE)
    ]
    for process in runs:
        process.join()
    assert [process.exitcode for process in runs] == [0] * AT_ONCE
    assert sorted(written_to(mail)) == sorted(tracktor.shop.customers_to_write_to().values())


# the ledger's own tests cover heartbeats in each database
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_claim_of_a_run_at_work_is_reported_as_in_progress(
    run: Run,
    tracktor: Sandbox,
    credentials: TracktorCredentials,
    mail: MailServer,
    ledger: NotificationLedger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prefect_tracktor.runs.sending._WAIT_FOR_OTHERS_SECONDS", 0.1)
    monkeypatch.setattr("prefect_tracktor.runs.sending._LOOK_AGAIN_SECONDS", 0.05)
    mail.faults = MailFaults()
    order_id = next(iter(tracktor.shop.customers_to_write_to()))
    keys = [
        NoticeKey(credentials.account, order_id, parcel["fulfillment_id"], "exception:expired")
        for parcel in tracktor.shop.order(order_id)["fulfillments"]
    ]
    ledger.claim(keys, run="other")
    with ledger.at_work("other"):
        report = run()
        assert report.in_progress == (order_id,)
        assert report.complete
        ledger.complete(keys, NoticeState.SENT, run="other")
    assert order_id in run().already_told
