"""Retries of a channel."""

import pytest

from prefect_tracktor.messages.delivery import Backoff, Delivery, DeliveryOutcome
from prefect_tracktor.messages.replies import Cause


@pytest.mark.parametrize("outcome", list(DeliveryOutcome))
def test_only_deferred_messages_are_retried(outcome: DeliveryOutcome) -> None:
    attempts: list[Delivery] = []

    def attempt() -> Delivery:
        attempts.append(Delivery(outcome, cause=Cause.RATE))
        return attempts[-1]

    backoff = Backoff("The server", seconds=0.01, messages_per_second=None)
    assert backoff.deliver(attempt).outcome is outcome
    assert len(attempts) == (2 if outcome is DeliveryOutcome.DEFERRED else 1)
