"""`TracktorCredentials`: validation, secrets, clients, saving and loading."""

import json
from datetime import datetime
from zoneinfo import ZoneInfo

import anyio
import pytest
from prefect.client.orchestration import get_client
from pydantic import ValidationError

from prefect_tracktor import (
    APIConnectionError,
    AuthenticationError,
    TracktorCredentials,
    TransportLimits,
)
from prefect_tracktor.models import Order
from prefect_tracktor.sandbox import Sandbox
from tests.support.scripted import ScriptedServer, answer

UUID = "0123abcd-0000-4000-8000-00000000000f"
KEY = "k3y-that-nobody-may-see"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"uuid": "../../admin"}, "uuid must be 32 hexadecimal digits"),
        ({"uuid": ""}, "uuid must be 32 hexadecimal digits"),
        ({"api_key": ""}, "api_key is empty"),
        ({"api_key": "**********"}, "asterisks only: Prefect sends these"),
        ({"api_key": "a b"}, "api_key has characters"),
        ({"base_url": "http://www.theshoppad.com/x"}, "base_url must be an https address"),
        ({"limits": {"max_concurrency": 0}}, "greater than or equal to 1"),
        ({"limits": {"retries": 3}}, "Extra inputs are not permitted"),
        ({"time_zone": "New York"}, "time_zone: 'New York' is not the name of a time zone: write"),
        ({"time_zone": ""}, "'America/New_York'"),
        ({"time_zone": "UTC+1"}, "'Europe/Berlin'"),
    ],
)
def test_invalid_credentials_are_refused_without_repeating_them(
    values: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem) as caught:
        TracktorCredentials.model_validate({"uuid": UUID, "api_key": KEY} | values)
    assert KEY not in str(caught.value)
    assert UUID not in str(caught.value)


def test_key_and_uuid_are_never_shown() -> None:
    credentials = TracktorCredentials(uuid=UUID, api_key=KEY)
    shown = f"{credentials!r} {credentials} {credentials.account}"
    assert KEY not in shown
    assert UUID not in shown


def test_the_account_name_ignores_the_spelling_of_the_uuid() -> None:
    first = TracktorCredentials(uuid=UUID, api_key=KEY)
    second = TracktorCredentials(uuid=UUID.replace("-", "").upper(), api_key=KEY)
    assert first.account == second.account


def test_both_clients_use_the_limits() -> None:
    limits = TransportLimits(max_concurrency=3, requests_per_second=7)
    credentials = TracktorCredentials(uuid=UUID, api_key=KEY, limits=limits)
    assert credentials.get_client().limits == limits
    assert credentials.get_async_client().limits == limits


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Sydney"])
def test_both_clients_use_the_accounts_time_zone(zone: str) -> None:
    clock = datetime(2026, 11, 2, 10, tzinfo=ZoneInfo(zone))
    body = {"order_id": 7, "order_created_at": "2026-11-02 10:00:00", "fulfillments": []}
    with ScriptedServer([answer(200, json.dumps(body))]) as server:
        credentials = TracktorCredentials.model_validate(
            {"uuid": UUID, "api_key": KEY, "base_url": server.address, "time_zone": zone}
        )

        async def read() -> Order:
            async with credentials.get_async_client() as client:
                return await client.get_order(7)

        with credentials.get_client() as client:
            orders = [client.get_order(7), anyio.run(read)]
    assert [order.order_created_at for order in orders] == [clock, clock]


def test_verifying_credentials_reads_no_order(
    credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    tracktor.reset_calls()
    credentials.verify()
    assert list(tracktor.calls) == [("GET", "status-options.json")]


def test_an_error_names_wrong_credentials(tracktor: Sandbox) -> None:
    wrong = TracktorCredentials(uuid=tracktor.uuid, api_key="wrong", base_url=tracktor.base_url)
    with pytest.raises(AuthenticationError, match="Check uuid and api_key"):
        wrong.verify()


def test_an_error_names_a_wrong_base_url() -> None:
    with Sandbox() as stopped:
        address = stopped.base_url
    lost = TracktorCredentials(
        uuid=UUID, api_key=KEY, base_url=address, limits=TransportLimits(max_attempts=1)
    )
    with pytest.raises(APIConnectionError, match="Check the network, proxy settings and base_url"):
        lost.verify()


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.anyio
async def test_saved_credentials_hide_the_key_and_work_when_loaded(
    credentials: TracktorCredentials,
) -> None:
    await credentials.asave("credentials-test")
    async with get_client() as client:
        document = await client.read_block_document_by_name(
            "credentials-test", "tracktor-credentials", include_secrets=False
        )
    assert credentials.api_key.get_secret_value() not in str(document.data)
    loaded: TracktorCredentials = await TracktorCredentials.aload("credentials-test")
    assert loaded.limits == credentials.limits
    loaded.verify()
