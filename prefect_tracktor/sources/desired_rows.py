"""Desired statuses from the rows of a table, wherever the table is."""

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field, ValidationError

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.sources.cells import flag_of, order_id_of, status_of
from prefect_tracktor.sources.table_file import Cell, Row, Text
from prefect_tracktor.statuses.desired import DesiredRow, DesiredStatus

AUTOMATIC_COLUMN = "automatic_carrier_updates"

OrderIdColumn = Annotated[
    Text,
    Field(title="Order id column", description="The column that holds the Shopify order id."),
]
StatusColumn = Annotated[
    Text,
    Field(
        title="Status column",
        description="The column that holds the status: its name, as in Tracktor.",
    ),
]
AutomaticColumn = Annotated[
    Text,
    Field(
        title="Carrier updates column",
        description="The column that says true where the carrier is to update the order again, and"
        " false where it is not to. If there is none, leave this as it is.",
    ),
]

_NO_ID = "no order id; add it, or take the row out"
_NO_CELL = Cell("", None)


def desired_rows(
    rows: Iterable[Row], *, order_id: str, status: str, automatic: str
) -> Iterator[DesiredRow]:
    """Read each row of a table as a desired status."""
    for row in rows:
        yield _desired_row(row[order_id], row[status], row.get(automatic, _NO_CELL))


def _desired_row(order_id: Cell, status: Cell, automatic: Cell) -> DesiredRow:
    place = order_id.place.rpartition(", column ")[0]
    cell = order_id
    try:
        the_id = order_id_of(order_id.value, empty=_NO_ID)
        cell = status
        the_status = status_of(status.value)
        cell = automatic
        return DesiredRow(place, DesiredStatus(the_id, the_status, flag_of(automatic.value)))
    except ValidationError as invalid:
        [problem] = invalid.errors(include_input=False, include_url=False)
        raise InvalidInput(f"{place}: {problem['msg'].removeprefix('Value error, ')}") from None
    except InvalidInput as problem:
        raise InvalidInput(f"{cell.place}: {problem}") from None
