"""Limits for the use of an API: concurrency, rate, timeouts, retries."""

import math
import threading
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field

from prefect_tracktor.forms import FORM

if TYPE_CHECKING:
    from pyrate_limiter import Limiter

_limiters: dict[tuple[str, float], "Limiter"] = {}
_lock = threading.Lock()  # with a cache decorator, two threads could make two for one account


class TransportLimits(BaseModel):
    """Limits for requests to an API: concurrency, rate, timeouts and retries.

    Tracktor publishes no rate limit, so the defaults are modest.

    Attributes:
        max_concurrency: How many requests may run at once.
        requests_per_second: How many requests may start in any second; 0 for no limit.
        shared_limit: The name of a global concurrency limit in Prefect with a slot decay, for
            workers that share the account's rate; empty for none.
        connect_timeout_seconds: How long to wait for a connection.
        read_timeout_seconds: How long to wait for the next part of a response.
        call_timeout_seconds: How long one attempt may take as a whole.
        max_attempts: How often a call is sent at most if it fails with a temporary error.
        retry_budget_seconds: After this time a call is not retried any more.

    Raises:
        pydantic.ValidationError: A value is out of its range.

    Example:
        >>> TransportLimits(requests_per_second=5).max_concurrency
        16
    """

    model_config = FORM | ConfigDict(title="Limits")

    max_concurrency: int = Field(default=16, ge=1, le=256, title="Requests at once")
    requests_per_second: float = Field(default=0, ge=0, le=10_000)
    shared_limit: str = Field(default="", examples=["tracktor-berlin"])
    connect_timeout_seconds: float = Field(default=10, gt=0)
    read_timeout_seconds: float = Field(default=30, gt=0)
    call_timeout_seconds: float = Field(default=60, gt=0)
    max_attempts: int = Field(default=8, ge=1, le=50, title="Attempts")
    retry_budget_seconds: float = Field(default=120, ge=0)

    @property
    def for_a_check(self) -> Self:
        """The same with at most two attempts, for a check that a person waits for."""
        return self.model_copy(update={"max_attempts": min(self.max_attempts, 2)})


def rate_limiter(account: str, requests_per_second: float) -> "Limiter":
    """Return the rate limiter that all clients of an account in this process share."""
    from pyrate_limiter import Limiter, Rate  # most accounts have no rate, and it takes 20 ms

    key = (account, requests_per_second)
    with _lock:
        if key not in _limiters:
            at_once = max(1, int(requests_per_second))
            window_ms = math.ceil(at_once / requests_per_second * 1000)
            _limiters[key] = Limiter(Rate(at_once, window_ms))
        return _limiters[key]
