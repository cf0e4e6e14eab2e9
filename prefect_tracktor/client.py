"""Clients for Tracktor's API: `AsyncTracktorClient`, and `TracktorClient` for sync code."""

import hashlib
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from prefect_tracktor import api
from prefect_tracktor.errors import ReadOnlyAccount
from prefect_tracktor.http import blocking
from prefect_tracktor.http.call import ApiCall
from prefect_tracktor.http.limits import TransportLimits
from prefect_tracktor.models import (
    Fulfillment,
    Order,
    StatusOption,
    Webhook,
    WebhookId,
    WebhookTopic,
)
from prefect_tracktor.sessions import open_session
from prefect_tracktor.times import naive_times_in, parse_zone
from prefect_tracktor.validation import checked_address, checked_secret, checked_uuid

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

BASE_URL = "https://www.theshoppad.com/apps/tracktor/api/admin"


def checked_api_key(value: str) -> str:
    """Validate an API key, which becomes a header."""
    return checked_secret(value, field="api_key", source="Tracktor's settings")


def account_name(uuid: str) -> str:
    """Return a name for an account that does not reveal its uuid."""
    return hashlib.sha256(uuid.lower().replace("-", "").encode()).hexdigest()[:20]


class _Client:
    """An account, and the HTTP session that sends its calls: the base of both clients."""

    def __init__(
        self,
        *,
        uuid: str,
        api_key: str,
        base_url: str = BASE_URL,
        limits: TransportLimits | None = None,
        time_zone: str = "UTC",
        read_only: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.limits = limits or TransportLimits()
        self._time_zone = parse_zone(time_zone)
        self._read_only = read_only
        secrets = (checked_api_key(api_key), checked_uuid(uuid))
        address = checked_address(base_url, field="base_url").rstrip("/")
        self._session = open_session(
            f"{address}/{uuid}/",
            account=account_name(uuid),
            limits=self.limits,
            headers={"x-api-key": api_key},
            secrets=secrets,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    def requests_sent(self) -> int:
        """The number of requests that the client has sent, including retries."""
        return self._session.requests_sent

    async def _send(self, api_call: ApiCall[T]) -> T:
        if self._read_only and api_call.method != "GET":
            raise ReadOnlyAccount(
                f"{api_call.request_line}: not sent, as the credentials are read-only. To change"
                " something in Tracktor, turn off Read only in the TracktorCredentials block.",
                call=api_call.request_line,
            )
        with naive_times_in(self._time_zone):
            return await self._session.send(api_call)


class AsyncTracktorClient(_Client):
    """`TracktorClient` for async code: the same arguments, calls and errors.

    Use it with `async with`. It belongs to the event loop that it was first used in.

    Example:
        >>> import anyio
        >>> from prefect_tracktor.sandbox import Sandbox
        >>> async def names(tracktor):
        ...     async with AsyncTracktorClient(
        ...         uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
        ...     ) as client:
        ...         return (await client.get_order(tracktor.shop.order_ids[0])).order_name
        >>> with Sandbox() as tracktor:
        ...     anyio.run(names, tracktor)
        '#1001'
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.aclose()

    async def send(self, api_call: ApiCall[T]) -> T:
        """Send a call, with retries, and read its response."""
        return await self._send(api_call)

    async def get_fulfillment(self, fulfillment_id: int) -> Fulfillment:
        """Retrieve the tracking status of a fulfillment."""
        return await self._send(api.get_fulfillment(fulfillment_id))

    async def get_status_options(self) -> list[StatusOption]:
        """List the shop's tracking statuses."""
        return await self._send(api.get_status_options())

    async def get_order(self, order_id: int) -> Order:
        """Retrieve an order with its parcels."""
        return await self._send(api.get_order(order_id))

    async def update_order(
        self,
        order_id: int,
        *,
        status: str | None = None,
        automatic_carrier_updates: bool | None = None,
        force: bool | None = None,
    ) -> Order:
        """Set an order's manual tracking status, or hand it back to the carrier."""
        flags = {"automatic_carrier_updates": automatic_carrier_updates, "force": force}
        return await self._send(api.update_order(order_id, status=status, **flags))

    async def list_webhooks(self) -> list[Webhook]:
        """List the account's webhooks."""
        return await self._send(api.list_webhooks())

    async def create_webhook(self, *, topic: WebhookTopic | str, address: str) -> Webhook:
        """Create a webhook."""
        return await self._send(api.create_webhook(topic=topic, address=address))

    async def delete_webhook(self, webhook_id: WebhookId) -> None:
        """Delete a webhook."""
        await self._send(api.delete_webhook(webhook_id))

    async def call(self, method: str, path: str, json: Mapping[str, Any] | None = None) -> Any:
        """Make a call that this package does not know yet."""
        return await self._send(api.any_call(method, path, json))


def _blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate["TracktorClient", P], R]:
    """Return the same method for sync code."""

    @wraps(method)
    def call(self: "TracktorClient", /, *arguments: P.args, **options: P.kwargs) -> R:
        return blocking.run(method(self, *arguments, **options))

    return call


class TracktorClient(_Client):
    """Tracktor's seven calls, and any other with `call`, for sync code.

    Use it with `with`, or call `close()` at the end. Threads may share it. Its methods take the
    arguments of the tasks of the same name, and raise the same errors.

    Args:
        uuid: The account's uuid.
        api_key: The account's API key.
        base_url: Where the API is; for rehearsals, the sandbox's address.
        limits: Concurrency, rate, timeouts, retries.
        time_zone: The IANA name of the zone of times without an offset.
        read_only: Whether to refuse every call that would change something.
        transport: An httpx transport for the requests, such as an `httpx.MockTransport` in a test;
            it is closed with the client.

    Raises:
        InvalidInput: The uuid, the key, the address or the time zone is invalid.

    Example:
        >>> from prefect_tracktor.sandbox import Sandbox
        >>> with Sandbox() as tracktor, TracktorClient(
        ...     uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
        ... ) as client:
        ...     client.get_order(tracktor.shop.order_ids[0]).order_name
        '#1001'
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        blocking.run(self._session.aclose())

    def send(self, api_call: ApiCall[T]) -> T:
        """Send a call, with retries, and read its response.

        Raises:
            TracktorError: The subclass that says what went wrong in the last attempt.
        """
        return blocking.run(self._send(api_call))

    get_fulfillment = _blocking(AsyncTracktorClient.get_fulfillment)
    get_status_options = _blocking(AsyncTracktorClient.get_status_options)
    get_order = _blocking(AsyncTracktorClient.get_order)
    update_order = _blocking(AsyncTracktorClient.update_order)
    list_webhooks = _blocking(AsyncTracktorClient.list_webhooks)
    create_webhook = _blocking(AsyncTracktorClient.create_webhook)
    delete_webhook = _blocking(AsyncTracktorClient.delete_webhook)
    call = _blocking(AsyncTracktorClient.call)
