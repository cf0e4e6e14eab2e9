"""What can go wrong on purpose: which fault, how often, and drawn from which seed."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Kind = TypeVar("_Kind", bound=StrEnum)


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
        _check_total(map(self.probability, Fault))
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
        kind = _drawn(where, self._probabilities)
        return Trouble(
            kind=kind,
            acts=_acts(kind, before < 0.5),
            variant=variant,
            latency_seconds=faults.latency_seconds + jitter * faults.latency_jitter_seconds,
        )


class DeliveryFault(StrEnum):
    """What can happen to a webhook's message; each is a field of `DeliveryFaults`.

    Example:
        >>> DeliveryFaults(lost=0.1).probability(DeliveryFault.LOST)
        0.1
    """

    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    LOST = "lost"


class DeliveryFaults(BaseModel):
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

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 1
    duplicated: float = Field(default=0.0, ge=0, le=1)
    reordered: float = Field(default=0.0, ge=0, le=1)
    lost: float = Field(default=0.0, ge=0, le=1)
    held_back_seconds: float = Field(default=0.5, ge=0)
    patience_seconds: float = Field(default=10.0, ge=0)

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        _check_total(map(self.probability, DeliveryFault))
        return self

    def probability(self, kind: DeliveryFault) -> float:
        """How probable a kind of fault is.

        Args:
            kind: The kind.

        Returns:
            A number from 0 to 1.

        Example:
            >>> DeliveryFaults().probability(DeliveryFault.LOST)
            0.0
        """
        probability: float = getattr(self, kind)
        return probability


class DeliveryTrouble(NamedTuple):
    """What one message meets.

    `held_back_seconds` is for how long it waits, or its second copy.

    Example:
        >>> DeliveryTrouble(DeliveryFault.LOST).held_back_seconds
        0.0
    """

    kind: DeliveryFault | None
    held_back_seconds: float = 0.0


class DeliveryDice:
    """Draws what each message meets.

    Args:
        faults: What can go wrong, and the seed.

    Example:
        >>> DeliveryDice(DeliveryFaults(lost=1)).roll().kind
        <DeliveryFault.LOST: 'lost'>
    """

    def __init__(self, faults: DeliveryFaults) -> None:
        self.faults = faults
        self._random = Random(faults.seed)
        self._probabilities = [(kind, faults.probability(kind)) for kind in DeliveryFault]

    def roll(self) -> DeliveryTrouble:
        """Draw what the next message meets.

        Returns:
            The trouble; each draw takes as many random numbers.

        Example:
            >>> DeliveryDice(DeliveryFaults()).roll().kind is None
            True
        """
        where, late = self._random.random(), self._random.random()
        longest = self.faults.held_back_seconds
        match kind := _drawn(where, self._probabilities):
            case DeliveryFault.REORDERED:
                return DeliveryTrouble(kind, longest * (1 + late) / 2)
            case DeliveryFault.DUPLICATED if late < 0.5:
                return DeliveryTrouble(kind, longest * late * 2)
            case _:
                return DeliveryTrouble(kind)


def _check_total(probabilities: Iterable[float]) -> None:
    total = round(sum(probabilities), 9)
    if total > 1:
        raise ValueError(f"the probabilities add up to {total:g}; they must not exceed 1")


def _drawn(where: float, probabilities: list[tuple[_Kind, float]]) -> _Kind | None:
    for kind, probability in probabilities:
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
