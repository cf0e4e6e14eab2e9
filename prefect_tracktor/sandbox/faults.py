"""What can go wrong on purpose: which fault, how often, and drawn from which seed."""

from abc import abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

K = TypeVar("K", bound=StrEnum)


@dataclass(frozen=True)
class InjectedFault(Generic[K]):
    """What one request or message meets."""

    kind: K | None
    acts: bool = True
    variant: float = 0.0
    delay_seconds: float = 0.0


class _Faults(BaseModel, Generic[K]):
    """Kinds of faults, each a field that holds its probability, and the seed of the draw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: ClassVar[type[StrEnum]]

    seed: int = 1

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        total = round(sum(getattr(self, kind) for kind in self.kinds), 9)
        if total > 1:
            raise ValueError(f"the probabilities add up to {total:g}; they must not exceed 1")
        return self

    def probability(self, kind: K) -> float:
        """How probable a kind of fault is, from 0 to 1."""
        probability: float = getattr(self, kind)
        return probability

    @abstractmethod
    def draw(self, random: Random) -> InjectedFault[K]:
        """Draw what happens next; each draw takes as many random numbers."""

    def _kind(self, where: float) -> Any:
        for kind in self.kinds:
            if where < getattr(self, kind):
                return kind
            where -= getattr(self, kind)
        return None


class FaultInjector(Generic[K]):
    """Draws what each request or message meets, one after another, from the faults' seed."""

    def __init__(self, faults: "_Faults[K]") -> None:
        self._faults = faults
        self._random = Random(faults.seed)

    def next(self) -> InjectedFault[K]:
        """Draw what comes next."""
        return self._faults.draw(self._random)


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


class Faults(_Faults[Fault]):
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

    kinds: ClassVar[type[StrEnum]] = Fault

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

    def draw(self, random: Random) -> InjectedFault[Fault]:
        """Draw what the next request meets."""
        where, before, variant, jitter = (random.random() for _ in range(4))
        kind: Fault | None = self._kind(where)
        match kind:
            case Fault.TOO_MANY_REQUESTS:
                acts = False
            case Fault.SERVER_ERROR | Fault.DROPPED:
                acts = before < 0.5
            case _:
                acts = True
        latency = self.latency_seconds + jitter * self.latency_jitter_seconds
        return InjectedFault(kind, acts=acts, variant=variant, delay_seconds=latency)


class DeliveryFault(StrEnum):
    """What can happen to a webhook's message; each is a field of `DeliveryFaults`.

    Example:
        >>> DeliveryFaults(lost=0.1).probability(DeliveryFault.LOST)
        0.1
    """

    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    LOST = "lost"


class DeliveryFaults(_Faults[DeliveryFault]):
    """What goes wrong on purpose with the webhooks' messages, drawn once for each message.

    Without faults the messages about one order arrive one after another. A message that is not
    taken is sent again, after pauses that grow from 0.1 to 2 seconds.

    Attributes:
        seed: What the faults are drawn from: the same messages one after another meet the same.
        duplicated: Probability that a message is sent twice: half of the copies at once, and half
            later.
        reordered: Probability that a message is held back, so that later ones overtake it.
        lost: Probability that a message is not sent at all.
        held_back_seconds: For how long at most; at least half of it if reordered.
        patience_seconds: For how long a message that is not taken is sent again.

    Example:
        >>> DeliveryFaults(duplicated=0.7, lost=0.4)
        Traceback (most recent call last):
        ...
        pydantic_core._pydantic_core.ValidationError: 1 validation error for DeliveryFaults
          Value error, the probabilities add up to 1.1; they must not exceed 1 ...
    """

    kinds: ClassVar[type[StrEnum]] = DeliveryFault

    duplicated: float = Field(default=0.0, ge=0, le=1)
    reordered: float = Field(default=0.0, ge=0, le=1)
    lost: float = Field(default=0.0, ge=0, le=1)
    held_back_seconds: float = Field(default=0.5, ge=0)
    patience_seconds: float = Field(default=10.0, ge=0)

    def draw(self, random: Random) -> InjectedFault[DeliveryFault]:
        """Draw what the next message meets."""
        where, late = random.random(), random.random()
        kind: DeliveryFault | None = self._kind(where)
        match kind:
            case DeliveryFault.REORDERED:
                delay = self.held_back_seconds * (1 + late) / 2
            case DeliveryFault.DUPLICATED if late < 0.5:
                delay = self.held_back_seconds * late * 2
            case _:
                delay = 0.0
        return InjectedFault(kind, delay_seconds=delay)
