"""`export_tracking`: a shop's tracking data as tables, in files or in a warehouse."""

from prefect_tracktor.credentials import TracktorCredentials
from prefect_tracktor.flows.decorator import flow
from prefect_tracktor.runs.engine import run_job
from prefect_tracktor.runs.export import (
    ExportFiles,
    ExportJob,
    ExportReport,
    ExportWarehouse,
    reading_for,
)
from prefect_tracktor.runs.reading import DEFAULT_READING, ReadingOptions
from prefect_tracktor.runs.scan import Scan
from prefect_tracktor.sources import Orders
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds


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
    with the reading options. Files hold what this run read, so it leaves out none; if an order
    could not be read, the files of the run before stay.

    Args:
        to: A folder for files, or a warehouse.
        dry_run: Read and count, and write nothing.
        include_personal_data: Also export names, email addresses, phone numbers and tracking
            numbers.

    Raises:
        InvalidInput: The folder cannot be written to.
        TracktorError: The warehouse cannot be used.

    Example:
        >>> from prefect_tracktor.flows import ExportFiles, export_tracking
        >>> report = export_tracking(
        ...     credentials, order_ids[:3], ExportFiles(folder="memory://tracking")
        ... )
        >>> report.rows["orders"]
        3
    """
    job = ExportJob(
        credentials,
        to,
        dry_run=dry_run,
        thresholds=thresholds,
        include_personal_data=include_personal_data,
    )
    return run_job(Scan(credentials, orders, reading_for(to, reading)), job)
