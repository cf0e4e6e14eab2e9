"""Fault injection from a seed: for requests to Tracktor and Shopify, and for webhooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Annotated, Any, Self

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Fault(StrEnum):
    """The kinds of faults. The field of `Faults` with the same name holds the probability.

    Example:
        >>> Fault.DROPPED in Faults.model_fields
        True
    """

    TOO_MANY_REQUESTS = "too_many_requests"
    SERVER_ERROR = "server_error"
    DROPPED = "dropped"
    TRUNCATED = "truncated"
    NOT_JSON = "not_json"
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    LOST = "lost"


REQUEST_FAULTS, DELIVERY_FAULTS = tuple(Fault)[:5], tuple(Fault)[5:]


class Faults(BaseModel):
    """Probabilities of faults, which are drawn for each request and each webhook delivery.

    The probabilities for requests add up to 1 at most, and so do those for deliveries. Half of the
    500, 502 and 504 responses and of the dropped connections happen *after* the sandbox has
    processed the request; with 429 and 503 it is not processed. Without faults, the deliveries for
    one order arrive one after another.

    Attributes:
        seed: Random seed; the same sequence of requests gets the same faults.
        latency_seconds: How long each response takes.
        too_many_requests: Probability of a 429 with `Retry-After`.
        retry_after_seconds: The value of `Retry-After`.
        server_error: Probability of 500, 502, 503 or 504, as JSON or as a web page.
        dropped: Probability of a connection that is reset without a response.
        truncated: Probability of half a body. Half of these end the connection early; the others
            look complete.
        not_json: Probability of a 200 with a web page or with plain text.
        duplicated: Probability that a delivery is sent twice: half of the copies at once, and half
            later.
        reordered: Probability that a delivery is delayed, so that later ones arrive before it.
        lost: Probability that a delivery is not sent at all.
        max_delay_seconds: The longest delay of a duplicated or reordered delivery; the shortest of
            a reordered one is half of it.
        patience_seconds: How long an unaccepted delivery is retried, after pauses that grow from
            0.1 to 2 seconds.

    Example:
        >>> Faults(server_error=0.7, dropped=0.4)
        Traceback (most recent call last):
        ...
        pydantic_core._pydantic_core.ValidationError: 1 validation error for Faults
          Value error, the probabilities add up to 1.1; they must not exceed 1 ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: Annotated[int, Parameter(parse=False)] = 1  # the command has one seed for all
    latency_seconds: float = Field(default=0.0, ge=0)
    too_many_requests: float = Field(default=0.0, ge=0, le=1)
    retry_after_seconds: int = Field(default=1, ge=0)
    server_error: float = Field(default=0.0, ge=0, le=1)
    dropped: float = Field(default=0.0, ge=0, le=1)
    truncated: float = Field(default=0.0, ge=0, le=1)
    not_json: float = Field(default=0.0, ge=0, le=1)
    duplicated: float = Field(default=0.0, ge=0, le=1)
    reordered: float = Field(default=0.0, ge=0, le=1)
    lost: float = Field(default=0.0, ge=0, le=1)
    max_delay_seconds: float = Field(default=0.5, ge=0)
    patience_seconds: float = Field(default=10.0, ge=0)

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        for kinds in (REQUEST_FAULTS, DELIVERY_FAULTS):
            total = round(sum(getattr(self, kind) for kind in kinds), 9)
            if total > 1:
                raise ValueError(f"the probabilities add up to {total:g}; they must not exceed 1")
        return self

    @classmethod
    def everything(cls, rate: float = 0.2, *, seed: int = 1, **further: Any) -> Self:
        """Return all kinds of faults of requests, equally often.

        Args:
            rate: The probability that a request has a fault.
            seed: Random seed.
            **further: Other fields of `Faults`.
        """
        shares = {str(kind): rate / len(REQUEST_FAULTS) for kind in REQUEST_FAULTS}
        return cls.model_validate(shares | {"seed": seed} | further)


@dataclass(frozen=True)
class InjectedFault:
    """The fault of a request or delivery, if any, and its form."""

    kind: Fault | None
    is_processed: bool = True
    variant: float = 0.0
    delay_seconds: float = 0.0


class FaultInjector:
    """Draws the fault of each request and each delivery, in order."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._requests, self._deliveries = Random(faults.seed), Random(faults.seed)

    def next_request(self) -> InjectedFault:
        drawn, before, variant = (self._requests.random() for _ in range(3))
        kind = self._kind(REQUEST_FAULTS, drawn)
        is_processed = kind is not Fault.TOO_MANY_REQUESTS
        if kind in {Fault.SERVER_ERROR, Fault.DROPPED}:
            is_processed = before < 0.5
        latency = self.faults.latency_seconds
        return InjectedFault(kind, is_processed, variant, delay_seconds=latency)

    def next_delivery(self) -> InjectedFault:
        drawn, late = self._deliveries.random(), self._deliveries.random()
        kind, delay = self._kind(DELIVERY_FAULTS, drawn), 0.0
        if kind is Fault.REORDERED:
            delay = self.faults.max_delay_seconds * (1 + late) / 2
        elif kind is Fault.DUPLICATED and late < 0.5:
            delay = self.faults.max_delay_seconds * late * 2
        return InjectedFault(kind, delay_seconds=delay)

    def _kind(self, kinds: Sequence[Fault], drawn: float) -> Fault | None:
        for kind in kinds:
            if drawn < getattr(self.faults, kind):
                return kind
            drawn -= getattr(self.faults, kind)
        return None
