"""What became of a message, and how long a channel is waited for."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from prefect_tracktor.errors import ChannelError
from prefect_tracktor.http.limits import rate_limiter
from prefect_tracktor.messages.replies import Cause

_logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_PAUSES_IN_ALL_SECONDS = 1800.0


class DeliveryOutcome(StrEnum):
    """What the server or service did with a message."""

    SENT = "sent"
    REFUSED = "refused"
    DEFERRED = "deferred"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message's outcome."""

    outcome: DeliveryOutcome
    reason: str = ""
    cause: Cause = field(default=Cause.OTHER, compare=False, repr=False)
    kind: str = field(default="", compare=False, repr=False)
    advice: str = field(default="", compare=False, repr=False)
    wait_seconds: float = field(default=0, compare=False, repr=False)
    # whether it may have been taken all the same, by a service that recognizes a repetition
    may_repeat: bool = field(default=False, compare=False, repr=False)

    @property
    def remedy(self) -> str:
        """What a person can do."""
        return self.advice or self.cause.remedy


@dataclass(slots=True)
class Backoff:
    """Tries at the rate that is allowed, and again when fewer messages at a time are asked for.

    Pauses are each longer than the last, and bounded in total, for one message and for all.
    """

    server: str
    seconds: float
    messages_per_second: float | None
    _left_in_all: float = _PAUSES_IN_ALL_SECONDS
    _left: float = 0
    _next: float = 0
    _told: bool = False

    def __post_init__(self) -> None:
        self._renew()

    def deliver(self, attempt: Callable[[], Delivery]) -> Delivery:
        """Try to deliver a message."""
        while True:
            if rate := self.messages_per_second:
                rate_limiter(self.server, rate).try_acquire("message")
            try:
                delivery = attempt()
            except ChannelError as unusable:
                if not self.pause_for(unusable.cause):
                    raise
                continue
            if delivery.outcome is DeliveryOutcome.SENT:
                self._renew()
            # what may have been taken is never tried again
            is_open = delivery.outcome is DeliveryOutcome.DEFERRED
            if not (is_open and self.pause_for(delivery.cause, at_least=delivery.wait_seconds)):
                return delivery

    def pause_for(self, cause: str, *, at_least: float = 0) -> bool:
        """Wait before a further try, if it is worth one and has not been waited long enough."""
        if cause != Cause.RATE:
            return False
        if not self._told:
            self._told = True
            _logger.warning(
                "%s asks for fewer messages at a time: waiting, and going on. Set the rate per"
                " second in its block to what it allows.",
                self.server,
            )
        jitter = random.uniform(1, 1.5)  # noqa: S311  # not a secret
        seconds = min(max(self._next * jitter, at_least), self._left, self._left_in_all)
        if seconds <= 0 or seconds < at_least:
            return False
        time.sleep(seconds)
        self._left -= seconds
        self._left_in_all -= seconds
        self._next = min(2 * self._next, _LONGEST_PAUSE_SECONDS)
        return True

    def _renew(self) -> None:
        """Begin anew, as messages are taken again."""
        self._left, self._next = self.seconds, _FIRST_PAUSE_SECONDS
