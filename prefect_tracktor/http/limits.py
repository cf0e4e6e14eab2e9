"""How hard, how long and how often an API is asked."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from prefect_tracktor.forms import FORM


class TransportLimits(BaseModel):
    """How many requests at once and per second, time-outs, and retries.

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
        """The same, but for a person who waits: what does not answer is asked twice at most."""
        return self.model_copy(update={"max_attempts": min(self.max_attempts, 2)})

    @property
    def timeouts(self) -> dict[str, float]:
        """The timeouts of single network operations, as httpcore names them."""
        read = self.read_timeout_seconds
        return {"connect": self.connect_timeout_seconds, "read": read, "write": read}
