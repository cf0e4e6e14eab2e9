"""Desired statuses from the rows of a table, wherever the table is."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated

from pydantic import Field, ValidationError

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.sources.cells import flag_of, order_id_of, status_of
from prefect_tracktor.sources.table_file import Row, Text
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


def desired_rows(
    rows: Iterable[Row], *, order_id: str, status: str, automatic: str
) -> Iterator[DesiredRow]:
    """Read each row of a table as a desired status."""
    for row in rows:
        the_id = row.read(order_id, partial(order_id_of, empty=_NO_ID))
        the_status = row.read(status, status_of)
        flag = row.read(automatic, flag_of)
        place = row.line(order_id)
        try:
            yield DesiredRow(place, DesiredStatus(the_id, the_status, flag))
        except ValidationError as invalid:
            [problem] = invalid.errors(include_input=False, include_url=False)
            said = problem["msg"].removeprefix("Value error, ")
            raise InvalidInput(f"{place}: {said}") from None
