"""Tracking data as tables, for a warehouse, a spreadsheet or a pipeline of your own."""

from prefect_tracktor.tracking.rows import TABLES, Table, tracking_rows
from prefect_tracktor.tracking.warehouse import load_tracking
from prefect_tracktor.tracking.writers import write_tracking

__all__ = ["TABLES", "Table", "load_tracking", "tracking_rows", "write_tracking"]
