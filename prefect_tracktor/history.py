"""The ledger's notices as a table: for a file, a terminal, or Prefect's UI."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from prefect_tracktor.reporting.artifacts import publish_table
from prefect_tracktor.storage.ledger import Notice, NotificationLedger
from prefect_tracktor.table_files import TableFile, TableFiles

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
    """Notices as rows with these columns."""
    for notice in notices:
        key = notice.key
        told = (key.shop, key.order_id, key.fulfillment_id, key.reason, notice.state.value)
        row = (*told, notice.claimed_at, notice.completed_at, notice.run)
        yield dict(zip(COLUMNS, row, strict=True))


def write_history(notices: Iterable[Notice], address: str) -> int:
    """Write notices to a file, CSV or JSON Lines by its name; how many they were."""
    count = 0
    with TableFiles({"history": TableFile(address, COLUMNS)}) as files:
        for row in notice_rows(notices):
            files.write("history", row)
            count += 1
        files.finish()
    return count


def publish_history(
    ledger: NotificationLedger, *, account: str | None = None, limit: int = 1000
) -> None:
    """Show the newest notices as a table artifact: who was told what, when, by which run.

    Args:
        ledger: The ledger.
        account: The name of the account whose notices are meant; all accounts if left out.
        limit: How many notices are shown at most.

    Raises:
        LedgerError: The database cannot be used.

    Example:
        >>> publish_history(ledger, account=credentials.account)
    """
    newest = list(islice(ledger.history(account=account), limit))
    whose = f" of the account {account}" if account else ""
    publish_table(
        f"ledger-history-{account}" if account else "ledger-history",
        [_shown(row) for row in notice_rows(newest)],
        description=f"The newest {len(newest):,} notices{whose} in the ledger.",
        limit=limit,
    )


def _shown(row: dict[str, Any]) -> dict[str, str | int]:
    return {name.replace("_", " ").capitalize(): in_words(value) for name, value in row.items()}


def in_words(value: Any) -> str | int:
    """A cell for people."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return "" if value is None else value
