"""Background steps of the receiver: pauses and errors."""

from collections.abc import Iterator

import anyio
import httpx
import pytest

from prefect_tracktor.errors import DatabaseError
from prefect_tracktor.webhooks.worker import RetryLater, repeat


@pytest.mark.anyio
async def test_a_failing_step_is_repeated_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    outcomes: Iterator[bool | Exception] = iter(
        [
            RetryLater("3 events wait"),
            DatabaseError("the database is away", may_have_arrived=False),
            httpx.ReadTimeout("ada@example.com"),
            True,
            False,
            *[RetryLater("again")] * 8,
        ]
    )

    async def step() -> bool:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(anyio, "sleep", sleep)
    with pytest.raises(RuntimeError):  # no result is left
        await repeat(step)
    assert pauses == [1, 2, 4, 0, 0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert "3 events wait; trying again in 1 s" in caplog.text
    assert "Prefect: ReadTimeout; trying again in 4 s" in caplog.text
    assert "ada@" not in caplog.text
