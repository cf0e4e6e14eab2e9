"""Tracktor's API for Python: `TracktorClient`, and `AsyncTracktorClient` with an `await`.

The async client sends the calls of `prefect_tracktor.api` through a session
(`prefect_tracktor.http.session`); the sync client is a facade of it.
"""

import hashlib
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from prefect_tracktor import api
from prefect_tracktor.errors import InvalidInput, ReadOnlyAccount
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
from prefect_tracktor.text import refuse_masked
from prefect_tracktor.times import naive_times_in, parse_zone
from prefect_tracktor.validation import checked_address

T = TypeVar("T")

BASE_URL = "https://www.theshoppad.com/apps/tracktor/api/admin"

_UUID = re.compile(
    r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}"
)


def checked_uuid(value: str) -> str:
    """Refuse what is not an account's uuid, before it becomes part of an address."""
    if not _UUID.fullmatch(value):
        raise InvalidInput(
            "uuid must be 32 hexadecimal digits, with dashes or without, as Tracktor's settings"
            f" show it; this one has {len(value)} characters"
        )
    return value


def checked_api_key(value: str) -> str:
    """Refuse what cannot be an API key, before it becomes a header."""
    return checked_secret(value, field="api_key", source="Tracktor's settings")


def checked_secret(value: str, *, field: str, source: str) -> str:
    """Refuse what cannot be a key or a token, before it is sent."""
    if not value:
        raise InvalidInput(f"{field} is empty; copy it from {source}")
    refuse_masked(value, field=field)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise InvalidInput(f"{field} has characters that none has, such as blanks or line breaks")
    return value


def checked_time_zone(value: str) -> str:
    """Refuse what is not the name of a time zone."""
    try:
        parse_zone(value)
    except ValueError as unknown:
        raise InvalidInput(f"time_zone: {unknown}") from None
    return value


def account_name(uuid: str) -> str:
    """A name for an account that does not give its uuid away."""
    return hashlib.sha256(uuid.lower().replace("-", "").encode()).hexdigest()[:20]


class AsyncTracktorClient:
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
        self._time_zone = parse_zone(checked_time_zone(time_zone))
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
        """How many requests the client has sent, repetitions included."""
        return self._session.requests_sent

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.aclose()

    async def send(self, api_call: ApiCall[T]) -> T:
        """Send a call, again if need be, and read its answer."""
        if self._read_only and api_call.method != "GET":
            raise ReadOnlyAccount(
                f"{api_call.request_line}: not sent, as the credentials are read-only. To change"
                " something in Tracktor, turn off Read only in the TracktorCredentials block.",
                call=api_call.request_line,
            )
        with naive_times_in(self._time_zone):
            return await self._session.send(api_call)

    async def get_fulfillment(self, fulfillment_id: int) -> Fulfillment:
        """Retrieve the tracking status of a fulfillment; see `api.get_fulfillment`."""
        return await self.send(api.get_fulfillment(fulfillment_id))

    async def get_status_options(self) -> list[StatusOption]:
        """List the shop's tracking statuses; see `api.get_status_options`."""
        return await self.send(api.get_status_options())

    async def get_order(self, order_id: int) -> Order:
        """Retrieve an order with its parcels; see `api.get_order`."""
        return await self.send(api.get_order(order_id))

    async def update_order(
        self,
        order_id: int,
        *,
        status: str | None = None,
        automatic_carrier_updates: bool | None = None,
        force: bool | None = None,
    ) -> Order:
        """Set an order's manual tracking status; see `api.update_order`."""
        return await self.send(
            api.update_order(
                order_id,
                status=status,
                automatic_carrier_updates=automatic_carrier_updates,
                force=force,
            )
        )

    async def list_webhooks(self) -> list[Webhook]:
        """List the account's webhooks; see `api.list_webhooks`."""
        return await self.send(api.list_webhooks())

    async def create_webhook(self, *, topic: WebhookTopic | str, address: str) -> Webhook:
        """Create a webhook; see `api.create_webhook`."""
        return await self.send(api.create_webhook(topic=topic, address=address))

    async def delete_webhook(self, webhook_id: WebhookId) -> None:
        """Delete a webhook; see `api.delete_webhook`."""
        await self.send(api.delete_webhook(webhook_id))

    async def call(self, method: str, path: str, json: Mapping[str, Any] | None = None) -> Any:
        """Make a call that this pack does not know yet; see `api.any_call`."""
        return await self.send(api.any_call(method, path, json))


