"""The credentials block of a Shopify shop."""

import re
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from prefect_tracktor.block import TracktorBlock, handbook, logo
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.http.limits import TransportLimits
from prefect_tracktor.shopify.client import ShopifyClient
from prefect_tracktor.validation import checked_address, checked_secret

API_VERSION = "2026-10"

_HANDLE = r"[a-z0-9][a-z0-9-]{0,99}"
_SHOP = re.compile(
    rf"(https?://)?(admin\.shopify\.com/store/({_HANDLE})|({_HANDLE})(\.myshopify\.com)?)([/?#].*)?"
)
_API_VERSION = re.compile(r"\d{4}-(0[1-9]|1[0-2])|unstable")
_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class ShopifyCredentials(TracktorBlock):
    """A Shopify shop, and the app that may read its orders.

    Give the client id and secret of an app made in the Dev Dashboard, which is the only way since
    2026; or the access token of an older app that was made in the Shopify admin. The app needs the
    scope `read_orders`, and `read_all_orders` too for orders that are older than 60 days.

    Attributes:
        shop: The shop's domain at Shopify. You can also use its handle, or an address from the
            Shopify admin.
        client_id: The app's client id, from its settings in the Dev Dashboard; empty if you use an
            access token.
        client_secret: The app's secret, from the same place.
        access_token: Instead of client id and secret: the Admin API access token (shpat_…) of an
            app that was created in the Shopify admin before 2026.
        api_version: The version of Shopify's API, a year and a month; Shopify supports each for a
            year.
        base_url: Leave it empty; to test with the sandbox, set its address.
        limits: Concurrent requests, requests per second, timeouts and retries.

    Raises:
        pydantic.ValidationError: A value is invalid; the message never repeats it.

    Example:
        Load saved credentials and check them:
        ```python
        from prefect_tracktor import ShopifyCredentials

        credentials = ShopifyCredentials.load("BLOCK_NAME")
        credentials.verify()
        ```
    """

    _block_type_name = "Tracktor Shopify Credentials"
    _block_type_slug = "tracktor-shopify-credentials"
    _logo_url = logo("storefront")
    _description = "A Shopify shop, and an app that can read its orders."
    _documentation_url = handbook("how-to/shopify-orders.md")

    shop: str = Field(examples=["your-store.myshopify.com"])
    client_id: str = Field(default="", repr=False)
    client_secret: SecretStr = SecretStr("")
    access_token: SecretStr = SecretStr("")
    api_version: str = Field(default=API_VERSION, title="API version")
    base_url: str = Field(default="", title="Address instead of the shop's")
    limits: TransportLimits = Field(default_factory=TransportLimits)

    @field_validator("shop")
    @classmethod
    def _to_domain(cls, value: str) -> str:
        """Convert a handle or an address from the admin to the shop's domain at Shopify."""
        found = _SHOP.fullmatch(value.strip().lower())
        if found is None:
            raise InvalidInput(
                "shop must be the shop's own domain at Shopify, such as your-store.myshopify.com"
                " (in the Shopify admin: Settings, Domains), and not the domain that customers see"
            )
        return f"{found[3] or found[4]}.myshopify.com"

    @field_validator("api_version")
    @classmethod
    def _api_version_is_valid(cls, value: str) -> str:
        # it becomes a part of an address
        if not _API_VERSION.fullmatch(value):
            raise InvalidInput(
                f"api_version must be a year and a month, such as {API_VERSION}, or unstable"
            )
        return value

    @field_validator("base_url")
    @classmethod
    def _base_url_is_safe(cls, value: str) -> str:
        return value and checked_address(value, field="base_url")

    @model_validator(mode="after")
    def _has_one_login(self) -> Self:
        access_token = self.access_token.get_secret_value()
        client_secret = self.client_secret.get_secret_value()
        if bool(access_token) == bool(self.client_id or client_secret):
            raise InvalidInput(
                "give client_id and client_secret of a Dev Dashboard app, or the access_token of an"
                " app that was made in the Shopify admin before 2026; "
                + ("both are given here" if access_token else "neither is given here")
            )
        if access_token:
            checked_secret(access_token, field="access_token", source="the app's page in the admin")
            if access_token.startswith("shpss_"):
                raise InvalidInput(
                    "access_token is a client secret (shpss_…); set it as client_secret"
                )
            return self
        source = "the app's settings in the Dev Dashboard"
        if not _CLIENT_ID.fullmatch(self.client_id):
            raise InvalidInput(f"client_id is empty or not one; copy it from {source}")
        checked_secret(client_secret, field="client_secret", source=source)
        if client_secret.startswith("shpat_"):
            raise InvalidInput("client_secret is an access token (shpat_…); set it as access_token")
        return self

    def get_client(self) -> ShopifyClient:
        """Return a new client for sync code; use it with `with`."""
        address = (self.base_url or f"https://{self.shop}").rstrip("/")
        return ShopifyClient(
            f"{address}/admin/",
            access_token=self.access_token.get_secret_value(),
            client_id=self.client_id,
            client_secret=self.client_secret.get_secret_value(),
            api_version=self.api_version,
            limits=self.limits,
        )

    def verify(self) -> None:
        """Check that the credentials work and that the app may read orders.

        Raises:
            AuthenticationError: Shopify refuses the credentials, or the scope `read_orders` is
                missing.
            TracktorError: Shopify cannot be reached, or its response is not as expected.
        """
        with self.for_a_check.get_client() as client:
            client.granted_scopes()

    @property
    def for_a_check(self) -> Self:
        """The same credentials with at most two attempts, for `verify`."""
        return self.model_copy(update={"limits": self.limits.for_a_check})
