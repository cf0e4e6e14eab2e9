"""The parameter `orders`: its run form, and runs created by Prefect's API."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.deployments.runner import RunnerDeployment
from prefect.flow_engine import load_flow_and_flow_run, run_flow
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.callables import parameter_schema

from prefect_tracktor import ShopifyCredentials, ShopifyOrders, TracktorCredentials
from prefect_tracktor.flows.advance import advance_custom_statuses
from prefect_tracktor.flows.expired_exceptions import email_expired_exceptions
from prefect_tracktor.sandbox import Sandbox, Shop


@pytest.fixture
def tracktor() -> Iterator[Sandbox]:
    with Sandbox(Shop(orders=60, now=datetime.now(UTC))) as sandbox:
        yield sandbox


@pytest.fixture
def shopify_orders(prefect_api: None, tracktor: Sandbox) -> ShopifyOrders:
    """Orders of the sandbox's Shopify, with saved credentials."""
    credentials = ShopifyCredentials.model_validate(
        {
            "shop": "sandbox-shop",
            "client_id": tracktor.shopify_client_id,
            "client_secret": tracktor.shopify_client_secret,
            "base_url": tracktor.shopify_url,
        }
    )
    credentials.save("orders-test", overwrite=True)
    return ShopifyOrders(credentials=credentials, fulfillment="any")


@pytest.mark.parametrize("flow", [email_expired_exceptions, advance_custom_statuses])
def test_the_run_form_offers_order_ids_a_file_shopify_and_events(flow: Flow[..., Any]) -> None:
    schema = parameter_schema(flow)
    ids, *blocks = schema.properties["orders"]["anyOf"]
    assert ids == {"items": {"type": "integer"}, "type": "array"}
    definitions = [schema.definitions[block["$ref"].rpartition("/")[2]] for block in blocks]
    assert [definition.get("block_type_slug") for definition in definitions] == [
        "tracktor-order-file",
        "tracktor-shopify-orders",
        None,  # EventOrders
    ]


def reference(block: Block) -> dict[str, Any]:
    """Save a block and return a reference to it."""
    return {"$ref": {"block_document_id": str(block.save("orders-test", overwrite=True))}}


def test_a_run_created_by_api_with_block_references_finds_its_orders(
    shopify_orders: ShopifyOrders, credentials: TracktorCredentials, tracktor: Sandbox
) -> None:
    deployment = advance_custom_statuses.to_deployment(
        name="orders-test", entrypoint_type=EntrypointType.MODULE_PATH
    )
    assert isinstance(deployment, RunnerDeployment)
    assert deployment.enforce_parameter_schema
    deployment_id = deployment.apply()
    assert isinstance(deployment_id, UUID)
    parameters = {
        "credentials": reference(credentials),
        "orders": reference(shopify_orders),
        "stages": [{"status": "Sewing", "after_days": 0}],
        "dry_run": True,
    }
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(deployment_id, parameters=parameters)
        assert tracktor.shopify_client_secret not in run.model_dump_json()
    found, flow = load_flow_and_flow_run(run.id)
    state: Any = run_flow(flow, flow_run=found, return_type="state")
    assert state.is_completed(), state.message
    assert len(tracktor.shopify.searches) == 1
    read = [path for _method, path in tracktor.calls if path.startswith("orders/")]
    assert sorted(read) == [
        f"orders/{order_id}.json" for order_id in shopify_orders.find_orders().order_ids
    ]
