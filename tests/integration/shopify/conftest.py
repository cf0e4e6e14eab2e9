"""A sandbox with the current time, and credentials for its Shopify."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from prefect_tracktor import ShopifyCredentials
from prefect_tracktor.sandbox import Sandbox, Shop


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    with Sandbox(Shop(orders=40, now=datetime.now(UTC))) as sandbox:
        yield sandbox


@pytest.fixture
def shopify_credentials(tracktor: Sandbox) -> ShopifyCredentials:
    """Credentials of a Dev Dashboard app."""
    return ShopifyCredentials.model_validate(
        {
            "shop": "sandbox-shop.myshopify.com",
            "client_id": tracktor.shopify_client_id,
            "client_secret": tracktor.shopify_client_secret,
            "base_url": tracktor.shopify_url,
        }
    )
