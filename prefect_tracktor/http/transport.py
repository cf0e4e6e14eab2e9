"""HTTP transport: connections, time-outs, retries. Composed from libraries."""

import logging
import math
import random
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Self, cast
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx
import stamina
from prefect import get_run_logger
from prefect.exceptions import MissingContextError
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict, Field

from prefect_tracktor.block import in_order
from prefect_tracktor.errors import (
    APIConnectionError,
    InvalidResponse,
    RateLimited,
    ServerError,
    TracktorError,
)
from prefect_tracktor.http.call import ApiCall, Response, truncated
from prefect_tracktor.http.deadline import DeadlineTransport, ends_within

# a page of 250 orders from Shopify has some hundred kB, an order of Tracktor's some ten
_LARGEST_BODY_BYTES = 4 * 1024 * 1024
_ERROR_BODY_BYTES = 64 * 1024
_SECONDS_BETWEEN_LINES = 60
_OUR_TROUBLE = tuple(f"{kind.__name__}(" for kind in (RateLimited, ServerError, APIConnectionError))
_CODINGS = {"gzip", "x-gzip", "deflate"}
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32  # told apart by the body's first bytes


def _in_a_form(schema: dict[str, Any]) -> None:
    in_order(schema)
    # in place of the class's own words
    schema["description"] = "How many requests at once and per second, time-outs, and retries."


class TransportLimits(BaseModel):
    """How hard, how long and how often to ask Tracktor.

    Tracktor publishes no rate limit, so the defaults are modest.

    Attributes:
        max_concurrency: How many requests may be under way at once in one client.
        requests_per_second: How many requests may start in any second, over all clients of the
            account in this process; 0 for no limit.
        shared_limit: The name of a global concurrency limit in Prefect with a slot decay, which all
            processes that name it keep to together; empty for none.
        connect_timeout_seconds: How long to wait for a connection.
        read_timeout_seconds: How long to wait for the next part of an answer.
        call_timeout_seconds: How long one attempt may take as a whole.
        max_attempts: How often a call is sent at most.
        retry_budget_seconds: After this time no further attempt of a call begins.

    Raises:
        pydantic.ValidationError: A value is out of its range.

    Example:
        >>> TransportLimits(requests_per_second=5).max_concurrency
        16
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        title="Limits",
        json_schema_extra=_in_a_form,
    )

    max_concurrency: int = Field(
        default=16,
        ge=1,
        le=256,
        title="Requests at once",
        description="How many requests may run at once.",
    )
    requests_per_second: float = Field(
        default=0,
        ge=0,
        le=10_000,
        title="Requests per second",
        description="How many requests may start in any second; 0 for no limit.",
    )
    shared_limit: str = Field(
        default="",
        title="Shared limit",
        description="The name of a global concurrency limit in Prefect with a slot decay, for"
        " workers that share the account's rate; empty for none.",
        examples=["tracktor-berlin"],
    )
    connect_timeout_seconds: float = Field(
        default=10,
        gt=0,
        title="Connect timeout (seconds)",
        description="How long to wait for a connection.",
    )
    read_timeout_seconds: float = Field(
        default=30,
        gt=0,
        title="Read timeout (seconds)",
        description="How long to wait for the next part of a response.",
    )
    call_timeout_seconds: float = Field(
        default=60,
        gt=0,
        title="Call timeout (seconds)",
        description="How long one attempt may take as a whole.",
    )
    max_attempts: int = Field(
        default=8,
        ge=1,
        le=50,
        title="Attempts",
        description="How often a call is sent at most if it fails with a temporary error.",
    )
    retry_budget_seconds: float = Field(
        default=120,
        ge=0,
        title="Retry budget (seconds)",
        description="After this time a call is not retried any more.",
    )

    @property
    def for_a_check(self) -> Self:
        """The same, but for a person who waits: what does not answer is asked twice at most."""
        return self.model_copy(update={"max_attempts": min(self.max_attempts, 2)})

    @property
    def timeout(self) -> httpx.Timeout:
        """The time-outs in httpx's form."""
        return httpx.Timeout(
            self.read_timeout_seconds,
            connect=self.connect_timeout_seconds,
            pool=None,  # waiting for one's turn is not the server's slowness
        )


