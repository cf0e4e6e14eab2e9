"""What the files and the warehouse have in common: orders are added, then all appears at once."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Self

from prefect_tracktor.models import Order
from prefect_tracktor.thresholds import Thresholds
from prefect_tracktor.tracking.rows import TABLES, tracking_rows


class TrackingWriter(ABC):
    """Takes orders as they are read; nothing is seen of them before `finish`."""

    def __init__(self, *, include_personal_data: bool, thresholds: Thresholds) -> None:
        self._personal = include_personal_data
        self._thresholds = thresholds
        self._counts = Counter(dict.fromkeys(TABLES, 0))

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows so far, by table."""
        return dict(self._counts)

    def add(self, orders: Iterable[Order]) -> None:
        """Write the rows of some orders."""
        rows = tracking_rows(
            orders, include_personal_data=self._personal, thresholds=self._thresholds
        )
        for table, row in rows:
            self._write(table, row)
            self._counts[table] += 1

    @abstractmethod
    def finish(self) -> None:
        """Let all rows appear."""

    @abstractmethod
    def _write(self, table: str, row: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def _discard(self) -> None:
        """Remove what is only needed until the end, and what was not finished."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind that was not finished."""
        self._discard()


class TrackingCount(TrackingWriter):
    """Counts rows and writes none, for dry runs."""

    def finish(self) -> None:
        """Do nothing."""

    def _write(self, table: str, row: Mapping[str, Any]) -> None:
        """Do nothing."""

    def _discard(self) -> None:
        """Do nothing."""
