"""How often requests may start: within this process, and among all that share a limit.

Within a process a library's limiter holds the rate. Many processes share one through a global
concurrency limit of Prefect's: each takes permits from it in batches, as a call to Prefect's API
takes longer than many a call to Tracktor.
"""

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable

import anyio
import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import rate_limit
from prefect.exceptions import ObjectNotFound
from pyrate_limiter import Limiter, Rate

from prefect_tracktor.errors import APIConnectionError, InvalidInput
from prefect_tracktor.http.transport import TransportLimits

# a batch is what may be sent in this time, and is not kept for longer
_BATCH_SECONDS = 1.0
_LONGEST_NAP_SECONDS = 1.0


class RateLimiter:
    """Waits until the next request of a client may start."""

    def __init__(self, limiter: Limiter | None, permits: "SharedRateLimit | None") -> None:
        self._limiter = limiter
        self._permits = permits
        self._in_turn = anyio.CapacityLimiter(1)

    def wait(self, path: str) -> None:
        """Wait for one's turn."""
        if self._limiter:
            self._limiter.try_acquire(path)
        if self._permits:
            self._permits.take()

    async def wait_async(self, path: str) -> None:
        """`wait` for async code: the same argument and errors."""
        if self._limiter:
            await self._limiter.try_acquire_async(path)
        if self._permits and not self._permits.take_if_any():
            await anyio.to_thread.run_sync(
                self._permits.take,
                anyio.from_thread.check_cancelled,
                abandon_on_cancel=True,
                limiter=self._in_turn,
            )


def rate_limiter_for(account: str, limits: TransportLimits) -> RateLimiter | None:
    """Make the rate limiter of a client."""
    rate, name = limits.requests_per_second, limits.shared_limit
    if not rate and not name:
        return None
    return RateLimiter(
        rate_limiter(account, rate) if rate else None, shared_rate_limit(name) if name else None
    )


_limiters: dict[tuple[str, float], Limiter] = {}
_permits: dict[str, "SharedRateLimit"] = {}
_lock = threading.Lock()  # a cache decorator would let two threads make two of a kind


def rate_limiter(account: str, requests_per_second: float) -> Limiter:
    """The one limiter of an account in this process, whatever the number of its clients."""
    key = (account, requests_per_second)
    with _lock:
        if key not in _limiters:
            at_once = max(1, int(requests_per_second))
            window_ms = math.ceil(at_once / requests_per_second * 1000)
            _limiters[key] = Limiter(Rate(at_once, window_ms))
        return _limiters[key]


def shared_rate_limit(name: str) -> "SharedRateLimit":
    """This process's part of a shared limit, whatever the number of its clients."""
    with _lock:
        return _permits.setdefault(name, SharedRateLimit(name))


class SharedRateLimit:
    """Permits to send one request each, taken from a global concurrency limit of Prefect's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asking = threading.Lock()
        self._good_until: deque[float] = deque()

    def take(self, still_wanted: Callable[[], None] = lambda: None) -> None:
        """Wait for a permit."""
        while not self.take_if_any():
            with self._asking:  # one asks Prefect, for all that wait
                if not self._good_until:
                    self._good_until.extend(self._batch(still_wanted))

    def take_if_any(self) -> bool:
        """Take a permit from the last batch."""
        now = time.monotonic()
        try:
            # one that is too old would add to what others send now
            while self._good_until.popleft() < now:
                continue
        except IndexError:
            return False
        return True

    def _batch(self, still_wanted: Callable[[], None]) -> list[float]:
        limit = self._limit()
        rate = limit.slot_decay_per_second
        size = max(1, min(limit.limit, int(rate * _BATCH_SECONDS)))
        # to ask for more than there is makes Prefect's server forget what has decayed so far
        while limit.active and limit.active_slots + size > limit.limit:
            short = limit.active_slots + size - limit.limit
            pause = short / rate * random.uniform(1, 1.1)  # noqa: S311  # not a secret
            time.sleep(min(pause, _LONGEST_NAP_SECONDS))
            still_wanted()
            limit = self._limit()
        try:
            rate_limit(self._name, occupy=size, strict=True)
        except ConcurrencySlotAcquisitionError as error:
            raise self._unanswered(error) from None
        return [time.monotonic() + _BATCH_SECONDS] * size

    def _limit(self) -> GlobalConcurrencyLimitResponse:
        try:
            with get_client(sync_client=True) as prefect:
                limit = prefect.read_global_concurrency_limit_by_name(self._name)
        except ObjectNotFound:
            raise InvalidInput(
                f"shared_limit: Prefect has no global concurrency limit {self._name!r}; make it:"
                f" prefect gcl create {self._name} --limit 10 --slot-decay-per-second 5 (after a"
                " rest 10 requests at once, then 5 a second)"
            ) from None
        except (httpx.HTTPError, RuntimeError, ValueError) as error:
            raise self._unanswered(error) from None
        if limit.limit < 1 or limit.slot_decay_per_second <= 0:
            raise InvalidInput(
                f"shared_limit: {self._name!r} has a limit of {limit.limit} and a slot decay of"
                f" {limit.slot_decay_per_second:g}, and cannot hold a rate; give it both with"
                f" prefect gcl update {self._name} --limit 10 --slot-decay-per-second 5"
            )
        return limit

    def _unanswered(self, error: Exception) -> APIConnectionError:
        return APIConnectionError(
            f"the shared limit {self._name!r} could not be asked, and nothing was sent: Prefect's"
            f" API did not answer as expected ({type(error).__name__}). Check PREFECT_API_URL; if"
            " it is right, try again later.",
            may_have_arrived=False,
        )