def attempts(
    limits: TransportLimits, *, repeat: Callable[[Exception], bool], account: str = ""
) -> Any:
    """The attempts that a call may have: iterate over them, enter each with `with`."""
    give_up_at = time.monotonic() + limits.retry_budget_seconds

    def pause(error: Exception) -> bool | float:
        if not repeat(error):
            return False
        if limits.max_attempts > 1:
            _waits(account, str(flow_run.get_id())).tell(error, limits)
        wait = error.retry_after if isinstance(error, TracktorError) else None
        if wait is None:
            return True
        # everybody was told the same time: spread the return, never before it
        seconds = wait.total_seconds() * random.uniform(1, 1.1) + random.uniform(0, 0.5)  # noqa: S311  # not a secret
        return seconds if time.monotonic() + seconds <= give_up_at else False

    return stamina.retry_context(
        on=pause,
        attempts=limits.max_attempts,
        timeout=limits.retry_budget_seconds or None,
        wait_initial=0.25,
        wait_max=20.0,
        wait_jitter=1.0,
    )


class _Waits:
    """Says what is waited for, in a line a minute at most, however many calls wait."""

    def __init__(self) -> None:
        self._silent_until = -math.inf

    def tell(self, error: Exception, limits: TransportLimits) -> None:
        now = time.monotonic()
        if now < self._silent_until:
            return
        self._silent_until = now + _SECONDS_BETWEEN_LINES
        problem, _, _ = str(error).partition(". ")
        _run_logger().warning(
            "Waiting: %s. Each call that fails so is sent again, for up to %.0f seconds.",
            problem.removesuffix("."),
            limits.retry_budget_seconds,
        )


# by account and run
_waits = lru_cache(maxsize=256)(lambda _account, _run: _Waits())


def _run_logger() -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)


def _is_told_by_us(record: logging.LogRecord) -> bool:
    return not str(getattr(record, "stamina.caused_by", "")).startswith(_OUR_TROUBLE)


# a line for each attempt of each call, without a word of what is waited for
logging.getLogger("stamina").addFilter(_is_told_by_us)


def is_retryable(api_call: ApiCall[Any], error: Exception) -> bool:
    """Whether a call may be sent again after this error."""
    if not isinstance(error, RateLimited | ServerError | APIConnectionError):
        return False
    return api_call.idempotent or not error.may_have_arrived


def connection_error(api_call: ApiCall[Any], error: httpx.HTTPError) -> APIConnectionError:
    """Translate httpx's errors; its words name hosts only, but its objects hold the API key."""
    service = api_call.service
    not_sent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
    slow = isinstance(error, httpx.TimeoutException)
    what = "did not answer in time" if slow else "could not be reached"
    return APIConnectionError(
        f"{api_call.request_line}: {service.name} {what} ({type(error).__name__}). Check the"
        f" network, proxy settings and {service.address}; if these are right, try again later.",
        call=api_call.request_line,
        may_have_arrived=not isinstance(error, not_sent),
    )


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """The shared TLS settings; building them takes as long as a request."""
    return httpx.create_ssl_context()


def proxy_for(address: str) -> str | None:
    """The proxy that the environment names for an address."""
    url = httpx.URL(address)
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return None if proxy is None or proxy_bypass(url.host) else proxy


def sync_transport(base_url: str, limits: TransportLimits) -> DeadlineTransport:
    """One pool, as large as the concurrency allowed."""
    return DeadlineTransport(
        ssl_context=tls_context(),
        proxy=proxy_for(base_url),
        connections=limits.max_concurrency,
    )


class SmallPools(httpx.AsyncBaseTransport):
    """Many connection pools of one connection each, instead of a large one."""

    def __init__(
        self, make_pool: Callable[[], httpx.AsyncBaseTransport], *, connections: int
    ) -> None:
        self._pools = [_Pool(make_pool()) for _ in range(connections)]

    def __len__(self) -> int:
        return len(self._pools)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Hand the request to the least busy pool."""
        pool = min(self._pools, key=attrgetter("requests"))
        pool.requests += 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            pool.requests -= 1
            raise
        response.stream = _CountedStream(response.stream, pool)
        return response

    async def aclose(self) -> None:
        """Close all pools."""
        for pool in self._pools:
            await pool.transport.aclose()


@dataclass(slots=True)
class _Pool:
    transport: httpx.AsyncBaseTransport
    requests: int = 0


class _CountedStream(httpx.AsyncByteStream):
    """An answer's body; a pool is free again when the body is closed, not when it begins."""

    def __init__(self, stream: Any, pool: _Pool) -> None:
        self._stream = stream
        self._pool: _Pool | None = pool

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        pool, self._pool = self._pool, None
        try:
            await self._stream.aclose()
        finally:
            if pool is not None:
                pool.requests -= 1


