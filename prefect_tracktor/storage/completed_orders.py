"""Completed orders: delivered long ago, so that flows need not read them again.

Losing this table costs API calls, nothing else.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from pydantic import Field
from sqlalchemy import BigInteger, Column, MetaData, String, Table, delete, select

from prefect_tracktor.block import handbook, logo
from prefect_tracktor.models import Fulfillment, Order
from prefect_tracktor.storage.database import (
    DatabaseBlock,
    UTCTime,
    by_statement,
    insert_into,
)
from prefect_tracktor.validation import checked_ids

_completed = Table(
    "tracktor_completed_orders",
    MetaData(),
    Column("shop", String(64), primary_key=True),
    Column("order_id", BigInteger, primary_key=True, autoincrement=False),
    Column("arrived_at", UTCTime, nullable=False),
)

# earlier times are mistakes, and some of them cannot be written in UTC
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


class CompletedOrders(DatabaseBlock):
    """Remembers the orders that were delivered long ago, so that they are not read again.

    Attributes:
        after_days: An order is not read again when its last parcel was delivered more than this
            many days ago.

    Example:
        Have everything read again, say after parcels were sent a second time:
        ```python
        from prefect_tracktor import CompletedOrders, TracktorCredentials

        completed_orders = CompletedOrders.load("BLOCK_NAME")
        completed_orders.forget(TracktorCredentials.load("BLOCK_NAME").account)
        ```
    """

    _block_type_name = "Tracktor Completed Orders"
    _block_type_slug = "tracktor-completed-orders"
    _logo_url = logo("archive-check")
    _description = (
        "Remembers orders that were delivered long ago, so that flows do not read them again."
    )
    _documentation_url = handbook("how-to/save-look-ups.md")

    tables: ClassVar[tuple[Table, ...]] = (_completed,)

    after_days: int = Field(default=30, ge=0, le=3650, title="Completed after (days)")

    def among(self, account: str, order_ids: Iterable[int]) -> set[int]:
        """Return which of these orders are completed, so that they need not be read."""
        found: set[int] = set()
        with self.transaction() as database:
            for batch in by_statement(order_ids):
                query = select(_completed.c.order_id).where(
                    _completed.c.shop == account,
                    _completed.c.order_id.in_(batch),
                    _completed.c.arrived_at <= self._before(),
                )
                found |= set(database.scalars(query))
        return found

    def remember(self, account: str, arrivals: Mapping[int, datetime]) -> None:
        """Record which of these orders are completed, by the time when all of each arrived."""
        before = self._before()
        rows = [
            {"shop": account, "order_id": order_id, "arrived_at": arrived}
            for order_id, arrived in arrivals.items()
            if _EARLIEST <= arrived <= before
        ]
        if not rows:
            return
        with self.transaction() as database:
            for batch in by_statement(rows):
                insert = insert_into(_completed, database).values(batch)
                database.execute(insert.on_conflict_do_nothing())

    def _before(self) -> datetime:
        return datetime.now(UTC) - timedelta(days=self.after_days)

    def forget(self, account: str, order_ids: Iterable[int] | None = None) -> int:
        """Forget orders, or all of the account's, so that they are read again; return how many.

        Raises:
            InvalidInput: An id is invalid, such as an order's name; nothing was forgotten.
            DatabaseError: The database cannot be used.
        """
        all_orders = delete(_completed).where(_completed.c.shop == account)
        deletions = [all_orders]
        if order_ids is not None:
            batches = by_statement(checked_ids(order_ids, field="order_ids"))
            deletions = [all_orders.where(_completed.c.order_id.in_(batch)) for batch in batches]
        with self.transaction() as database:
            return sum(database.execute(deletion).rowcount for deletion in deletions)


def arrived_at(order: Order) -> datetime | None:
    """Return when an order's last parcel arrived; `None` if a parcel or an item may be missing."""
    times = [_arrival(parcel) for parcel in order.fulfillments] if order.names_all_items else []
    known = [time for time in times if time is not None]
    return max(known, default=None) if len(known) == len(times) else None


def _arrival(parcel: Fulfillment) -> datetime | None:
    whole = parcel.fulfillment_status == "fulfilled"
    return parcel.reached_at if whole and parcel.is_delivered else None
