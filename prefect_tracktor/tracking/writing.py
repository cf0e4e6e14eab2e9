"""What the files and the warehouse have in common: orders are added, then all appears at once."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from prefect_tracktor.models import Order
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds
from prefect_tracktor.tracking.rows import TABLES, tracking_rows


class TrackingWriter:
    """Takes orders as they are read; nothing is seen of them before `finish`.

    This one counts their rows and writes none, for dry runs.
    """

    def __init__(
        self, *, include_personal_data: bool = False, thresholds: Thresholds = DEFAULT_THRESHOLDS
    ) -> None:
        self.counts = dict.fromkeys(TABLES, 0)
        self._personal = include_personal_data
        self._thresholds = thresholds

    def add(self, orders: Iterable[Order]) -> None:
        """Write the rows of some orders."""
        rows = tracking_rows(
            orders, include_personal_data=self._personal, thresholds=self._thresholds
        )
        for table, row in rows:
            self._write(table, row)
            self.counts[table] += 1

    def finish(self) -> None:
        """Let all rows appear."""

    def _write(self, table: str, row: Mapping[str, Any]) -> None:
        """Keep a row until the end."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what is only needed until the end, and what was not finished."""
