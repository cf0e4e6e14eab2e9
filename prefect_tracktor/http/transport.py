"""HTTP transport: connections, deadlines, and bodies of bounded size."""

import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, cast

import anyio
import httpcore
import httpx

from prefect_tracktor.errors import (
    APIConnectionError,
    InvalidResponse,
    ServerError,
    replaced_errors,
)
from prefect_tracktor.http.call import ApiCall, Response, truncated

# 250 orders from Shopify take some 100 kB, an order from Tracktor some 10
_LARGEST_BODY_BYTES = 4 * 1024 * 1024
_ERROR_BODY_BYTES = 64 * 1024
_KEPT_ALIVE_SECONDS = 5
_CODINGS = {"gzip", "x-gzip", "deflate"}
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32  # detected by the first bytes of the body
_NOT_SENT = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.ProxyError)
_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    TimeoutError,
    zlib.error,
)


class Connections:
    """Kept-alive connections to one host, each for one request at a time."""

    # httpcore's pool only makes the connections. If it kept them, it would compare each with all
    # others at every request: with 32 of them, six times the work of the request itself.

    def __init__(self, origin: httpcore.Origin, *, proxy: httpx.Proxy | None) -> None:
        self._origin = origin
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls_context(),
            proxy=_httpcore_proxy(proxy) if proxy else None,
            keepalive_expiry=_KEPT_ALIVE_SECONDS,
        )
        self._idle: list[httpcore.AsyncConnectionInterface] = []

    @asynccontextmanager
    async def stream(self, request: httpcore.Request) -> AsyncIterator[httpcore.Response]:
        """Send a request; the response's body can be read within the block."""
        connection = await self._connection()
        try:
            response = await connection.handle_async_request(request)
            yield response
            await response.aclose()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await connection.aclose()
            raise
        if connection.is_available():
            self._idle.append(connection)
        else:  # it is closed, or the body was not read to its end
            await connection.aclose()

    async def _connection(self) -> httpcore.AsyncConnectionInterface:
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return self._pool.create_connection(self._origin)

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()


class HttpxTransport:
    """An httpx transport in place of connections, such as a `MockTransport` in a test."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    @asynccontextmanager
    async def stream(self, request: httpcore.Request) -> AsyncIterator[httpcore.Response]:
        url = request.url
        sent = httpx.Request(
            request.method.decode(),
            httpx.URL(
                scheme=url.scheme.decode(),
                host=url.host.decode(),
                port=url.port,
                raw_path=url.target,
            ),
            headers=request.headers,
            stream=cast("httpx.AsyncByteStream", request.stream),
            extensions=dict(request.extensions),
        )
        try:
            response = await self._transport.handle_async_request(sent)
        except httpx.TransportError as error:
            kind = getattr(httpcore, type(error).__name__, httpcore.NetworkError)
            raise kind(str(error)) from None
        try:
            yield httpcore.Response(
                response.status_code,
                headers=response.headers.raw,
                # not `aiter_raw`: a mock's response has been read already
                content=cast("AsyncIterator[bytes]", response.stream),
            )
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()


Transport = Connections | HttpxTransport


async def exchange(
    transport: Transport, request: httpcore.Request, api_call: ApiCall[Any], *, seconds: float
) -> Response:
    """Send a request once and read the whole response, within a number of seconds."""
    status: int | None = None
    # httpcore's timeouts are for one read each, and a server may send a byte now and then
    with (
        replaced_errors(_ERRORS, lambda error: _error(api_call, status, error)),
        anyio.fail_after(seconds),
    ):
        async with transport.stream(request) as response:
            status = response.status
            headers = {
                name.lower().decode("latin-1"): value.decode("latin-1")
                for name, value in response.headers
            }
            body = Body(api_call, status, headers)
            async for part in cast("AsyncIterator[bytes]", response.stream):
                if not body.add(part):
                    break
            return Response(status, headers, body.content())


def _error(
    api_call: ApiCall[Any], status: int | None, error: Exception
) -> APIConnectionError | ServerError:
    if status is not None:
        return truncated(api_call, status, "its response was cut off")
    service = api_call.service
    slow = isinstance(error, TimeoutError | httpcore.TimeoutException)
    problem = "did not respond in time" if slow else "could not be reached"
    return APIConnectionError(
        f"{api_call.request_line}: {service.name} {problem} ({type(error).__name__}). Check the"
        f" network, proxy settings and {service.address}; if these are right, try again later.",
        call=api_call.request_line,
        may_have_arrived=not isinstance(error, _NOT_SENT),
    )


class Body:
    """A response's body while it is received, limited in size before and after decompression."""

    def __init__(self, api_call: ApiCall[Any], status: int, headers: Mapping[str, str]) -> None:
        self._api_call = api_call
        self._is_error = not httpx.codes.is_success(status)
        self._limit = _ERROR_BODY_BYTES if self._is_error else _LARGEST_BODY_BYTES
        self._parts: list[bytes] = []
        self._received = self._held = 0
        self._decoder = self._decoder_for(headers.get("content-encoding", ""))

    def _decoder_for(self, header: str) -> Any:
        codings = [word for word in header.replace(",", " ").lower().split() if word != "identity"]
        if not codings:
            return None
        if len(codings) == 1 and codings[0] in _CODINGS:
            return zlib.decompressobj(_GZIP_OR_ZLIB)
        if not self._is_error:
            raise self._unreadable("is compressed otherwise than once with gzip or deflate")
        self._limit = 0  # the status is enough
        return None

    def add(self, part: bytes) -> bool:
        """Take the next part; return whether to read on."""
        self._received += len(part)
        room = self._limit - self._held
        try:
            # a body of 380 bytes, compressed three times, took 5.8 GB before this bound
            decoded = self._decoder.decompress(part, room + 1) if self._decoder else part
        except zlib.error:
            if self._is_error:
                return False
            raise
        self._parts.append(decoded[:room])
        self._held += min(len(decoded), room)
        if len(decoded) <= room and self._received <= self._limit:
            return True
        if self._is_error:
            return False
        raise self._unreadable(f"is larger than {_LARGEST_BODY_BYTES} bytes")

    def content(self) -> bytes:
        if self._decoder and self._received and not (self._decoder.eof or self._is_error):
            raise zlib.error("the compressed body ends too early")
        return b"".join(self._parts)

    def _unreadable(self, problem: str) -> InvalidResponse:
        return InvalidResponse(
            f"{self._api_call.request_line}: the response {problem}. Check"
            f" {self._api_call.service.address}.",
            call=self._api_call.request_line,
        )


@lru_cache(maxsize=1)
def _tls_context() -> ssl.SSLContext:
    """Return the shared TLS settings; building them takes as long as a request."""
    return httpx.create_ssl_context()


def _httpcore_proxy(proxy: httpx.Proxy) -> httpcore.Proxy:
    return httpcore.Proxy(
        url=httpcore.URL(
            scheme=proxy.url.raw_scheme,
            host=proxy.url.raw_host,
            port=proxy.url.port,
            target=proxy.url.raw_path,
        ),
        auth=proxy.raw_auth,
        headers=proxy.headers.raw,
        ssl_context=proxy.ssl_context,
    )
