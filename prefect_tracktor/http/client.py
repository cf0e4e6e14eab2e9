"""HTTP client for single requests: one deadline, no redirects, short responses."""

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self

import anyio
import httpx

from prefect_tracktor.http import blocking
from prefect_tracktor.http.call import Response
from prefect_tracktor.http.proxies import proxy_errors

_SECONDS_TO_CONNECT = 10
_LONGEST_RESPONSE = 64 * 1024

# errors before any of the request was sent
NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.LocalProtocolError,
    httpx.UnsupportedProtocol,
)

_is_secret: ContextVar[bool] = ContextVar("whether the address may be a secret", default=False)
# httpx logs the whole address of each request
logging.getLogger("httpx").addFilter(lambda _record: not _is_secret.get())


class HttpClient:
    """HTTP client for sync code, which keeps its connection for many requests."""

    def __init__(self, *, seconds: float) -> None:
        # a cookie from a response about one customer must not be sent with the next request
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        timeout = httpx.Timeout(None, connect=_SECONDS_TO_CONNECT)
        with proxy_errors():
            self._client = httpx.AsyncClient(timeout=timeout, cookies=no_cookies)
        self._seconds = seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        blocking.run(self._client.aclose())

    def send(
        self, method: str, address: str, *, headers: Mapping[str, str], body: bytes = b""
    ) -> Response:
        """Send a request, and read the beginning of the response, before the deadline."""
        return blocking.run(self._send(method, address, headers, body))

    async def _send(
        self, method: str, address: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        _is_secret.set(True)  # in the task of this request alone
        try:
            with anyio.fail_after(self._seconds):
                async with self._client.stream(
                    method, address, headers=headers, content=body
                ) as response:
                    received = b""
                    async for part in response.aiter_raw():
                        received += part
                        if len(received) > _LONGEST_RESPONSE:
                            break
                    content = received[:_LONGEST_RESPONSE]
                    return Response(response.status_code, response.headers, content)
        except TimeoutError:
            raise httpx.ReadTimeout("no complete response in time") from None
