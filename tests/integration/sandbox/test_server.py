"""The seven endpoints over HTTP: key check, state, errors."""

import httpx
import pytest

from prefect_tracktor.sandbox import Sandbox, Shop


def test_the_api_returns_the_orders_and_parcels_of_the_shop(
    tracktor: Sandbox, api: httpx.Client
) -> None:
    for order_id in tracktor.shop.order_ids:
        order = tracktor.shop.order(order_id)
        assert api.get(f"orders/{order_id}.json").json() == {"order": order}
    for parcel in order["fulfillments"]:
        response = api.get(f"fulfillments/{parcel['fulfillment_id']}.json")
        assert response.json() == {"fulfillment": parcel}


def test_the_api_lists_the_status_options(tracktor: Sandbox, api: httpx.Client) -> None:
    options = api.get("status-options.json").json()["status_options"]
    assert options == tracktor.shop.status_options
    assert {"key": "sewing", "label": "Sewing"} in options


@pytest.mark.parametrize("body", [{"order": {"status": "Sewing"}}, {"status": "Sewing"}])
def test_a_status_update_is_visible_in_the_next_read(
    tracktor: Sandbox, api: httpx.Client, body: dict[str, object]
) -> None:
    order_id = next(iter(tracktor.shop.customers_to_write_to()))
    path = f"orders/{order_id}.json"
    before = api.get(path).json()["order"]
    updated = api.post(path, json=body)
    after = api.get(path).json()["order"]
    assert updated.json() == {"order": after}
    assert set(after["statuses"]) == {"Sewing"} != set(before["statuses"])
    parcel = after["fulfillments"][0]
    assert api.get(f"fulfillments/{parcel['fulfillment_id']}.json").json()["fulfillment"] == parcel


def test_webhooks_are_created_listed_and_deleted(api: httpx.Client) -> None:
    new = {"topic": "order/delivered", "address": "http://127.0.0.1:9/hook"}
    created = api.post("webhooks.json", json={"webhook": new})
    assert created.status_code == 201
    webhook = created.json()["webhook"]
    assert webhook == new | {"id": webhook["id"]}
    twin = api.post("webhooks.json", json=new).json()["webhook"]
    assert api.get("webhooks.json").json() == {"webhooks": [webhook, twin]}
    assert api.delete(f"webhooks/{webhook['id']}.json").status_code == 200
    assert api.get("webhooks.json").json() == {"webhooks": [twin]}
    assert api.delete(f"webhooks/{webhook['id']}.json").status_code == 404


def test_the_shop_keeps_its_state_when_the_sandbox_stops() -> None:
    shop = Shop(orders=1)
    for count in (1, 2):
        with Sandbox(shop) as tracktor:
            url = f"{tracktor.base_url}/{tracktor.uuid}/webhooks.json"
            body = {"topic": "order/all", "address": "http://127.0.0.1:9/"}
            httpx.post(url, json=body, headers={"x-api-key": tracktor.api_key})
        assert len(shop.webhooks) == count


@pytest.mark.parametrize(
    ("key", "account", "status"),
    [(None, None, 401), ("wrong", None, 401), ("sandbox-key", "another-shop", 403)],
)
def test_wrong_credentials_are_refused(
    tracktor: Sandbox, key: str | None, account: str | None, status: int
) -> None:
    order_id = tracktor.shop.order_ids[0]
    response = httpx.post(
        f"{tracktor.base_url}/{account or tracktor.uuid}/orders/{order_id}.json",
        json={"order": {"status": "Sewing"}},
        headers={"x-api-key": key} if key else {},
    )
    assert response.status_code == status
    assert isinstance(response.json()["errors"], str)
    assert tracktor.shop.status_changes == []


@pytest.mark.parametrize(
    "path", ["orders/7.json", "fulfillments/7.json", "orders/x.json", "orders.json", "", "a/b/c"]
)
def test_unknown_ids_and_paths_get_a_404_as_json(api: httpx.Client, path: str) -> None:
    response = api.get(path)
    assert response.status_code == 404
    assert isinstance(response.json()["errors"], str)


def test_unsupported_methods_get_a_405(api: httpx.Client) -> None:
    assert api.post("status-options.json", json={}).status_code == 405
    assert api.get("webhooks/1.json").status_code == 405
    assert api.put("webhooks.json", json={}).status_code == 405


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"order": {"status": "Lost at sea"}}, "status"),
        ({"order": {"status": 7}}, "status"),
        ({"order": {"automatic_carrier_updates": "no"}}, "automatic_carrier_updates"),
        ({"order": {"status": "Sewing", "Force": True}}, "Force"),
        ({"order": {"force": True}}, "order"),
        ({"order": []}, "order"),
        ([], "order"),
    ],
)
def test_an_invalid_update_gets_a_422_with_the_field_and_changes_nothing(
    tracktor: Sandbox, api: httpx.Client, body: object, field: str
) -> None:
    order_id = tracktor.shop.order_ids[0]
    response = api.post(f"orders/{order_id}.json", json=body)
    assert response.status_code == 422
    assert list(response.json()["errors"]) == [field]
    assert tracktor.shop.revision(order_id) == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"topic": "order/lost", "address": "http://127.0.0.1/"}, "topic"),
        ({"topic": "order/all", "address": "ftp://127.0.0.1/"}, "address"),
        ({"topic": "order/all"}, "address"),
    ],
)
def test_an_invalid_webhook_gets_a_422_with_the_field(
    api: httpx.Client, body: dict[str, str], field: str
) -> None:
    response = api.post("webhooks.json", json={"webhook": body})
    assert response.status_code == 422
    assert list(response.json()["errors"]) == [field]
    assert api.get("webhooks.json").json() == {"webhooks": []}


def test_a_body_that_is_not_json_gets_a_400(tracktor: Sandbox, api: httpx.Client) -> None:
    assert api.post(f"orders/{tracktor.shop.order_ids[0]}.json", content=b"{").status_code == 400


def test_the_sandbox_records_calls_in_order(api: httpx.Client, tracktor: Sandbox) -> None:
    api.get("webhooks.json")
    api.get("orders/7.json")
    assert tracktor.calls == [("GET", "webhooks.json"), ("GET", "orders/7.json")]
    tracktor.reset_calls()
    assert tracktor.calls == []


def test_prepared_responses_have_the_present_state(api: httpx.Client, tracktor: Sandbox) -> None:
    tracktor.prepare()
    order_id = tracktor.shop.order_ids[5]
    tracktor.shop.set_status(order_id, status="Cutting")
    assert api.get(f"orders/{order_id}.json").json()["order"] == tracktor.shop.order(order_id)


def test_a_stopped_sandbox_accepts_no_connections() -> None:
    with Sandbox(Shop(orders=1)) as tracktor:
        url = tracktor.base_url
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_port_in_use_is_an_error(tracktor: Sandbox) -> None:
    with pytest.raises(OSError, match="address already in use"):
        Sandbox(Shop(orders=1), port=tracktor.port).start()
