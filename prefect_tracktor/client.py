"""Tracktor's API for Python: `TracktorClient`, and `AsyncTracktorClient` with an `await`.

A client sends endpoints (`prefect_tracktor.api`) through a transport
(`prefect_tracktor.http.transport`), nothing more.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import httpx

from prefect_tracktor import api
from prefect_tracktor.errors import InvalidInput, NotFound, ReadOnlyAccount, TracktorError
from prefect_tracktor.http.call import ApiCall, Response, parse_response
from prefect_tracktor.http.rate_limit import rate_limiter_for
from prefect_tracktor.http.transport import (
    TransportLimits,
    aexchange,
    async_transport,
    attempts,
    exchange,
    is_retryable,
    sync_transport,
)
from prefect_tracktor.models import (
    Fulfillment,
    Order,
    StatusOption,
    Webhook,
    WebhookId,
    WebhookTopic,
)
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


class _Account:
    """What both clients share: the account, its address and its limits."""

    def __init__(
        self,
        *,
        uuid: str,
        api_key: str,
        base_url: str = BASE_URL,
        limits: TransportLimits | None = None,
        time_zone: str = "UTC",
        read_only: bool = False,
    ) -> None:
        self.limits = limits or TransportLimits()
        self._time_zone = parse_zone(checked_time_zone(time_zone))
        self._read_only = read_only
        self.requests_sent = 0
        self._secrets = (checked_api_key(api_key), checked_uuid(uuid))
        self._base_url = f"{checked_address(base_url, field='base_url').rstrip('/')}/{uuid}/"
        self._account = account_name(uuid)
        self._rate_limiter = rate_limiter_for(self._account, self.limits)
        self._headers = httpx.Headers(
            {
                "x-api-key": api_key,
                "accept": "application/json",
                "accept-encoding": "gzip",
                "content-type": "application/json",
                "user-agent": f"prefect-tracktor/{version('prefect-tracktor')}",
            }
        )
        self._extensions = {"timeout": self.limits.timeout.as_dict()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def _request(self, api_call: ApiCall[Any]) -> httpx.Request:
        if self._read_only and api_call.method != "GET":
            raise ReadOnlyAccount(
                f"{api_call.request_line}: not sent, as the credentials are read-only. To change"
                " something in Tracktor, turn off Read only in the TracktorCredentials block.",
                call=api_call.request_line,
            )
        self.requests_sent += 1
        # handed to the transport without an httpx client between: redirects, cookies and proxies of
        # its own are not wanted, and it takes a third of a call's time
        return httpx.Request(
            api_call.method,
            self._base_url + api_call.path,
            headers=self._headers,
            json=api_call.json,
            extensions=self._extensions,
        )

    def _result(self, api_call: ApiCall[T], answer: Response) -> T:
        with naive_times_in(self._time_zone):
            return parse_response(api_call, answer, secrets=self._secrets)


class TracktorClient(_Account):
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(
            uuid=uuid,
            api_key=api_key,
            base_url=base_url,
            limits=limits,
            time_zone=time_zone,
            read_only=read_only,
        )
        self._transport = transport or sync_transport(self._base_url, self.limits)

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
        self._transport.close()

    def send(self, api_call: ApiCall[T]) -> T:
        """Send a call, again if need be, and read its answer.

        Args:
            api_call: The call.

        Returns:
            The call's result.

        Raises:
            TracktorError: The subclass that says what went wrong in the last attempt.
        """
        try:
            return self._exchange(api_call)
        except TracktorError as error:
            trouble = error
        return self._send_again(api_call, trouble)

    def _send_again(self, api_call: ApiCall[T], trouble: TracktorError) -> T:
        repeat = partial(is_retryable, api_call)
        for attempt in attempts(self.limits, repeat=repeat, account=self._account):
            with attempt:
                if attempt.num == 1:
                    raise trouble
                try:
                    return self._exchange(api_call)
                except NotFound:
                    if api_call.missing_ok:
                        return api_call.read(None)
                    raise
        raise AssertionError("an attempt returns or raises")

    def _exchange(self, api_call: ApiCall[T]) -> T:
        if self._rate_limiter:
            self._rate_limiter.wait(api_call.path)
        request = self._request(api_call)
        return self._result(api_call, exchange(self._transport, request, api_call, self.limits))

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


class AsyncTracktorClient(_Account):
    """Tracktor's seven calls, and whatever it may gain, for async code.

    Use it with `async with`. It belongs to the event loop that it was first used in.

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
        super().__init__(
            uuid=uuid,
            api_key=api_key,
            base_url=base_url,
            limits=limits,
            time_zone=time_zone,
            read_only=read_only,
        )
        self._transport = transport or async_transport(self._base_url, self.limits)
        self._turns = anyio.Semaphore(self.limits.max_concurrency, fast_acquire=True)

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
        await self._transport.aclose()

    async def send(self, api_call: ApiCall[T]) -> T:
        """Send a call, again if need be, and read its answer.

        Args:
            api_call: The call.

        Returns:
            The call's result.

        Raises:
            TracktorError: The subclass that says what went wrong in the last attempt.
        """
        try:
            return await self._exchange(api_call)
        except TracktorError as error:
            trouble = error
        return await self._send_again(api_call, trouble)

    async def _send_again(self, api_call: ApiCall[T], trouble: TracktorError) -> T:
        repeat = partial(is_retryable, api_call)
        async for attempt in attempts(self.limits, repeat=repeat, account=self._account):
            with attempt:
                if attempt.num == 1:
                    raise trouble
                try:
                    return await self._exchange(api_call)
                except NotFound:
                    if api_call.missing_ok:
                        return api_call.read(None)
                    raise
        raise AssertionError("an attempt returns or raises")

    async def _exchange(self, api_call: ApiCall[T]) -> T:
        # a turn ends with the attempt, so that calls which wait to be repeated hold up nobody
        async with self._turns:
            if self._rate_limiter:
                await self._rate_limiter.wait_async(api_call.path)
            request = self._request(api_call)
            answer = await aexchange(self._transport, request, api_call, self.limits)
        return self._result(api_call, answer)

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
