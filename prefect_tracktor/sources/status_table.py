"""What the blocks have in common that give desired statuses: the columns, and how rows are read."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial

from pydantic import Field, ValidationError

from prefect_tracktor.block import TracktorBlock
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.sources.cells import flag_of, order_id_of, status_of
from prefect_tracktor.sources.table_file import Row, Text
from prefect_tracktor.statuses.desired import DesiredRow, DesiredStatus

AUTOMATIC_COLUMN = "automatic_carrier_updates"

_NO_ID = "no order id; add it, or take the row out"


class StatusTable(TracktorBlock, ABC):
    """A table whose rows are desired statuses, wherever it is."""

    order_id_column: Text = Field(
        default="order_id",
        title="Order id column",
        description="The column that holds the Shopify order id.",
    )
    status_column: Text = Field(
        default="status",
        title="Status column",
        description="The column that holds the status: its name, as in Tracktor.",
    )
    automatic_column: Text = Field(
        default=AUTOMATIC_COLUMN,
        title="Carrier updates column",
        description="The column that says true where the carrier is to update the order again, and"
        " false where it is not to. If there is none, leave this as it is.",
    )

    @abstractmethod
    def _rows(self) -> Generator[Row, None, None]:
        """Read the rows, each with these columns."""

    def desired(self) -> Iterator[DesiredRow]:
        """Yield the rows.

        Returns:
            The desired statuses, with the place of each row.

        Raises:
            InvalidInput: The table, its columns or a row is ambiguous or unreadable. The message
                says where that is and what to do, and holds no secret.

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
        """Read the columns and the first row, to see that the table can be read.

        Raises:
            InvalidInput: It is ambiguous or cannot be read; the message says what to do, and holds
                no secret.
        """
        # closed here, not when an error that still knows them is forgotten
        with closing(self._rows()) as rows:
            next(map(self._desired_row, rows), None)

    def _desired_row(self, row: Row) -> DesiredRow:
        order_id = row.read(self.order_id_column, partial(order_id_of, empty=_NO_ID))
        status = row.read(self.status_column, status_of)
        automatic = row.read(self.automatic_column, flag_of)
        place = row.line(self.order_id_column)
        try:
            return DesiredRow(place, DesiredStatus(order_id, status, automatic))
        except ValidationError as invalid:
            [problem] = invalid.errors(include_input=False, include_url=False)
            said = problem["msg"].removeprefix("Value error, ")
            raise InvalidInput(f"{place}: {said}") from None
