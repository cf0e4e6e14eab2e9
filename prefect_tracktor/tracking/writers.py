"""Writers of the tracking tables: a counter for dry runs, and files."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.models import Order
from prefect_tracktor.table_files import TableFiles
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds
from prefect_tracktor.tracking.rows import TABLES, tracking_rows

FileFormat = Literal["csv", "jsonl"]


class TrackingWriter:
    """Counts rows without writing them, for dry runs; the base of the other writers."""

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

    def write_all(self, orders: Iterable[Order]) -> dict[str, int]:
        """Write the rows of all orders, and return their number by table."""
        with self:
            self.add(orders)
            self.finish()
        return self.counts

    def _write(self, table: str, row: Mapping[str, Any]) -> None:
        """Store a row until `finish`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was stored and not finished."""


class TrackingFiles(TrackingWriter):
    """Writes the tables into files of a folder."""

    def __init__(
        self,
        folder: str,
        *,
        file_format: FileFormat = "csv",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if file_format not in ("csv", "jsonl"):
            raise InvalidInput(f"file_format must be csv or jsonl, not {file_format!r}")
        self._addresses = {name: f"{folder.rstrip('/')}/{name}.{file_format}" for name in TABLES}
        columns = {
            self._addresses[name]: tuple(table.all_columns(include_personal_data=self._personal))
            for name, table in TABLES.items()
        }
        self._files = TableFiles(columns)

    def finish(self) -> None:
        self._files.finish()

    def _write(self, table: str, row: Mapping[str, Any]) -> None:
        self._files.write(self._addresses[table], row)

    def __exit__(self, *_: object) -> None:
        self._files.__exit__()


def write_tracking(
    orders: Iterable[Order],
    folder: str,
    *,
    file_format: FileFormat = "csv",
    include_personal_data: bool = False,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> dict[str, int]:
    """Write the tables into files of a folder: `orders.csv`, `parcels.csv`, `parcel_steps.csv`.

    Files of an earlier run are replaced when all three are complete; a killed run leaves them.

    Args:
        orders: The orders; a generator is read once, with one order in memory at a time.
        folder: A path, or any address that fsspec knows, such as `s3://bucket/tracking`, whose
            credentials fsspec finds in the environment.
        file_format: `csv`, which is safe to open in a spreadsheet, or `jsonl` (JSON Lines).
        include_personal_data: Also write names, email addresses, phone numbers and tracking
            numbers.
        thresholds: The days after which a parcel is delayed, for the column `condition`.

    Returns:
        The number of rows, by table.

    Raises:
        InvalidInput: The folder cannot be written to, or `file_format` is neither of the two.

    Example:
        >>> from prefect_tracktor import Order
        >>> write_tracking([Order(order_id=1)], "memory://tracking")
        {'orders': 1, 'parcels': 0, 'parcel_steps': 0}
    """
    files = TrackingFiles(
        folder,
        file_format=file_format,
        include_personal_data=include_personal_data,
        thresholds=thresholds,
    )
    return files.write_all(orders)
