"""Sources of desired statuses: their columns and the parsing of rows; and files as such sources."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial

from pydantic import Field

from prefect_tracktor.block import TracktorBlock, handbook, logo
from prefect_tracktor.sources.cells import flag_of, order_id_of, status_of
from prefect_tracktor.sources.table_file import Row, TableFile, Text, Wanted
from prefect_tracktor.statuses.desired import DesiredRow, checked_desired

AUTOMATIC_COLUMN = "automatic_carrier_updates"

_NO_ID = "no order id; add it, or take the row out"


class StatusTable(TracktorBlock, ABC):
    """Table whose rows are desired statuses.

    Attributes:
        order_id_column: The column that holds the Shopify order id.
        status_column: The column that holds the status: its name, as in Tracktor.
        automatic_column: The column that is true where the carrier is to update the order again,
            and false where it is not to. If there is no such column, leave this as it is.
    """

    order_id_column: Text = "order_id"
    status_column: Text = "status"
    automatic_column: Text = Field(default=AUTOMATIC_COLUMN, title="Carrier updates column")

    @property
    def _wanted(self) -> Wanted:
        columns, optional = [self.order_id_column, self.status_column], [self.automatic_column]
        if self.automatic_column != AUTOMATIC_COLUMN:
            columns, optional = columns + optional, []
        return Wanted(columns, optional, is_state=self.status_column.__eq__)

    @abstractmethod
    def _rows(self) -> Generator[Row, None, None]:
        """Read the rows."""

    def desired(self) -> Iterator[DesiredRow]:
        """Yield the desired statuses, each with the place of its row.

        Raises:
            InvalidInput: The table, its columns or a row is ambiguous or unreadable. The message
                names the place and says what to do; it holds no secret.

        Example:
            >>> from prefect_tracktor import StatusQuery
            >>> query = StatusQuery(
            ...     url="sqlite://", query="SELECT 5001 AS order_id, 'Sewing' AS status"
            ... )
            >>> for row in query.desired():
            ...     print(row.place, row.desired.status)
            row 1 of the query Sewing
        """
        return map(self._desired_row, self._rows())

    def verify(self) -> None:
        """Read the columns and the first row, as a check.

        Raises:
            InvalidInput: The table is ambiguous or cannot be read; the message says what to do, and
                holds no secret.
        """
        # an error's traceback would otherwise keep the file or connection open
        with closing(self._rows()) as rows:
            next(map(self._desired_row, rows), None)

    def _desired_row(self, row: Row) -> DesiredRow:
        place = row.line(self.order_id_column)
        desired = checked_desired(
            place,
            order_id=row.read(self.order_id_column, partial(order_id_of, empty=_NO_ID)),
            status=row.read(self.status_column, status_of),
            automatic_carrier_updates=row.read(self.automatic_column, flag_of),
        )
        return DesiredRow(place, desired)


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
        return self.rows(self._wanted)
