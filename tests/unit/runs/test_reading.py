"""Options about reading are refused where they are made, before any flow runs."""

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
def test_what_cannot_be_right_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        ReadingOptions(**options)


def test_they_do_not_change_once_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ReadingOptions().chunk_size = 5
