"""What every test may ask for: a real Prefect API, and asyncio for the asynchronous tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness

from prefect_tracktor import TracktorCredentials
from prefect_tracktor.sandbox import Sandbox

# a busy machine is no fault
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Prefect runs on asyncio, and so do the tests."""
    return "asyncio"


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """A Prefect server of our own with an empty database; it takes some ten seconds to start."""
    with (
        # without heartbeats: each synchronous flow run would wait a second for their thread to end
        temporary_settings(
            updates={
                PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
                # events can be read back at once
                PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL: 0.1,
            }
        ),
        prefect_test_harness(server_startup_timeout=300),
    ):
        yield


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    """A Tracktor of the test's own, with the shop of the demo."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def credentials(tracktor: Sandbox) -> TracktorCredentials:
    """The credentials of that Tracktor."""
    return TracktorCredentials(
        uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
    )
