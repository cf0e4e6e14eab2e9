"""Source of desired statuses: a file that a spreadsheet or an ERP exports."""

from collections.abc import Generator

from prefect_tracktor.block import handbook, logo
from prefect_tracktor.sources.status_table import AUTOMATIC_COLUMN, StatusTable
from prefect_tracktor.sources.table_file import Row, TableFile


class StatusFile(StatusTable, TableFile):
    """Desired statuses of orders, from a CSV or JSON Lines file.

    Each row has an order id and a status: the label or the key of one of the shop's status options,
    in any letter case. A blank status changes none. An ambiguous value is refused with its place,
    never guessed.

    Example:
        Make Tracktor agree with the export of production:
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
