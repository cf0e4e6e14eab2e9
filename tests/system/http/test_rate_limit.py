"""Rate limits that processes share through Prefect."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import anyio
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_tracktor import (
    APIConnectionError,
    InvalidInput,
    ShopifyCredentials,
    TracktorCredentials,
    TransportLimits,
    api,
)
from prefect_tracktor.bulk import calls_for
from prefect_tracktor.sandbox import Sandbox, Shop
from tests.support.bulk import send_all_from_anywhere
from tests.support.paced import (
    give_up_waiting_for_a_permit,
    processes,
    read_in_bulk,
    read_one_after_another,
)
from tests.support.scripted import ScriptedServer, answer

pytestmark = pytest.mark.usefixtures("prefect_api")

FIELDS = {"uuid": "00000000-0000-4000-8000-000000000001", "api_key": "k3y"}

NewLimit = Callable[..., str]


@pytest.fixture
def new_limit() -> NewLimit:
    """Create a global concurrency limit and return its name."""

    def new_limit(**fields: Any) -> str:
        name = f"tracktor-{uuid4().hex}"
        with get_client(sync_client=True) as prefect:
            prefect.create_global_concurrency_limit(
                GlobalConcurrencyLimitCreate(name=name, **fields)
            )
        return name

    return new_limit


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    with Sandbox(Shop(orders=40)) as sandbox:
        yield sandbox


def sharing(credentials: TracktorCredentials, name: str, **further: Any) -> TracktorCredentials:
    limits = TransportLimits(shared_limit=name, **further)
    return credentials.model_copy(update={"limits": limits})


def test_processes_share_one_rate_limit(new_limit: NewLimit) -> None:
    burst, rate = 5, 10
    with ScriptedServer([answer(body='{"order": {"order_id": 7}}')]) as server:
        fields = FIELDS | {
            "base_url": server.address,
            "limits": {"shared_limit": new_limit(limit=burst, slot_decay_per_second=rate)},
        }
        both = [
            processes.Process(target=read, args=(PREFECT_API_URL.value(), fields, ids))
            for read, ids in ((read_one_after_another, [7] * 14), (read_in_bulk, range(1, 15)))
        ]
        for process in both:
            process.start()
        for process in both:
            process.join()
    arrivals = [request.at for request in server.requests]
    assert len(arrivals) == 28
    # in any window: a burst, and the rate; plus a second, as permits and requests take time
    for first, start in enumerate(arrivals):
        for count, end in enumerate(arrivals[first:], start=1):
            assert count <= burst + rate * (end - start + 1)


def test_the_error_for_a_missing_shared_limit_names_the_remedy(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    remedy = r"shared_limit: .*'nowhere'.*prefect gcl create nowhere --limit .* --slot-decay"
    with (
        sharing(credentials, "nowhere").get_client() as client,
        pytest.raises(InvalidInput, match=remedy),
    ):
        client.get_status_options()
    with pytest.raises(InvalidInput, match=remedy):
        send_all_from_anywhere(
            sharing(credentials, "nowhere").get_async_client,
            calls_for(api.get_order, tracktor.shop.order_ids),
        )
    shopify = ShopifyCredentials(
        shop="sandbox-shop",
        access_token=tracktor.shopify_access_token,
        base_url=tracktor.shopify_url,
        limits=TransportLimits(shared_limit="nowhere"),
    )
    with shopify.get_client() as client, pytest.raises(InvalidInput, match=remedy):
        client.granted_scopes()
    assert not tracktor.calls


def test_a_shared_limit_without_slot_decay_is_an_error(
    tracktor: Sandbox, credentials: TracktorCredentials, new_limit: NewLimit
) -> None:
    name = new_limit(limit=5, slot_decay_per_second=0)
    with (
        sharing(credentials, name).get_client() as client,
        pytest.raises(InvalidInput, match=f"prefect gcl update {name} .*--slot-decay-per-second"),
    ):
        client.get_status_options()
    assert not tracktor.calls


def test_nothing_is_sent_while_prefect_is_unreachable(
    tracktor: Sandbox, credentials: TracktorCredentials, new_limit: NewLimit
) -> None:
    name = new_limit(limit=5, slot_decay_per_second=5)
    without_retries = sharing(credentials, name, max_attempts=1)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        with (
            without_retries.get_client() as client,
            pytest.raises(APIConnectionError, match=r"nothing was sent.*Check PREFECT_API_URL"),
        ):
            client.get_status_options()
        batch = send_all_from_anywhere(
            without_retries.get_async_client, calls_for(api.get_order, tracktor.shop.order_ids[:2])
        )
    assert len(batch.failed) == 2
    assert "nothing was sent" in batch.failed[0].reason
    assert not tracktor.calls


def test_nothing_is_sent_after_an_unexpected_response_from_prefect(
    tracktor: Sandbox, credentials: TracktorCredentials
) -> None:
    without_retries = sharing(credentials, "tracktor-odd", max_attempts=1)
    with (
        ScriptedServer([answer(401), answer(500), answer(body='{"limit": "many"}')]) as prefect,
        temporary_settings({PREFECT_API_URL: f"{prefect.address}/api"}),
        without_retries.get_client() as client,
    ):
        for _ in range(3):
            with pytest.raises(APIConnectionError, match="nothing was sent"):
                client.get_status_options()
    assert not tracktor.calls


def test_an_inactive_shared_limit_does_not_delay_requests(
    tracktor: Sandbox, credentials: TracktorCredentials, new_limit: NewLimit
) -> None:
    name = new_limit(limit=1, slot_decay_per_second=0.001, active=False)
    batch = send_all_from_anywhere(
        sharing(credentials, name).get_async_client,
        calls_for(api.get_order, tracktor.shop.order_ids[:5]),
    )
    assert len(batch.found) == 5


@pytest.mark.anyio
async def test_a_wait_for_a_permit_can_be_cancelled(
    tracktor: Sandbox, credentials: TracktorCredentials, new_limit: NewLimit
) -> None:
    name = await anyio.to_thread.run_sync(lambda: new_limit(limit=1, slot_decay_per_second=0.001))
    async with sharing(credentials, name).get_async_client() as client:
        await client.get_status_options()
        with anyio.move_on_after(0.1) as scope:
            await client.get_status_options()
    assert scope.cancelled_caught
    assert len(tracktor.calls) == 1


def test_a_cancelled_wait_does_not_keep_the_process_alive(
    tracktor: Sandbox, new_limit: NewLimit
) -> None:
    fields = {
        "uuid": tracktor.uuid,
        "api_key": tracktor.api_key,
        "base_url": tracktor.base_url,
        "limits": {"shared_limit": new_limit(limit=1, slot_decay_per_second=0.001)},
    }
    process = processes.Process(
        target=give_up_waiting_for_a_permit, args=(PREFECT_API_URL.value(), fields)
    )
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert len(tracktor.calls) == 1
