"""Base class of the writers of the tables."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from prefect_tracktor.models import Order
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds
from prefect_tracktor.tracking.rows import TABLES, tracking_rows


class TrackingWriter:
    """Writer that counts rows and writes none, for dry runs; others make them visible at once."""

    def __init__(
        self, *, include_personal_data: bool = False, thresholds: Thresholds = DEFAULT_THRESHOLDS
    ) -> None:
        self.counts = dict.fromkeys(TABLES, 0)
        self._personal = include_personal_data
        self._thresholds = thresholds

    def add(self, orders: Iterable[Order]) -> None:
        rows = tracking_rows(
            orders, include_personal_data=self._personal, thresholds=self._thresholds
        )
        for table, row in rows:
            self._write(table, row)
            self.counts[table] += 1

    def finish(self) -> None:
        """Make all rows visible."""

    def _write(self, table: str, row: Mapping[str, Any]) -> None:
        """Store a row until `finish`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was stored and not finished."""
