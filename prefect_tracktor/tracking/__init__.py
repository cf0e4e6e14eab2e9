"""Tracking data as tables, for a warehouse, a spreadsheet or a pipeline of your own."""

from prefect_tracktor.tracking.files import FileFormat, TrackingFiles, write_tracking
from prefect_tracktor.tracking.rows import TABLES, Table, tracking_rows
from prefect_tracktor.tracking.warehouse import TrackingWarehouse, load_tracking
from prefect_tracktor.tracking.writing import TrackingWriter

__all__ = [
    "TABLES",
    "FileFormat",
    "Table",
    "TrackingFiles",
    "TrackingWarehouse",
    "TrackingWriter",
    "load_tracking",
    "tracking_rows",
    "write_tracking",
]
