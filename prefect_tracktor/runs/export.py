"""The job of exporting a shop's tracking data as tables, in files or in a warehouse."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prefect import get_run_logger
from pydantic import BaseModel, ConfigDict, Field, field_validator

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.forms import FORM
from prefect_tracktor.models import Order
from prefect_tracktor.runs.cases import Case
from prefect_tracktor.runs.engine import Job
from prefect_tracktor.runs.reading import ReadingOptions
from prefect_tracktor.runs.report import RunReport
from prefect_tracktor.thresholds import Thresholds
from prefect_tracktor.tracking.export import materialize_tables, place_of_folder, place_of_warehouse
from prefect_tracktor.tracking.warehouse import TrackingWarehouse
from prefect_tracktor.tracking.writers import FileFormat, TrackingFiles, TrackingWriter
from prefect_tracktor.validation import whole_path


class ExportFiles(BaseModel):
    """Three files in a folder, replaced by each run.

    Attributes:
        folder: A path on the machine that runs the flow, or an address such as
            `s3://bucket/tracking`. Credentials belong into the environment, not into the address.
            A relative path becomes a whole one at once: `prefect-tracktor deploy` counts from its
            own directory.
        file_format: csv, which is safe to open in a spreadsheet, or jsonl for JSON Lines.

    Example:
        >>> ExportFiles(folder="s3://bucket/tracking").file_format
        'csv'
    """

    model_config = FORM | ConfigDict(title="Files")

    folder: str = Field(min_length=1)
    file_format: FileFormat = "csv"

    @field_validator("folder")
    @classmethod
    def _whole(cls, folder: str) -> str:
        return whole_path(folder)

    @property
    def place(self) -> str:
        """The folder's address without secrets."""
        return place_of_folder(self.folder)

    def writer(self, **options: Any) -> TrackingWriter:
        """Make the writer of the tables."""
        return TrackingFiles(self.folder, file_format=self.file_format, **options)


class ExportWarehouse(BaseModel):
    """Three tables in a warehouse, merged by key through dlt.

    Attributes:
        destination: The name of a dlt destination, such as `postgres`, `bigquery` or `snowflake`.
            dlt finds its credentials in the environment, as `DESTINATION__POSTGRES__CREDENTIALS`.
        dataset: The schema or dataset that the tables are in.

    Example:
        >>> ExportWarehouse(destination="duckdb").dataset
        'tracktor'
    """

    model_config = FORM | ConfigDict(title="Warehouse")

    destination: str = Field(min_length=1)
    dataset: str = Field(default="tracktor", min_length=1)

    @property
    def place(self) -> str:
        """The dataset's address."""
        return place_of_warehouse(self.destination, self.dataset)

    def writer(self, **options: Any) -> TrackingWriter:
        """Make the writer of the tables."""
        return TrackingWarehouse(self.destination, dataset=self.dataset, **options)


def reading_for(
    to: ExportFiles | ExportWarehouse | None, reading: ReadingOptions
) -> ReadingOptions:
    """Return the reading options for tables: files hold what a run reads, so it skips no order."""
    if not isinstance(to, ExportFiles) or reading.completed_orders is None:
        return reading
    get_run_logger().info("Completed orders are read, too: files hold what a run has read.")
    return reading.model_copy(update={"completed_orders": None})


class ExportReport(RunReport):
    """The result of a run of `export_tracking`.

    Attributes:
        rows: The number of rows, by table.

    Example:
        >>> ExportReport(rows={"orders": 2}).counts["rows of orders"]
        2
    """

    rows: dict[str, int] = Field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """The number of calls, and of the rows of each table."""
        return super().counts | {f"rows of {name}": count for name, count in self.rows.items()}


class ExportJob(Job[Order, Case, ExportReport]):
    """Writes tables while orders are read, and publishes them together at the end."""

    acting = "Tables written"
    table = ""
    report_type = ExportReport

    def __init__(
        self,
        credentials: TracktorCredentials,
        to: ExportFiles | ExportWarehouse,
        *,
        dry_run: bool,
        thresholds: Thresholds,
        include_personal_data: bool = False,
    ) -> None:
        super().__init__(
            title="Export tracking", key="export-tracking", limit=None, dry_run=dry_run
        )
        self._account = credentials.account
        self._to = to
        self._options: dict[str, Any] = {
            "thresholds": thresholds,
            "include_personal_data": include_personal_data,
        }
        self._writer = TrackingWriter(**self._options)

    @property
    def mode(self) -> str:
        """`live` or `dry_run`: there is no rehearsal."""
        return "dry_run" if self.dry_run else "live"

    @property
    def takes_effect(self) -> bool:
        """Whether the tables are published: incomplete files never replace earlier ones."""
        return not (self.reading.failed and isinstance(self._to, ExportFiles))

    @property
    def has_work(self) -> bool:
        """Whether the tables are published, even if they are empty."""
        return self.takes_effect

    @contextmanager
    def active(self) -> Iterator[None]:
        """Open the files, or check that dlt is installed, and clean up at the end."""
        if self.dry_run:
            yield
            return
        with self._to.writer(**self._options) as self._writer:
            yield

    def choose(self, orders: Sequence[Order]) -> None:
        self._writer.add(orders)

    def check_plan(self) -> None:
        """Log if the files of an earlier run stay."""
        if not self.takes_effect:
            get_run_logger().warning("The files of the run before stay, as orders are missing.")

    def act(self) -> Iterator[Case]:
        """Publish the tables, each as an asset derived from the account's."""
        materialize_tables(self._writer, account=self._account, place=self._to.place)
        yield from ()

    def report_fields(self) -> dict[str, Any]:
        return {"rows": self._writer.counts}
