"""Invalid parameters of a run: its state names the block and the field."""

from typing import Any

import pytest
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import BlockDocumentUpdate
from pydantic import SecretStr

from prefect_tracktor import Mailer, TracktorCredentials
from prefect_tracktor.flows import email_expired_exceptions
from prefect_tracktor.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("prefect_api")


def saved_wrong(name: str, **values: Any) -> str:
    """Save a block without validation, as the UI does."""
    block = TracktorCredentials(uuid="0" * 32, api_key=SecretStr("k3y-secret"))
    document_id: Any = block.save(name, overwrite=True)
    with get_client(sync_client=True) as prefect:
        data = {"uuid": "0" * 32, "api_key": "k3y-secret"} | values
        prefect.update_block_document(
            document_id, BlockDocumentUpdate(data=data, merge_existing_data=False)
        )
    return str(document_id)


def run_with(credentials: Any, orders: Any = (1,)) -> State[Any]:
    flow: Any = email_expired_exceptions
    state: State[Any] = flow(
        credentials,
        orders,
        Mailer(host="smtp.example.com", sender="Your Shop <orders@your-shop.example>"),
        dry_run=True,
        return_state=True,
    )
    return state


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [
        ("id", {"uuid": "not-a-uuid-of-mine"}, "uuid must be 32 hexadecimal digits"),
        ("slug", {"api_key": "bad key-secret"}, "api_key has characters"),
        ("id", {"base_url": "http://shop.example"}, "base_url must be an https address"),
        ("slug", {"limits": {"max_concurrency": 0}}, "limits.max_concurrency"),
    ],
)
def test_the_runs_state_names_an_invalid_saved_block_and_its_field(
    kind: str, values: dict[str, Any], field: str
) -> None:
    document_id = saved_wrong("wrong-one", **values)
    by_slug = {"block_document_slug": "tracktor-credentials/wrong-one"}
    state = run_with({"$ref": by_slug if kind == "slug" else {"block_document_id": document_id}})
    assert state.is_failed()
    message = str(state.message)
    assert "credentials: the block tracktor-credentials/wrong-one cannot be used" in message
    assert field in message
    assert "secret" not in message
    assert "not-a-uuid" not in message


def test_a_block_name_instead_of_a_block_is_refused_with_a_remedy() -> None:
    assert 'TracktorCredentials.load("tracktor")' in str(run_with("tracktor").message)


@pytest.mark.parametrize("form", [str, lambda order_id: [str(order_id)], lambda i: (i,), int])
def test_a_flow_accepts_orders_in_every_unambiguous_form(
    tracktor: Sandbox, credentials: TracktorCredentials, form: Any
) -> None:
    order_id = tracktor.shop.order_ids[0]
    assert run_with(credentials, form(order_id)).result().read == (order_id,)


@pytest.mark.parametrize("orders", [None, "#1001", ["Ada"], {1: "x"}, [True], 7.5])
def test_invalid_orders_are_refused_without_their_values(
    credentials: TracktorCredentials, orders: Any
) -> None:
    state = run_with(credentials, orders)
    assert state.is_failed()
    assert "orders" in str(state.message)
    assert "Ada" not in str(state.message)
