"""Order source: a file that a shop, a warehouse or a spreadsheet exports."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

from pydantic import Field

from prefect_tracktor.block import handbook, logo
from prefect_tracktor.models import NO_FACTS, OrderFacts
from prefect_tracktor.sources.cells import order_id_of
from prefect_tracktor.sources.files import name_of
from prefect_tracktor.sources.found_orders import FoundOrder, FoundOrders
from prefect_tracktor.sources.order_state import (
    CANCELLED,
    REFUNDED,
    UNFULFILLED,
    VOIDED,
    facts_in,
    has_fact,
    has_state,
    states_in,
)
from prefect_tracktor.sources.table_file import Row, TableFile, Text, Wanted

# Shopify repeats an order's name on each of its lines, and gives its id on the first one only.
_ORDER_NAME_COLUMN = "Name"

_NO_ID = (
    "no order id; add it, or take the line out (only the further lines of an order in a CSV file,"
    f" with its name repeated in the column {_ORDER_NAME_COLUMN!r}, go without)"
)


class OrderFile(TableFile):
    """The orders of a shop, read from a file.

    The file is a CSV file, such as Shopify's orders export, or holds JSON Lines. It is streamed,
    so it can have any length; the ids already found take about 100 MB per million orders. A value
    that is not clearly an order id is refused with its place, never guessed.

    A CSV file has a header line, and commas, semicolons, tabs or bars between its cells. A line of
    JSON Lines is an object, or the id alone. Either may be in a zip archive, as Shopify sends a
    large export, or compressed.

    By default, orders that the file calls cancelled, refunded, voided or unfulfilled, in columns
    such as `Cancelled at`, `Financial Status` and `Fulfillment Status`, are left out.

    Attributes:
        column: The CSV column, or the key in JSON Lines, that holds the Shopify order id.
        include_cancelled: Include orders that the file calls cancelled, refunded in full or voided.
        include_unfulfilled: Include orders that are not shipped yet according to the file.

    Example:
        Read the orders of an export:
        ```python
        from prefect_tracktor import OrderFile

        order_file = OrderFile.load("BLOCK_NAME")
        for found in order_file.find_orders():
            print(found.order_id, found.facts.shipping_method)
        ```
    """

    _block_type_name = "Tracktor Order File"
    _block_type_slug = "tracktor-order-file"
    _logo_url = logo("file-delimited")
    _description = "The orders of a shop, read from Shopify's export, any CSV file, or JSON Lines."
    _documentation_url = handbook("how-to/shopify-orders.md#export-files")

    column: Text = "Id"
    include_cancelled: bool = Field(default=False, title="Include cancelled orders")
    include_unfulfilled: bool = Field(default=False, title="Include unfulfilled orders")

    def find_orders(self) -> FoundOrders:
        r"""Find the orders in the file, each once, in the order of their first line.

        If a line of an order has no status, or only says that it is unfulfilled, the order comes at
        the end of the file, as another line may say more.

        Returns:
            The orders, read as you iterate, each with its id and the facts from the file's columns;
            `note` has the number of orders left out.

        Raises:
            InvalidInput: The file, its header or a line is ambiguous or cannot be read. The message
                names the file and line, and says what to do.

        Example:
            >>> import fsspec
            >>> storage = fsspec.filesystem("memory")
            >>> rows = b"Name,Id,Cancelled at\n#1,5001,\n#1,,\n#2,5002,2026-11-02\n#3,5003,\n"
            >>> storage.pipe("/export.csv", rows)
            >>> orders = OrderFile(path="memory://export.csv").find_orders()
            >>> [found.order_id for found in orders], orders.note
            ([5001, 5003], 'left out: 1 cancelled')
        """
        left_out: Counter[str] = Counter()
        return FoundOrders(
            self._find(left_out), left_out=left_out, why_none=lambda: self._why_none(left_out)
        )

    def verify(self) -> None:
        """Read the file up to the first order, as a check.

        Raises:
            InvalidInput: The file is ambiguous or cannot be read; the message says what to do.
        """
        next(self.find_orders(), None)

    def _find(self, left_out: Counter[str]) -> Iterator[FoundOrder]:
        for order_id, (reason, facts) in self._orders():
            if reason:
                left_out[reason] += 1
            else:
                yield FoundOrder(order_id, facts)

    def _orders(self) -> Iterator[tuple[int, tuple[str, OrderFacts]]]:
        """Yield each order once: its id, why it is left out, if it is, and its facts."""
        decided: set[int] = set()
        waiting: dict[int, tuple[str, OrderFacts]] = {}
        for row in self._rows_with_id():
            order_id = row.read(self.column, partial(order_id_of, empty=_NO_ID))
            if order_id in decided:
                continue
            states = states_in(row.values)
            reason, facts = self._reason(states), facts_in(row.values, states or ())
            reason_before = ""
            if order_id in waiting:
                reason_before, facts_before = waiting[order_id]
                facts |= facts_before
            if reason is None or reason == UNFULFILLED:
                reason = reason or reason_before
                waiting[order_id] = (reason, NO_FACTS if reason else facts)
                continue
            decided.add(order_id)
            waiting.pop(order_id, None)
            yield order_id, (reason, facts)
        yield from waiting.items()

    def _rows_with_id(self) -> Iterator[Row]:
        """Yield the rows that must have an id: all but an order's further lines."""
        name: object = ""
        for row in self.rows(Wanted([self.column], [_ORDER_NAME_COLUMN], has_state, has_fact)):
            name_before, name = name, row.values.get(_ORDER_NAME_COLUMN)
            if row.values[self.column] != "" or not name or name != name_before:
                yield row

    def _reason(self, states: frozenset[str] | None) -> str | None:
        """Return why an order is left out: empty if it is not, `None` if its row does not say."""
        if states is None:
            return None
        reasons = [] if self.include_cancelled else [CANCELLED, VOIDED, REFUNDED]
        reasons += [] if self.include_unfulfilled else [UNFULFILLED]
        return next((reason for reason in reasons if reason in states), "")

    def _why_none(self, left_out: Counter[str]) -> str:
        name = name_of(self.path)
        if not left_out:
            return f"{name}: a header and no rows under it; export the orders again"
        switches = {
            "include_unfulfilled" if reason == UNFULFILLED else "include_cancelled"
            for reason in left_out
        }
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        return (
            f"{name}: all orders in it are left out ({reasons}); if they are wanted, set"
            f" {' and '.join(sorted(switches))} of the OrderFile"
        )
