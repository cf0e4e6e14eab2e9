"""Ledger history: notices as a table in a file, a terminal, or Prefect's UI."""

from collections.abc import Iterable, Iterator
from dataclasses import astuple
from datetime import datetime
from itertools import islice
from typing import Any

from prefect_tracktor.reporting.artifacts import publish_table
from prefect_tracktor.storage.ledger import Notice, NotificationLedger
from prefect_tracktor.table_files import TableFiles

COLUMNS = (
    "account",
    "order_id",
    "fulfillment_id",
    "reason",
    "state",
    "claimed_at",
    "completed_at",
    "run",
)


def notice_rows(notices: Iterable[Notice]) -> Iterator[dict[str, Any]]:
    for notice in notices:
        times = (notice.claimed_at, notice.completed_at)
        row = (*astuple(notice.key), notice.state.value, *times, notice.run)
        yield dict(zip(COLUMNS, row, strict=True))


def write_history(notices: Iterable[Notice], address: str) -> int:
    """Write notices to a file, CSV or JSON Lines by its name; return their number."""
    count = 0
    with TableFiles({address: COLUMNS}) as files:
        for row in notice_rows(notices):
            files.write(address, row)
            count += 1
        files.finish()
    return count


def publish_history(
    ledger: NotificationLedger, *, account: str | None = None, limit: int = 1000
) -> None:
    """Publish the newest notices as a table artifact: order, reason, state, times and run.

    Args:
        ledger: The ledger.
        account: The name of the account; all accounts if left out.
        limit: The maximum number of notices.

    Raises:
        LedgerError: The database cannot be used.

    Example:
        >>> publish_history(ledger, account=credentials.account)
    """
    newest = list(islice(ledger.history(account=account), limit))
    of_account = f" of the account {account}" if account else ""
    publish_table(
        f"ledger-history-{account}" if account else "ledger-history",
        [
            {name.replace("_", " ").capitalize(): in_words(value) for name, value in row.items()}
            for row in notice_rows(newest)
        ],
        description=f"The newest {len(newest):,} notices{of_account} in the ledger.",
        limit=limit,
    )


def in_words(value: Any) -> str | int:
    """Format a cell for people."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return "" if value is None else value
