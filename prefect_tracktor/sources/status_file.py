"""Desired statuses from a file: what a sheet or an ERP exports."""

from collections.abc import Iterator

from prefect_tracktor.block import handbook, logo
from prefect_tracktor.sources.desired_rows import (
    AUTOMATIC_COLUMN,
    AutomaticColumn,
    OrderIdColumn,
    StatusColumn,
    desired_rows,
)
from prefect_tracktor.sources.table_file import TableFile
from prefect_tracktor.statuses.desired import DesiredRow


class StatusFile(TableFile):
    """Desired statuses of orders, from a CSV or JSON Lines file.

    Each row names an order and its status; the label or the key of one of the shop's status
    options, in any letter case. A blank status asks for none. Whatever cannot be read for sure is
    refused with its place, never guessed.

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

    order_id_column: OrderIdColumn = "order_id"
    status_column: StatusColumn = "status"
    automatic_column: AutomaticColumn = AUTOMATIC_COLUMN

    def desired(self) -> Iterator[DesiredRow]:
        r"""Read the rows, while they are asked for.

        Returns:
            The desired statuses, with the place of each row.

        Raises:
            InvalidInput: The file, its header or a row cannot be read for sure. The message names
                the file, the line, and what to do.

        Example:
            >>> import fsspec
            >>> storage = fsspec.filesystem("memory")
            >>> storage.pipe("/plan.csv", b"order_id,status\n5001,Sewing\n")
            >>> for row in StatusFile(path="memory://plan.csv").desired():
            ...     print(row.place, row.desired.status)
            plan.csv, line 2 Sewing
        """
        columns = [self.order_id_column, self.status_column]
        named = [self.automatic_column] if self.automatic_column != AUTOMATIC_COLUMN else []
        return desired_rows(
            self.rows([*columns, *named], [AUTOMATIC_COLUMN]),
            order_id=self.order_id_column,
            status=self.status_column,
            automatic=self.automatic_column,
        )

    def verify(self) -> None:
        r"""Read the header and the first row, to see that the file can be read.

        Raises:
            InvalidInput: It cannot be read for sure; the message says what to do.

        Example:
            >>> import fsspec
            >>> fsspec.filesystem("memory").pipe("/plan.csv", b"order_id,status\n#1,Sewing\n")
            >>> StatusFile(path="memory://plan.csv").verify()
            Traceback (most recent call last):
            ...
            prefect_tracktor.errors.InvalidInput: plan.csv, line 2, column order_id: digits ...
        """
        next(self.desired(), None)
