"""Validation of reading options."""

from typing import Any

import pytest
from pydantic import ValidationError

from prefect_tracktor import ReadingOptions


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": 0},
        {"chunk_size": 10_001},
        {"chunks_at_once": 0},
        {"chunks_at_once": 65},
        {"read_again_after_minutes": -1},
        {"read_again_after_minutes": float("nan")},
        {"read_again_after_minutes": 24 * 60 + 1},
        {"chunksize": 5},
    ],
)
def test_the_error_names_an_invalid_reading_option(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        ReadingOptions(**options)


def test_reading_options_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ReadingOptions().chunk_size = 5
