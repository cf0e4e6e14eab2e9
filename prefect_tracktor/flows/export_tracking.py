"""`export_tracking`: a shop's tracking data as tables, in files or in a warehouse."""

from prefect import get_run_logger
from pydantic import BaseModel, ConfigDict, Field

from prefect_tracktor.block import in_order
from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.errors import IncompleteRun
from prefect_tracktor.flows.parameters import flow
from prefect_tracktor.reporting import publish_summary
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.report import RunReport
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.runs.showing import show_mode
from prefect_tracktor.sources import Orders
from prefect_tracktor.thresholds import Thresholds
from prefect_tracktor.tracking.export import TrackingExport, place_of_folder, place_of_warehouse
from prefect_tracktor.tracking.files import FileFormat, TrackingFiles
from prefect_tracktor.tracking.rows import DEFAULT_THRESHOLDS
from prefect_tracktor.tracking.warehouse import TrackingWarehouse
from prefect_tracktor.tracking.writing import TrackingCount, TrackingWriter

_CONFIG = ConfigDict(frozen=True, extra="forbid", json_schema_extra=in_order)


class ExportFiles(BaseModel):
    """Three files in a folder, replaced by each run.

    Attributes:
        folder: A path on the machine that runs the flow, or an address such as
            `s3://bucket/tracking`. Credentials belong into the environment, not into the address.
        file_format: CSV, which is safe to open in a spreadsheet, or JSON Lines.

    Example:
        >>> ExportFiles(folder="s3://bucket/tracking").file_format
        'csv'
    """

    model_config = _CONFIG | ConfigDict(title="Files")

    folder: str = Field(min_length=1, title="Folder", description="A path or an address.")
    file_format: FileFormat = Field(default="csv", title="File format")


class ExportWarehouse(BaseModel):
    """Three tables in a warehouse, merged by key through dlt.

    Attributes:
        destination: The name of a dlt destination, such as `postgres`, `bigquery` or `snowflake`.
            dlt finds its credentials in the environment, as `DESTINATION__POSTGRES__CREDENTIALS`.
        dataset: The schema or dataset.

    Example:
        >>> ExportWarehouse(destination="duckdb").dataset
        'tracktor'
    """

    model_config = _CONFIG | ConfigDict(title="Warehouse")

    destination: str = Field(min_length=1, title="Destination", description="As dlt names it.")
    dataset: str = Field(default="tracktor", min_length=1, title="Dataset")


class ExportReport(RunReport):
    """What a run of `export_tracking` read and wrote.

    Attributes:
        rows: The number of rows, by table.

    Example:
        >>> ExportReport(rows={"orders": 2}).counts["rows of orders"]
        2
    """

    rows: dict[str, int] = Field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many calls were made, and how many rows there are."""
        return super().counts | {f"rows of {name}": count for name, count in self.rows.items()}


@flow(name="Export tracking")
def export_tracking(
    credentials: TracktorCredentials,
    orders: Orders,
    to: ExportFiles | ExportWarehouse,
    *,
    dry_run: bool = False,
    include_personal_data: bool = False,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    reading: ReadingOptions = DEFAULT_READING,
) -> ExportReport:
    """Export orders, parcels and the steps of each parcel as tables, and materialize assets.

    A warehouse keeps the rows of orders that are not read, so completed orders can be left out
    with the reading options. Files hold what this run read; if an order could not be read, the
    files of the run before stay.

    Args:
        credentials: The Tracktor account.
        orders: Shopify order ids, a file with them, or a search in Shopify.
        to: A folder for files, or a warehouse.
        dry_run: Read and count, and write nothing.
        include_personal_data: Also export names, email addresses, phone numbers and tracking
            numbers.
        thresholds: After how many days a parcel is delayed, for the column condition.
        reading: How orders are read: completed orders, chunk size and the like.

    Returns:
        What was read and written.

    Raises:
        InvalidInput: The folder cannot be written to, or `orders` names none.
        TracktorError: The warehouse cannot be used.
        IncompleteRun: Some orders could not be read. Its `report` says which.

    Example:
        >>> from prefect_tracktor.flows.export_tracking import ExportFiles, export_tracking
        >>> report = export_tracking(
        ...     credentials, order_ids[:3], ExportFiles(folder="memory://tracking")
        ... )
        >>> report.rows["orders"]
        3
    """
    mode = "dry_run" if dry_run else "live"
    show_mode("Export tracking", mode)
    scan = Scan(credentials, orders, reading)
    writer, place = _writer(
        to,
        dry_run=dry_run,
        include_personal_data=include_personal_data,
        thresholds=thresholds,
    )
    with writer:
        export = TrackingExport(writer, account=credentials.account, place=place)
        for batch in scan:
            export.take(batch.found)
        report = ExportReport(**scan.found(dry_run=dry_run), mode=mode, rows=writer.counts)
        left = report.failed and isinstance(to, ExportFiles)
        if left:
            get_run_logger().warning("The files of the run before stay, as orders are missing.")
        elif not dry_run:
            export.publish()
            scan.remember_completed()
    notes = [*filter(None, [report.what_is_left]), *report.notes]
    publish_summary(
        "export-tracking-summary",
        title="Export tracking",
        counts=report.counts,
        notes=notes,
        mode=mode,
    )
    if not report.complete:
        raise IncompleteRun(report.what_is_left, report=report)
    return report


def _writer(
    to: ExportFiles | ExportWarehouse,
    *,
    dry_run: bool,
    include_personal_data: bool,
    thresholds: Thresholds,
) -> tuple[TrackingWriter, str]:
    if isinstance(to, ExportFiles):
        place = place_of_folder(to.folder)
    else:
        place = place_of_warehouse(to.destination, to.dataset)
    if dry_run:
        writer: TrackingWriter = TrackingCount(
            include_personal_data=include_personal_data, thresholds=thresholds
        )
    elif isinstance(to, ExportFiles):
        writer = TrackingFiles(
            to.folder,
            file_format=to.file_format,
            include_personal_data=include_personal_data,
            thresholds=thresholds,
        )
    else:
        writer = TrackingWarehouse(
            to.destination,
            dataset=to.dataset,
            include_personal_data=include_personal_data,
            thresholds=thresholds,
        )
    return writer, place
