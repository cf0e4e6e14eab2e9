"""A running sandbox, and a client with its credentials."""

from collections.abc import Iterator

import httpx
import pytest

from prefect_tracktor.sandbox import Sandbox, Shop


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    with Sandbox(Shop(orders=60, expired=10)) as sandbox:
        yield sandbox


@pytest.fixture
def api(tracktor: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{tracktor.base_url}/{tracktor.uuid}/",
        headers={"x-api-key": tracktor.api_key},
        trust_env=False,
    ) as client:
        yield client