def async_transport(base_url: str, limits: TransportLimits) -> SmallPools:
    """Small pools, together as large as the concurrency allowed."""
    proxy = proxy_for(base_url)

    def pool() -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(
            verify=tls_context(),
            proxy=proxy,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        )

    return SmallPools(pool, connections=limits.max_concurrency)


class Body:
    """An answer's body while it is received: never more of it is held than an answer may have."""

    def __init__(self, api_call: ApiCall[Any], response: httpx.Response) -> None:
        self._api_call = api_call
        self._is_error = not response.is_success
        self._most = _ERROR_BODY_BYTES if self._is_error else _LARGEST_BODY_BYTES
        self._parts: list[bytes] = []
        self._received = self._held = 0
        self._decoder = self._decoder_for(response.headers.get("content-encoding", ""))

    def _decoder_for(self, header: str) -> Any:
        codings = [word for word in header.replace(",", " ").lower().split() if word != "identity"]
        if not codings:
            return None
        if len(codings) > 1 or codings[0] not in _CODINGS:
            if not self._is_error:
                raise self._unreadable("is compressed otherwise than once with gzip or deflate")
            self._most = 0
        return zlib.decompressobj(_GZIP_OR_ZLIB)

    def add(self, part: bytes) -> bool:
        """Take the next part; false when nothing more is wanted."""
        self._received += len(part)
        room = self._most - self._held
        try:
            decoded = self._decoder.decompress(part, room + 1) if self._decoder else part
        except zlib.error as error:
            if self._is_error:
                return False
            raise httpx.DecodingError(str(error)) from error
        self._parts.append(decoded[:room])
        self._held += min(len(decoded), room)
        if len(decoded) <= room and self._received <= self._most:
            return True
        if self._is_error:
            return False
        raise self._unreadable(f"is larger than {_LARGEST_BODY_BYTES} bytes")

    def whole(self) -> bytes:
        """The body, once all parts were taken."""
        if self._decoder and self._received and not (self._decoder.eof or self._is_error):
            raise httpx.DecodingError("the compressed body ends too early")
        return b"".join(self._parts)

    def _unreadable(self, problem: str) -> InvalidResponse:
        return InvalidResponse(
            f"{self._api_call.request_line}: the answer {problem}. Check"
            f" {self._api_call.service.address}.",
            call=self._api_call.request_line,
        )


@contextmanager
def translated(api_call: ApiCall[Any], response: httpx.Response | None) -> Iterator[None]:
    """Give httpx's errors as ours: before an answer began, and while its body was read."""
    try:
        yield
    except httpx.HTTPError as error:
        trouble = (
            connection_error(api_call, error)
            if response is None
            else truncated(api_call, response.status_code, "its answer was cut off")
        )
    else:
        return
    # raised outside of the handler: httpx's error holds the request, and with it the key
    raise trouble


def exchange(
    transport: httpx.BaseTransport,
    request: httpx.Request,
    api_call: ApiCall[Any],
    limits: TransportLimits,
) -> Response:
    """Send a request once, and read the whole answer."""
    with ends_within(limits.call_timeout_seconds):
        with translated(api_call, None):
            response = transport.handle_request(request)
        try:
            with translated(api_call, response):
                body = Body(api_call, response)
                # not `iter_raw`: a transport of a test's gives answers that were read already
                for part in cast("httpx.SyncByteStream", response.stream):
                    if not body.add(part):
                        break
                whole = body.whole()
        finally:
            response.close()
    return Response(response.status_code, response.headers, whole)


async def aexchange(
    transport: httpx.AsyncBaseTransport,
    request: httpx.Request,
    api_call: ApiCall[Any],
    limits: TransportLimits,
) -> Response:
    """`exchange` for async code: the same arguments, result and errors."""
    response: httpx.Response | None = None
    try:
        with anyio.fail_after(limits.call_timeout_seconds):
            with translated(api_call, None):
                response = await transport.handle_async_request(request)
            try:
                with translated(api_call, response):
                    body = Body(api_call, response)
                    async for part in cast("httpx.AsyncByteStream", response.stream):
                        if not body.add(part):
                            break
                    whole = body.whole()
            finally:
                await response.aclose()
    except TimeoutError:
        with translated(api_call, response):
            raise httpx.ReadTimeout("the whole call took too long") from None
    return Response(response.status_code, response.headers, whole)
