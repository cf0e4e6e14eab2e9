"""Outcomes of messages, and rate limit and backoff of a channel."""

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
_LONGEST_WAIT_SECONDS = 1800.0


class DeliveryOutcome(StrEnum):
    """The outcome of a message at the server or service."""

    SENT = "sent"
    REFUSED = "refused"
    DEFERRED = "deferred"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The outcome of a message, with the reason."""

    outcome: DeliveryOutcome
    reason: str = ""
    cause: Cause = field(default=Cause.OTHER, compare=False, repr=False)
    kind: str = field(default="", compare=False, repr=False)
    advice: str = field(default="", compare=False, repr=False)
    wait_seconds: float = field(default=0, compare=False, repr=False)
    # whether a service that recognizes repetitions may have accepted it despite an error
    may_repeat: bool = field(default=False, compare=False, repr=False)

    @property
    def remedy(self) -> str:
        return self.advice or self.cause.remedy


@dataclass(slots=True)
class Backoff:
    """Rate limit of a channel, and retries when the server asks for fewer messages at a time.

    Each pause is longer than the one before; their sum is limited, for one message and for all.
    """

    server: str
    seconds: float
    messages_per_second: float | None
    _left_in_total: float = _LONGEST_WAIT_SECONDS
    _left: float = 0
    _next: float = 0
    _logged: bool = False

    def __post_init__(self) -> None:
        self._reset()

    def deliver(self, attempt: Callable[[], Delivery]) -> Delivery:
        """Try to deliver a message, again after a pause if the server asks for it."""
        unconfirmed: Delivery | None = None
        while True:
            if rate := self.messages_per_second:
                rate_limiter(self.server, rate).try_acquire("message")
            try:
                delivery = attempt()
            except ChannelError as unusable:
                if self.pause_for(unusable.cause):
                    continue
                if unconfirmed is None:
                    raise
                return unconfirmed
            unconfirmed = delivery if delivery.may_repeat else unconfirmed
            # an uncertain message may have been accepted, and is not tried again
            may_retry = delivery.outcome is DeliveryOutcome.DEFERRED
            if not (may_retry and self.pause_for(delivery.cause, at_least=delivery.wait_seconds)):
                break
        if delivery.outcome is DeliveryOutcome.SENT:
            self._reset()
        is_known = delivery.outcome in {DeliveryOutcome.SENT, DeliveryOutcome.UNCERTAIN}
        # a later error does not undo that an earlier try may have been accepted
        return delivery if is_known or unconfirmed is None else unconfirmed

    def pause_for(self, cause: str, *, at_least: float = 0) -> bool:
        """Wait if the cause is the rate and there is time left; return whether to try again."""
        if cause != Cause.RATE:
            return False
        if not self._logged:
            self._logged = True
            _logger.warning(
                "%s asks for fewer messages at a time: waiting, and going on. Set the rate per"
                " second in its block to what it allows.",
                self.server,
            )
        jitter = random.uniform(1, 1.5)  # noqa: S311  # not a secret
        seconds = min(max(self._next * jitter, at_least), self._left, self._left_in_total)
        if seconds <= 0 or seconds < at_least:
            return False
        time.sleep(seconds)
        self._left -= seconds
        self._left_in_total -= seconds
        self._next = min(2 * self._next, _LONGEST_PAUSE_SECONDS)
        return True

    def _reset(self) -> None:
        self._left, self._next = self.seconds, _FIRST_PAUSE_SECONDS
