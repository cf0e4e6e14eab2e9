"""What is tried again, and what never is."""

import pytest

from prefect_tracktor.messages.delivery import Backoff, Delivery, DeliveryOutcome
from prefect_tracktor.messages.replies import Cause


@pytest.mark.parametrize("outcome", list(DeliveryOutcome))
def test_only_deferred_messages_are_retried(outcome: DeliveryOutcome) -> None:
    tries: list[Delivery] = []

    def attempt() -> Delivery:
        tries.append(Delivery(outcome, cause=Cause.RATE))
        return tries[-1]

    patience = Backoff("The server", seconds=0.01, messages_per_second=None)
    assert patience.deliver(attempt).outcome is outcome
    assert len(tries) == (2 if outcome is DeliveryOutcome.DEFERRED else 1)
