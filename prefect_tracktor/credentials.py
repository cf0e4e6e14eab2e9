"""The block `TracktorCredentials`: a Tracktor account and its request limits."""

from functools import partial
from inspect import iscoroutine
from typing import Annotated, Any

from prefect.blocks.abstract import CredentialsBlock
from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from prefect_tracktor.block import TracktorBlock, handbook, logo
from prefect_tracktor.client import (
    BASE_URL,
    AsyncTracktorClient,
    TracktorClient,
    account_name,
    checked_api_key,
)
from prefect_tracktor.errors import InvalidInput, InvalidResponse, NotFound
from prefect_tracktor.http.limits import TransportLimits
from prefect_tracktor.times import ZoneName
from prefect_tracktor.validation import checked_address, checked_uuid

_NOT_A_BLOCK = (
    "must be a TracktorCredentials block; load a saved one by its name with"
    ' TracktorCredentials.load("tracktor"), in async code with'
    ' await TracktorCredentials.aload("tracktor")'
)


class TracktorCredentials(CredentialsBlock, TracktorBlock):
    """The uuid and API key of a Tracktor account, and its request limits.

    Both are in Tracktor's settings in the Shopify admin, and belong to one shop.

    Attributes:
        uuid: The account's uuid, from Tracktor's settings in the Shopify admin.
        api_key: The account's API key, from the same place.
        base_url: Keep the default; for a rehearsal use the sandbox's address.
        limits: Concurrent requests, requests per second, timeouts and retries.
        time_zone: The zone of times that Tracktor gives without an offset, such as
            America/New_York: the shop's, as the Shopify admin shows it under Settings, General.
            Times with an offset do not need it.
        read_only: Change nothing: flows show which statuses, webhooks and events they would set,
            create or emit. It does not stop emails to customers.

    Raises:
        pydantic.ValidationError: A value is invalid; the message never repeats it.

    Example:
        Load stored credentials and read an order:
        ```python
        from prefect_tracktor import TracktorCredentials

        credentials = TracktorCredentials.load("BLOCK_NAME")
        with credentials.get_client() as client:
            order = client.get_order(5000000001001)
        ```
    """

    _block_type_name = "Tracktor Credentials"
    _block_type_slug = "tracktor-credentials"
    _logo_url = logo("truck-delivery")
    _description = "The uuid and API key of a Tracktor account, and its request limits."
    _documentation_url = handbook("how-to/configure.md#tracktor")

    uuid: Annotated[str, AfterValidator(checked_uuid)] = Field(
        title="Account uuid", examples=["0123abcd-0000-4000-8000-00000000000f"], repr=False
    )
    api_key: SecretStr = Field(title="API key")
    base_url: Annotated[str, AfterValidator(partial(checked_address, field="base_url"))] = Field(
        default=BASE_URL, title="Address of the API"
    )
    limits: TransportLimits = Field(default_factory=TransportLimits)
    time_zone: ZoneName = Field(
        default="UTC", examples=["America/New_York", "Europe/Berlin", "UTC"]
    )
    read_only: bool = False

    @model_validator(mode="before")
    @classmethod
    def _is_not_a_name(cls, value: object) -> object:
        if isinstance(value, str):
            raise InvalidInput(_NOT_A_BLOCK)
        return value

    @field_validator("api_key")
    @classmethod
    def _api_key_is_valid(cls, value: SecretStr) -> SecretStr:
        checked_api_key(value.get_secret_value())
        return value

    @property
    def account(self) -> str:
        """A name for the account that does not reveal its uuid."""
        return account_name(self.uuid)

    def get_client(self) -> TracktorClient:
        """Make a client for sync code; close it, or use it with `with`."""
        return TracktorClient(**self._options())

    def get_async_client(self) -> AsyncTracktorClient:
        """Make a client for async code; use it with `async with`, in one event loop."""
        return AsyncTracktorClient(**self._options())

    def _options(self) -> dict[str, Any]:
        names = ("uuid", "base_url", "limits", "time_zone", "read_only")
        options = {name: getattr(self, name) for name in names}
        return options | {"api_key": self.api_key.get_secret_value()}

    def verify(self) -> None:
        """List the shop's statuses, to check that the credentials work.

        Raises:
            AuthenticationError: Tracktor refuses the uuid or the key.
            NotFound: The base URL or the uuid is wrong.
            TracktorError: Tracktor cannot be reached, or its response is not as expected.
        """
        impatient = self.model_copy(update={"limits": self.limits.for_a_check})
        with impatient.get_client() as client:
            try:
                options = client.get_status_options()
            except NotFound as unknown:
                raise NotFound(
                    f"{unknown.call}: there is no such account at this address: check base_url and"
                    " uuid of the credentials",
                    call=unknown.call,
                    status_code=unknown.status_code,
                ) from None
        if not options:
            raise InvalidResponse(
                "GET status-options.json: the account has no statuses, and every shop's has: check"
                " base_url and uuid of the credentials"
            )


def checked_credentials(value: object) -> TracktorCredentials:
    """Refuse a value that is not a credentials block, such as a block's name."""
    if not isinstance(value, TracktorCredentials):
        if iscoroutine(value):
            value.close()  # a `load` in async code, which is never awaited
        raise InvalidInput(f"credentials {_NOT_A_BLOCK}")
    return value
