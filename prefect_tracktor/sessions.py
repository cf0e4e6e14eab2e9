"""HTTP sessions in Prefect: logs in the run's log, rate limits shared through Prefect's API."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib.metadata import version
from weakref import WeakKeyDictionary

import anyio
import httpx
from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.exceptions import MissingContextError, ObjectNotFound

from prefect_tracktor.errors import APIConnectionError, InvalidInput
from prefect_tracktor.http.limits import TransportLimits, rate_limiter
from prefect_tracktor.http.session import Logger, Session


def open_session(
    address: str,
    *,
    account: str,
    limits: TransportLimits,
    headers: Mapping[str, str],
    secrets: tuple[str, ...] = (),
    transport: httpx.AsyncBaseTransport | None = None,
) -> Session:
    """Open a session with the rate limits that its `limits` name."""
    before_each: list[Callable[[], Awaitable[object]]] = []
    if rate := limits.requests_per_second:
        limiter = rate_limiter(account, rate)
        before_each.append(partial(limiter.try_acquire_async, "request"))
    if limits.shared_limit:
        before_each.append(partial(_wait_for_permit, limits.shared_limit))
    return Session(
        address,
        account=account,
        limits=limits,
        headers={
            "accept": "application/json",
            "accept-encoding": "gzip",
            "user-agent": f"prefect-tracktor/{version('prefect-tracktor')}",
            **headers,
        },
        secrets=secrets,
        before_each=before_each,
        logger=_logger,
        transport=transport,
    )


def _logger() -> Logger:
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)


class _SharedLimit:
    """Permits to send one request each, from a global concurrency limit in Prefect."""

    # Prefect's `rate_limit` takes one permit at a time: 15 a second at most, and two thirds of a
    # rate of ten. And when its caller is cancelled it goes on waiting in a thread, which keeps the
    # process from ending.

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = anyio.Lock()
        self._waiting = 0
        self._permits = 0

    async def wait(self) -> None:
        """Wait for a permit; one caller requests permits for all that wait."""
        self._waiting += 1
        try:
            async with self._lock:
                if not self._permits:
                    self._permits = await self._take()
                self._permits -= 1
        finally:
            self._waiting -= 1
            # unused permits are dropped: later they would add to those of other processes
            self._permits = min(self._permits, self._waiting)

    async def _take(self) -> int:
        try:
            async with get_client() as prefect:
                while True:
                    limit = await self._limit(prefect)
                    # in a larger part of the burst, permits would come seldom and all at once
                    permits = min(self._waiting, max(1, limit.limit // 2))
                    seconds = await self._request(prefect, permits)
                    if not seconds:
                        return permits
                    await anyio.sleep(seconds)
        except ObjectNotFound:
            raise InvalidInput(
                f"shared_limit: Prefect has no global concurrency limit {self._name!r}; make it:"
                f" prefect gcl create {self._name} --limit 10 --slot-decay-per-second 5 (after a"
                " rest 10 requests at once, then 5 a second)"
            ) from None
        except InvalidInput:
            raise
        except (httpx.HTTPError, RuntimeError, ValueError, KeyError) as error:
            raise APIConnectionError(
                f"the shared limit {self._name!r} could not be used, and nothing was sent:"
                f" Prefect's API did not respond as expected ({type(error).__name__}). Check"
                " PREFECT_API_URL; if it is right, try again later.",
                may_have_arrived=False,
            ) from None

    async def _limit(self, prefect: PrefectClient) -> GlobalConcurrencyLimitResponse:
        limit = await prefect.read_global_concurrency_limit_by_name(self._name)
        if limit.limit < 1 or limit.slot_decay_per_second <= 0:
            raise InvalidInput(
                f"shared_limit: {self._name!r} has a limit of {limit.limit} and a slot decay of"
                f" {limit.slot_decay_per_second:g}, and cannot hold a rate; give it both with"
                f" prefect gcl update {self._name} --limit 10 --slot-decay-per-second 5"
            )
        return limit

    async def _request(self, prefect: PrefectClient, permits: int) -> float:
        """Request permits; return the seconds until the next request, or 0 if they are granted."""
        try:
            await prefect.increment_concurrency_slots([self._name], permits, "rate_limit")
        except httpx.HTTPStatusError as refusal:
            if refusal.response.status_code != httpx.codes.LOCKED:
                raise
            return float(refusal.response.headers["Retry-After"])
        return 0


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _SharedLimit]] = WeakKeyDictionary()


async def _wait_for_permit(name: str) -> None:
    limits = _shared.setdefault(asyncio.get_running_loop(), {})
    await limits.setdefault(name, _SharedLimit(name)).wait()
