"""Fixtures for tests of the receiver."""

from tests.support.webhooks import listening, no_prefect, queue, tracktor

__all__ = ["listening", "no_prefect", "queue", "tracktor"]