class TracktorClient:
    """Tracktor's seven calls, and whatever it may gain, for sync code.

    Use it with `with`, or without and call `close()`. It may be shared by threads.

    Args:
        uuid: The account's uuid.
        api_key: The account's API key.
        base_url: Where the API is; for rehearsals, the sandbox's address.
        limits: Concurrency, rate, time-outs, retries.
        time_zone: The IANA name of the zone of times without an offset.
        read_only: Whether to refuse every call that would change something.
        transport: What sends the requests, such as an `httpx.MockTransport` in a test; it is closed
            with the client.

    Raises:
        InvalidInput: The uuid, the key, the address or the time zone cannot be one.

    Example:
        >>> from prefect_tracktor.sandbox import Sandbox
        >>> with Sandbox() as tracktor, TracktorClient(
        ...     uuid=tracktor.uuid, api_key=tracktor.api_key, base_url=tracktor.base_url
        ... ) as client:
        ...     client.get_order(tracktor.shop.order_ids[0]).order_name
        '#1001'
    """

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
        self._client = AsyncTracktorClient(
            uuid=uuid,
            api_key=api_key,
            base_url=base_url,
            limits=limits,
            time_zone=time_zone,
            read_only=read_only,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    def limits(self) -> TransportLimits:
        """What the client keeps to."""
        return self._client.limits

    @property
    def requests_sent(self) -> int:
        """How many requests the client has sent, repetitions included."""
        return self._client.requests_sent

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        blocking.run(self._client.aclose())

    def send(self, api_call: ApiCall[T]) -> T:
        """Send a call, again if need be, and read its answer.

        Args:
            api_call: The call.

        Returns:
            The call's result.

        Raises:
            TracktorError: The subclass that says what went wrong in the last attempt.
        """
        return blocking.run(self._client.send(api_call))

    def get_fulfillment(self, fulfillment_id: int) -> Fulfillment:
        """Retrieve the tracking status of a fulfillment; see `api.get_fulfillment`."""
        return self.send(api.get_fulfillment(fulfillment_id))

    def get_status_options(self) -> list[StatusOption]:
        """List the shop's tracking statuses; see `api.get_status_options`."""
        return self.send(api.get_status_options())

    def get_order(self, order_id: int) -> Order:
        """Retrieve an order with its parcels; see `api.get_order`."""
        return self.send(api.get_order(order_id))

    def update_order(
        self,
        order_id: int,
        *,
        status: str | None = None,
        automatic_carrier_updates: bool | None = None,
        force: bool | None = None,
    ) -> Order:
        """Set an order's manual tracking status; see `api.update_order`."""
        return self.send(
            api.update_order(
                order_id,
                status=status,
                automatic_carrier_updates=automatic_carrier_updates,
                force=force,
            )
        )

    def list_webhooks(self) -> list[Webhook]:
        """List the account's webhooks; see `api.list_webhooks`."""
        return self.send(api.list_webhooks())

    def create_webhook(self, *, topic: WebhookTopic | str, address: str) -> Webhook:
        """Create a webhook; see `api.create_webhook`."""
        return self.send(api.create_webhook(topic=topic, address=address))

    def delete_webhook(self, webhook_id: WebhookId) -> None:
        """Delete a webhook; see `api.delete_webhook`."""
        self.send(api.delete_webhook(webhook_id))

    def call(self, method: str, path: str, json: Mapping[str, Any] | None = None) -> Any:
        """Make a call that this pack does not know yet; see `api.any_call`."""
        return self.send(api.any_call(method, path, json))
