"""Order ids from a file: the export of a shop, of a warehouse or of a spreadsheet."""

from collections.abc import Iterator

from pydantic import Field, HttpUrl

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.logos import logo
from prefect_tracktor.sources.cells import order_id_of
from prefect_tracktor.sources.table_file import Cell, Row, TableFile, Text

# Shopify repeats an order's name on each of its lines, and gives its id on the first one only.
_ORDER_NAME_COLUMN = "Name"

_NO_ID = (
    "no order id; add it, or take the line out (only the further lines of an order in a CSV file,"
    f" with its name repeated in the column {_ORDER_NAME_COLUMN!r}, go without)"
)


class OrderFile(TableFile):
    """The ids of a shop's orders, read from a file.

    The file is a CSV file, such as the orders export of Shopify as it comes, or holds JSON Lines.
    It is streamed and each order is named once, so that a file of any length can be read; what
    has been named takes about 100 MB per million orders. Whatever is not surely an order id is
    refused with its place, never guessed.

    A CSV file has a header line, and commas, semicolons or tabs between its cells. A line of
    JSON Lines is an object, or the id alone.

    Attributes:
        path: Where the file is.
        format: How to read the file.
        encoding: How the file's text is encoded.
        storage_options: What the storage needs to be opened, such as keys: a JSON object.
        column: The CSV column, or the key in JSON Lines, that holds the order id.

    Example:
        Read the orders of an export:
        ```python
        from prefect_tracktor import OrderFile

        order_file = OrderFile.load("BLOCK_NAME")
        for order_id in order_file.order_ids():
            print(order_id)
        ```
    """

    _block_type_name = "Tracktor Order File"
    _block_type_slug = "tracktor-order-file"
    _logo_url = logo("file-delimited")
    _description = "The orders of a shop, read from Shopify's export, any CSV file, or JSON Lines."
    _documentation_url = HttpUrl("https://www.theshoppad.com/apps/tracktor/api/docs")

    column: Text = Field(
        default="Id",
        title="Column",
        description="The CSV column, or the key in JSON Lines, that holds the Shopify order id.",
    )

    def order_ids(self) -> Iterator[int]:
        r"""Name the orders in the file, each once, in the order of their first line.

        Returns:
            The ids, read while they are asked for.

        Raises:
            InvalidInput: The file, its header or a line cannot be read for sure. The message
                names the file, the line, and what to do.

        Example:
            >>> import fsspec
            >>> storage = fsspec.filesystem("memory")
            >>> storage.pipe("/export.csv", b"Name,Id,Item\n#1,5001,Mug\n#1,,Cup\n#2,5002,Mug")
            >>> list(OrderFile(path="memory://export.csv").order_ids())
            [5001, 5002]
        """
        seen: set[int] = set()
        for cell in self._id_cells():
            try:
                order_id = order_id_of(cell.value, empty=_NO_ID)
            except InvalidInput as problem:
                raise InvalidInput(f"{cell.place}: {problem}") from None
            if order_id not in seen:
                seen.add(order_id)
                yield order_id

    def verify(self) -> None:
        r"""Read the header and the first order, to see that the file can be read.

        Raises:
            InvalidInput: It cannot be read for sure; the message says what to do.

        Example:
            >>> import fsspec
            >>> fsspec.filesystem("memory").pipe("/names.csv", b"Name,Item\n#1,Mug")
            >>> OrderFile(path="memory://names.csv").verify()
            Traceback (most recent call last):
            ...
            prefect_tracktor.errors.InvalidInput: names.csv, line 1: no column 'Id'; name one of ...
        """
        next(self.order_ids(), None)

    def _id_cells(self) -> Iterator[Cell]:
        """The cells that must hold an id: all but those of an order's further lines."""
        name = ""
        for row in self.rows([self.column], optional=[_ORDER_NAME_COLUMN]):
            name_before, name = name, _name_in(row)
            if row[self.column].value != "" or not name or name != name_before:
                yield row[self.column]


def _name_in(row: Row) -> str:
    cell = row.get(_ORDER_NAME_COLUMN)
    return cell.value if cell and isinstance(cell.value, str) else ""
