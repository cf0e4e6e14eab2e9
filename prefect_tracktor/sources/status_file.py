"""Desired statuses from a file: what a sheet or an ERP exports."""

from collections.abc import Generator

from prefect_tracktor.block import handbook, logo
from prefect_tracktor.sources.status_table import AUTOMATIC_COLUMN, StatusTable
from prefect_tracktor.sources.table_file import Row, TableFile


class StatusFile(StatusTable, TableFile):
    """Desired statuses of orders, from a CSV or JSON Lines file.

    Each row names an order and its status; the label or the key of one of the shop's status
    options, in any letter case. A blank status asks for none. A value that is ambiguous is refused
    with its place, never guessed.

    Attributes:
        path: Where the file is.
        format: How to read the file.
        encoding: How the file's text is encoded.
        storage_options: What the storage needs to be opened, such as keys: a JSON object.
        order_id_column: The column that holds the order id.
        status_column: The column that holds the status.
        automatic_column: The column that says whether the carrier updates the order.

    Example:
        Make Tracktor agree with what production exports:
        ```python
        from prefect_tracktor import StatusFile, TracktorCredentials
        from prefect_tracktor.flows import reconcile_manual_statuses

        credentials = TracktorCredentials.load("BLOCK_NAME")
        status_file = StatusFile.load("BLOCK_NAME")
        reconcile_manual_statuses(credentials, status_file, dry_run=True)
        ```
    """

    _block_type_name = "Tracktor Status File"
    _block_type_slug = "tracktor-status-file"
    _logo_url = logo("file-table")
    _description = "Desired statuses of orders, from a CSV or JSON Lines file."
    _documentation_url = handbook("how-to/manual-statuses.md#from-a-file")

    def _rows(self) -> Generator[Row, None, None]:
        columns = [self.order_id_column, self.status_column]
        named = [self.automatic_column] if self.automatic_column != AUTOMATIC_COLUMN else []
        return self.rows([*columns, *named], [AUTOMATIC_COLUMN])
