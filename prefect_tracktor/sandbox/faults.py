"""What can go wrong on purpose: which fault, how often, and drawn from which seed."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Fault(StrEnum):
    """The kinds of faults; each is a field of `Faults`, which holds its probability.

    Example:
        >>> Faults(dropped=0.1).probability(Fault.DROPPED)
        0.1
    """

    TOO_MANY_REQUESTS = "too_many_requests"
    SERVER_ERROR = "server_error"
    DROPPED = "dropped"
    TRUNCATED = "truncated"
    NOT_JSON = "not_json"
    STALLED = "stalled"


class Faults(BaseModel):
    """What goes wrong on purpose, drawn once for each request.

    The probabilities are those of single requests, and add up to 1 at most. Half of the 500, 502
    and 504 answers and of the dropped connections come *after* the sandbox acted on the request; a
    429 or 503 means that it did not.

    Attributes:
        seed: What the faults are drawn from: the same requests one after another meet the same.
        latency_seconds: How long each answer takes.
        latency_jitter_seconds: How much longer it may take.
        too_many_requests: Probability of a 429 with `Retry-After`.
        retry_after: Whether that header holds seconds or a date.
        retry_after_seconds: How long it asks to wait.
        server_error: Probability of 500, 502, 503 or 504, as JSON or as a web page.
        dropped: Probability of a connection that is reset without an answer.
        truncated: Probability of half a body: half of these end the connection early, and half
            pretend to be complete.
        not_json: Probability of a 200 with a web page or with plain words.
        stalled: Probability of half a body and then silence.
        stall_seconds: How long the silence lasts, if the client waits.

    Example:
        >>> Faults(server_error=0.7, dropped=0.4)
        Traceback (most recent call last):
        ...
        pydantic_core._pydantic_core.ValidationError: 1 validation error for Faults
          Value error, the probabilities add up to 1.1; they must not exceed 1 ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 1
    latency_seconds: float = Field(default=0.0, ge=0)
    latency_jitter_seconds: float = Field(default=0.0, ge=0)
    too_many_requests: float = Field(default=0.0, ge=0, le=1)
    retry_after: Literal["seconds", "date"] = "seconds"
    retry_after_seconds: int = Field(default=1, ge=0)
    server_error: float = Field(default=0.0, ge=0, le=1)
    dropped: float = Field(default=0.0, ge=0, le=1)
    truncated: float = Field(default=0.0, ge=0, le=1)
    not_json: float = Field(default=0.0, ge=0, le=1)
    stalled: float = Field(default=0.0, ge=0, le=1)
    stall_seconds: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        total = round(sum(map(self.probability, Fault)), 9)
        if total > 1:
            raise ValueError(f"the probabilities add up to {total:g}; they must not exceed 1")
        return self

    @classmethod
    def everything(cls, rate: float = 0.2, *, seed: int = 1, **further: Any) -> Self:
        """All kinds of faults, equally often; but nothing stalls, as that takes long.

        Args:
            rate: The probability that a request meets a fault.
            seed: What the faults are drawn from.
            **further: Other fields of `Faults`.

        Returns:
            The faults.

        Example:
            >>> Faults.everything(0.2, retry_after_seconds=0).truncated
            0.04
        """
        kinds = [kind for kind in Fault if kind is not Fault.STALLED]
        shares = {str(kind): rate / len(kinds) for kind in kinds}
        return cls.model_validate(shares | {"seed": seed} | further)

    def probability(self, kind: Fault) -> float:
        """How probable a kind of fault is.

        Args:
            kind: The kind.

        Returns:
            A number from 0 to 1.

        Example:
            >>> Faults().probability(Fault.STALLED)
            0.0
        """
        probability: float = getattr(self, kind)
        return probability


@dataclass(frozen=True, slots=True)
class Trouble:
    """What one request meets.

    Attributes:
        kind: The fault, or `None`.
        acts: Whether the sandbox does what the request asks for.
        variant: A number from 0 to 1 to choose among a fault's forms.
        latency_seconds: How long the answer takes.

    Example:
        >>> Trouble(kind=Fault.DROPPED, acts=True).variant
        0.0
    """

    kind: Fault | None
    acts: bool
    variant: float = 0.0
    latency_seconds: float = 0.0


class Dice:
    """Draws what each request meets.

    Args:
        faults: What can go wrong, and the seed.

    Example:
        >>> dice = Dice(Faults(too_many_requests=1))
        >>> dice.roll().acts
        False
    """

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._random = Random(faults.seed)
        self._probabilities = [(kind, faults.probability(kind)) for kind in Fault]

    def roll(self) -> Trouble:
        """Draw what the next request meets.

        Returns:
            The trouble; each draw takes as many random numbers.

        Example:
            >>> Dice(Faults(latency_seconds=0.1)).roll().latency_seconds
            0.1
        """
        faults = self.faults
        where, before, variant, jitter = (self._random.random() for _ in range(4))
        kind = self._kind(where)
        return Trouble(
            kind=kind,
            acts=_acts(kind, before < 0.5),
            variant=variant,
            latency_seconds=faults.latency_seconds + jitter * faults.latency_jitter_seconds,
        )

    def _kind(self, where: float) -> Fault | None:
        for kind, probability in self._probabilities:
            if where < probability:
                return kind
            where -= probability
        return None


def _acts(kind: Fault | None, drawn: bool) -> bool:  # noqa: FBT001  # a value, not an option
    match kind:
        case Fault.TOO_MANY_REQUESTS:
            return False
        case Fault.SERVER_ERROR | Fault.DROPPED:
            return drawn
        case _:
            return True
