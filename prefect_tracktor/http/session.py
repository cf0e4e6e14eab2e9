"""HTTP session of one account: concurrency, rate limits, retries."""

import logging
import math
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio
import httpcore
import httpx

from prefect_tracktor.errors import TEMPORARY, NotFound, TracktorError
from prefect_tracktor.http.call import ApiCall, parse_response
from prefect_tracktor.http.limits import TransportLimits
from prefect_tracktor.http.proxies import proxy_for
from prefect_tracktor.http.transport import Connections, HttpxTransport, Transport, exchange

T = TypeVar("T")
Logger = logging.Logger | logging.LoggerAdapter[Any]

_SECONDS_BETWEEN_LINES = 60


class Session:
    """Connections to one account, with its limits; bound to the event loop that first uses it."""

    def __init__(
        self,
        address: str,
        *,
        account: str,
        limits: TransportLimits,
        headers: Mapping[str, str],
        secrets: tuple[str, ...],
        before_each: Sequence[Callable[[], Awaitable[object]]],
        logger: Callable[[], Logger],
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        url = httpx.URL(address)
        self.limits = limits
        self.requests_sent = 0
        self._account = account
        self._secrets = secrets
        self._before_each = before_each
        self._logger = logger
        self._url = partial(httpcore.URL, scheme=url.raw_scheme, host=url.raw_host, port=url.port)
        self._path = url.raw_path
        self._headers = [(b"host", url.netloc), *_raw(headers)]
        read = limits.read_timeout_seconds
        timeouts = {"connect": limits.connect_timeout_seconds, "read": read, "write": read}
        self._extensions = {"timeout": timeouts}
        self._transport: Transport = (
            HttpxTransport(transport)
            if transport
            else Connections(self._url(target=b"").origin, proxy=proxy_for(url))
        )
        self._slots = anyio.Semaphore(limits.max_concurrency, fast_acquire=True)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def send(self, api_call: ApiCall[T], *, headers: Mapping[str, str] | None = None) -> T:
        """Send a call, with retries, and read its response."""
        request = self._request(api_call, headers or {})
        # entering the retry loop costs as much as parsing, and nearly all calls need one attempt
        try:
            return await self._attempt(api_call, request)
        except TracktorError as error:
            first = error
        async for attempt in self._attempts(api_call):
            with attempt:
                if attempt.num == 1:
                    raise first
                try:
                    return await self._attempt(api_call, request)
                except NotFound:
                    if api_call.missing_ok:
                        return api_call.read(None)
                    raise
        raise AssertionError("an attempt returns or raises")

    async def _attempt(self, api_call: ApiCall[T], request: httpcore.Request) -> T:
        # a slot is free again after each attempt: a call that waits for a retry blocks no other
        async with self._slots:
            for wait in self._before_each:
                await wait()
            self.requests_sent += 1
            response = await exchange(
                self._transport, request, api_call, seconds=self.limits.call_timeout_seconds
            )
        return parse_response(api_call, response, secrets=self._secrets)

    def _request(self, api_call: ApiCall[Any], headers: Mapping[str, str]) -> httpcore.Request:
        content = api_call.content
        content_headers = [(b"content-type", api_call.content_type.encode("ascii"))]
        if content or api_call.method != "GET":
            content_headers.append((b"content-length", b"%d" % len(content)))
        return httpcore.Request(
            api_call.method,
            self._url(target=self._path + api_call.path.encode("ascii")),
            headers=[*self._headers, *_raw(headers), *content_headers],
            content=content,
            extensions=self._extensions,
        )

    def _attempts(self, api_call: ApiCall[Any]) -> Any:
        import stamina  # most runs retry nothing, and it takes 20 ms

        limits = self.limits
        give_up_at = time.monotonic() + limits.retry_budget_seconds

        def pause(error: Exception) -> bool | float:
            if not isinstance(error, TEMPORARY) or limits.max_attempts == 1:
                return False
            if error.may_have_arrived and not api_call.idempotent:
                return False
            seconds = _requested_wait(error)
            if time.monotonic() + seconds >= give_up_at:
                return False
            self._log_waiting(error)
            return seconds or True

        return stamina.retry_context(
            on=pause,
            attempts=limits.max_attempts,
            timeout=None,  # `pause` ends it
            wait_initial=0.25,
            wait_max=20.0,
            wait_jitter=1.0,
        )

    def _log_waiting(self, error: Exception) -> None:
        """Log the reason for waiting, once a minute at most, however many calls wait."""
        now = time.monotonic()
        if now < _silent_until[self._account]:
            return
        _silent_until[self._account] = now + _SECONDS_BETWEEN_LINES
        problem, _, _ = str(error).partition(". ")
        self._logger().warning(
            "Waiting: %s. Each failed call is sent again, for up to %.0f seconds.",
            problem.removesuffix("."),
            self.limits.retry_budget_seconds,
        )


# by account: a run has many sessions, one after another and side by side
_silent_until: defaultdict[str, float] = defaultdict(lambda: -math.inf)


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


def _requested_wait(error: TracktorError) -> float:
    if error.retry_after is None:
        return 0
    # all clients got the same time: spread their return, never before it
    return error.retry_after.total_seconds() * random.uniform(1, 1.1) + random.uniform(0, 0.5)  # noqa: S311  # not a secret


def _is_of_other_code(record: logging.LogRecord) -> bool:
    kinds = tuple(f"{kind.__name__}(" for kind in TEMPORARY)
    return not str(getattr(record, "stamina.caused_by", "")).startswith(kinds)


# stamina logs a line for each attempt of each call, without the reason
logging.getLogger("stamina").addFilter(_is_of_other_code)
