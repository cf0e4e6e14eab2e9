"""HTTP requests of channels and token endpoints: one deadline, no redirects, short answers."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import anyio
import httpx

from prefect_tracktor.http import blocking
from prefect_tracktor.http.call import Response

_SECONDS_TO_CONNECT = 10
_LONGEST_ANSWER = 64 * 1024

# before any of the request was sent
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


@dataclass(frozen=True, slots=True)
class Poster:
    """A connection that is kept for many requests."""

    _client: httpx.AsyncClient
    seconds: float

    def send(
        self, method: str, address: str, *, headers: Mapping[str, str], body: bytes = b""
    ) -> Response:
        """Send a request, and read the answer's beginning; whatever the server does, it ends."""
        return blocking.run(self._send(method, address, headers, body))

    async def _send(
        self, method: str, address: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        _is_secret.set(True)  # in the task of this request alone
        try:
            with anyio.fail_after(self.seconds):
                async with self._client.stream(
                    method, address, headers=headers, content=body
                ) as response:
                    said = b""
                    async for part in response.aiter_raw():
                        said += part
                        if len(said) > _LONGEST_ANSWER:
                            break
                    return Response(response.status_code, response.headers, said[:_LONGEST_ANSWER])
        except TimeoutError:
            raise httpx.ReadTimeout("no whole answer in time") from None


@contextmanager
def poster(*, seconds: float) -> Iterator[Poster]:
    """Connect when the first request is sent."""
    client = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=_SECONDS_TO_CONNECT))
    try:
        yield Poster(client, seconds)
    finally:
        blocking.run(client.aclose())
