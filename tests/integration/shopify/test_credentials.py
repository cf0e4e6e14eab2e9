"""Shopify credentials: validation, hidden secrets, and `verify`."""

import pickle
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from pydantic import SecretStr, ValidationError

from prefect_tracktor import AuthenticationError, ShopifyCredentials
from prefect_tracktor.sandbox import Sandbox, ShopifyRules

SECRET = "s3cret-to-hide"


def shop_of(given_shop: str) -> str:
    return ShopifyCredentials(shop=given_shop, access_token=SecretStr(SECRET)).shop


@pytest.mark.parametrize(
    "given_shop",
    [
        "your-store.myshopify.com",
        "your-store",
        " Your-Store.MyShopify.com ",
        "https://your-store.myshopify.com",
        "http://your-store.myshopify.com/",
        "https://your-store.myshopify.com/admin/orders?status=open#top",
        "https://admin.shopify.com/store/your-store/settings/domains",
        "admin.shopify.com/store/your-store",
    ],
)
def test_a_handle_or_admin_address_becomes_the_shop_domain(given_shop: str) -> None:
    assert shop_of(given_shop) == "your-store.myshopify.com"


@pytest.mark.parametrize(
    "given_shop",
    [
        "",
        "www.your-store.com",
        "your-store.myshopify.com.evil.example",
        "evil.example/your-store.myshopify.com",
        "https://evil.example#.myshopify.com",
        "https://user:password@your-store.myshopify.com",
        "https://your-store.myshopify.com:8443",
        "ftp://your-store.myshopify.com",
        "your-store.myshopify.com\\@evil.example",
        "your-store\n.myshopify.com",
        "-your-store",
        "your_store",
        "a.b.myshopify.com",
        "https://admin.shopify.com/",
    ],
)
def test_a_host_outside_of_shopify_is_rejected_as_the_shop(given_shop: str) -> None:
    with pytest.raises(ValidationError, match="such as your-store"):
        shop_of(given_shop)


PIECES = ("your-store", ".myshopify.com", "https://", "admin.shopify.com/store/", "evil.example")


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=6).map("".join))
def test_an_accepted_shop_is_always_a_myshopify_domain(given_shop: str) -> None:
    try:
        shop = shop_of(given_shop)
    except ValidationError:
        return
    handle, _, rest = shop.partition(".")
    assert rest == "myshopify.com"
    assert set(handle) <= set(string.ascii_lowercase + string.digits + "-")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "neither is given here"),
        ({"access_token": SECRET, "client_secret": SECRET}, "both are given here"),
        ({"client_secret": SECRET}, "client_id is empty"),
        ({"client_id": "abc"}, "client_secret is empty"),
        ({"client_id": "a b", "client_secret": SECRET}, "client_id is empty or not one"),
        ({"access_token": "********"}, "access_token is asterisks only"),
        ({"access_token": "shpss_" + SECRET}, "access_token is a client secret"),
        ({"client_id": "abc", "client_secret": "shpat_" + SECRET}, "client_secret is an access"),
        ({"client_id": "abc", "client_secret": SECRET + "\n"}, "client_secret has characters"),
        ({"access_token": SECRET, "api_version": "latest"}, "api_version must be a year"),
        ({"access_token": SECRET, "api_version": "2026-13"}, "api_version must be a year"),
        ({"access_token": SECRET, "api_version": "2026-10/../x"}, "api_version must be a year"),
        ({"access_token": SECRET, "base_url": "http://shop.example"}, "base_url must be an https"),
        ({"access_token": SECRET, "shop": "shop.example"}, "shop must be the shop's own domain"),
    ],
)
def test_an_error_about_credentials_does_not_contain_the_secret(
    values: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem) as caught:
        ShopifyCredentials.model_validate({"shop": "your-store"} | values)
    assert SECRET not in str(caught.value)


def test_shopify_credentials_hide_secrets_in_their_repr() -> None:
    for values in (
        {"access_token": SECRET},
        {"client_id": SECRET, "client_secret": SECRET},
    ):
        credentials = ShopifyCredentials.model_validate({"shop": "your-store"} | values)
        assert SECRET not in f"{credentials!r} {credentials} {credentials.get_client()!r}"


def test_a_requested_token_is_not_pickled_with_the_credentials(
    shopify_credentials: ShopifyCredentials, tracktor: Sandbox
) -> None:
    before = pickle.dumps(shopify_credentials)
    shopify_credentials.verify()
    assert tracktor.shopify.grants == 1
    assert pickle.dumps(shopify_credentials) == before
    copy = pickle.loads(before)  # noqa: S301  # our own block
    assert copy == shopify_credentials


@pytest.mark.parametrize("scope", ["read_orders", "write_orders"])
def test_verify_accepts_an_app_with_a_scope_for_orders(
    shopify_credentials: ShopifyCredentials, tracktor: Sandbox, scope: str
) -> None:
    tracktor.shopify.rules = ShopifyRules(scopes=frozenset({scope}))
    shopify_credentials.verify()
    assert tracktor.shopify.searches == []


def test_verify_names_a_missing_scope_and_the_remedy(
    shopify_credentials: ShopifyCredentials, tracktor: Sandbox
) -> None:
    tracktor.shopify.rules = ShopifyRules(scopes=frozenset({"read_products"}))
    with pytest.raises(AuthenticationError, match=r"the scope read_orders\. In the Dev Dashboard"):
        shopify_credentials.verify()


def test_verify_rejects_a_wrong_client_secret(tracktor: Sandbox) -> None:
    wrong = ShopifyCredentials.model_validate(
        {
            "shop": "sandbox-shop",
            "client_id": tracktor.shopify_client_id,
            "client_secret": SECRET,
            "base_url": tracktor.shopify_url,
        }
    )
    with pytest.raises(AuthenticationError, match="Check client_id and client_secret") as caught:
        wrong.verify()
    assert SECRET not in str(caught.value)


def test_verify_rejects_a_wrong_access_token_without_a_retry(tracktor: Sandbox) -> None:
    wrong = ShopifyCredentials.model_validate(
        {"shop": "sandbox-shop", "access_token": SECRET, "base_url": tracktor.shopify_url}
    )
    with pytest.raises(AuthenticationError, match="Check the ShopifyCredentials block"):
        wrong.verify()
    assert len(tracktor.calls) == 1


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.anyio
async def test_a_saved_shopify_block_hides_its_secret_and_works_when_loaded(
    shopify_credentials: ShopifyCredentials,
) -> None:
    await shopify_credentials.asave("shopify-test")
    async with get_client() as client:
        document = await client.read_block_document_by_name(
            "shopify-test", "tracktor-shopify-credentials", include_secrets=False
        )
    assert shopify_credentials.client_secret.get_secret_value() not in str(document.data)
    loaded: ShopifyCredentials = await ShopifyCredentials.aload("shopify-test")
    loaded.verify()
