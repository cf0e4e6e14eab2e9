"""Orders about which nothing can change any more, so that they need not be read again.

A look-up may cost the merchant money, and most of a shop's orders were delivered long ago. What is
remembered is one row for each of these, in the database where the ledger may be, too: on machines
that are thrown away after a run it has to be PostgreSQL. To lose it costs look-ups, nothing else.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from pydantic import Field, HttpUrl
from sqlalchemy import BigInteger, Column, DateTime, MetaData, String, Table, delete, select

from prefect_tracktor.database import DatabaseBlock, by_statement, insert_into
from prefect_tracktor.models import Fulfillment, Order

SETTLED = Table(
    "tracktor_settled_orders",
    MetaData(),
    Column("shop", String(64), primary_key=True),
    Column("order_id", BigInteger, primary_key=True, autoincrement=False),
    Column("settled_at", DateTime(timezone=True), nullable=False),
)


class SettledOrders(DatabaseBlock):
    """Remembers the orders that were delivered long ago, so that they are not read again.

    Attributes:
        url: Where they are kept; empty for a SQLite file in the Prefect home.
        after_days: How long ago the last parcel of an order must have arrived.

    Example:
        Have everything read again, say after parcels were sent a second time:
        ```python
        from prefect_tracktor import SettledOrders, TracktorCredentials

        settled_orders = SettledOrders.load("BLOCK_NAME")
        settled_orders.forget(TracktorCredentials.load("BLOCK_NAME").account)
        ```
    """

    _block_type_name = "Tracktor Settled Orders"
    _block_type_slug = "tracktor-settled-orders"
    _description = (
        "Remembers the orders that were delivered long ago, so that they are not read again."
    )
    _documentation_url = HttpUrl("https://www.theshoppad.com/apps/tracktor/api/docs")

    after_days: int = Field(
        default=30,
        ge=0,
        le=3650,
        title="After days",
        description="How many days ago the last parcel of an order must have arrived for the order"
        " not to be read again.",
    )

    def among(self, account: str, order_ids: Iterable[int]) -> set[int]:
        """Which of these orders are settled.

        Args:
            account: The account's name, as its credentials give it.
            order_ids: The candidates.

        Returns:
            Those that need not be read.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> SettledOrders(url=ledger.url).among("shop", [1001])
            set()
        """
        settled: set[int] = set()
        with self.transaction(SETTLED) as database:
            for some in by_statement(order_ids):
                query = select(SETTLED.c.order_id).where(
                    SETTLED.c.shop == account, SETTLED.c.order_id.in_(some)
                )
                settled |= set(database.scalars(query))
        return settled

    def remember(self, account: str, orders: Iterable[Order]) -> None:
        """Take in what was read: the orders among it that are settled need not be read again.

        Args:
            account: The account's name.
            orders: The orders as they were read.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> settled = SettledOrders(url=ledger.url)
            >>> parcel = {
            ...     "fulfillment_id": 7,
            ...     "shipment_status": "delivered",
            ...     "latest_status": {"key": "delivered", "datetime": "2026-01-31T10:00:00Z"},
            ... }
            >>> settled.remember("shop", [Order(order_id=1002, fulfillments=[parcel])])
            >>> settled.among("shop", [1001, 1002])
            {1002}
        """
        now = datetime.now(UTC)
        before = now - timedelta(days=self.after_days)
        rows = [
            {"shop": account, "order_id": order.order_id, "settled_at": now}
            for order in orders
            if is_settled(order, before=before)
        ]
        if not rows:
            return
        with self.transaction(SETTLED) as database:
            for some in by_statement(rows):
                insert = insert_into(SETTLED, database).values(some)
                database.execute(insert.on_conflict_do_nothing())

    def forget(self, account: str, order_ids: Iterable[int] | None = None) -> None:
        """Have orders read again.

        Args:
            account: The account's name.
            order_ids: Which; all of the account's if left out.

        Raises:
            DatabaseError: The database cannot be used.

        Example:
            >>> SettledOrders(url=ledger.url).forget("shop")
        """
        of_the_account = delete(SETTLED).where(SETTLED.c.shop == account)
        with self.transaction(SETTLED) as database:
            if order_ids is None:
                database.execute(of_the_account)
                return
            for some in by_statement(order_ids):
                database.execute(of_the_account.where(SETTLED.c.order_id.in_(some)))


def is_settled(order: Order, *, before: datetime) -> bool:
    """Whether all of an order has arrived, and the last of it long ago.

    Args:
        order: The order as Tracktor knows it.
        before: How long ago; aware.

    Returns:
        False in any doubt: no parcels, a part not yet sent, a parcel that was not delivered or of
        which it is not known when.

    Example:
        >>> is_settled(Order(order_id=7), before=datetime.now(UTC))
        False
    """
    return bool(order.fulfillments) and all(
        _arrived(parcel, before) for parcel in order.fulfillments
    )


def _arrived(parcel: Fulfillment, before: datetime) -> bool:
    if not parcel.is_delivered or parcel.fulfillment_status == "partial":
        return False
    return parcel.reached_at is not None and parcel.reached_at <= before
