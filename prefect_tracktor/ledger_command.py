"""Command `prefect-tracktor ledger`: look up notices, decide about uncertain ones, forget."""

import os
from collections.abc import Iterable
from itertools import islice
from typing import Annotated

from cyclopts import App, Parameter
from prefect.settings import PREFECT_API_URL

from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.history import COLUMNS, in_words, notice_rows, write_history
from prefect_tracktor.saved_blocks import SHARED, find_block
from prefect_tracktor.storage.ledger import Notice, NoticeKey, NoticeState, NotificationLedger
from prefect_tracktor.validation import checked_id

Block = Annotated[str, Parameter(show_default=True)]
OrderIds = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]

# widths of usual values, so that each line can be printed before the next is read
_WIDTHS = (18, 14, 14, 28, 8, 23, 23, 0)

app: App = App(
    name="ledger",
    help="Look up which customers were notified of what, decide about uncertain messages, forget.",
    help_epilogue="""\
It uses the saved block tracktor-notification-ledger of the name --block, or the SQLite file in the
Prefect home if there is no such block, as the flows do. Without PREFECT_API_URL it uses the
database of the variable TRACKTOR_LEDGER_URL.

ORDER-IDS are Shopify's: the number at the end of the order's address in the Shopify admin.
""",
    sort_key=4,
    version_flags=[],
)


@app.command
def history(
    *, csv: str = "", account: str | None = None, limit: int | None = None, block: Block = SHARED
) -> None:
    """List the notices, the newest first: 50 of them, or all with --csv FILE.

    Args:
        csv: Write them to this CSV file.
        account: Only the notices of this account, by its uuid.
        limit: How many notices at most.
        block: The name of the ledger's saved block.
    """
    if csv and not csv.lower().endswith(".csv"):
        raise InvalidInput(f"--csv: the name of the file must end in .csv, such as {csv}.csv")
    if limit is not None:
        limit = checked_id(limit, field="--limit")
    notices = _ledger(block).history(account=account)
    if csv:
        print(f"wrote {write_history(islice(notices, limit), csv):,} notices to {csv}")
    else:
        _print(islice(notices, limit or 50))


@app.command
def show(*order_ids: str, block: Block = SHARED) -> None:
    """List the notices of these orders: about what, when, and by which run.

    Args:
        order_ids: The orders.
        block: The name of the ledger's saved block.
    """
    if not order_ids:
        raise InvalidInput("name at least one order by its id, such as: ledger show 5000000001001")
    found = _ledger(block).told(_ids(order_ids, "order id"))
    _print(found)
    if not found:
        print(
            "Order ids are long: the number at the end of the order's address in the Shopify admin,"
            " not the order's number such as #1001."
        )


@app.command
def uncertain(*, arrived: OrderIds = (), not_arrived: OrderIds = (), block: Block = SHARED) -> None:
    """List uncertain messages, and record whether they arrived.

    Args:
        arrived: Orders whose customer got the message: it is recorded as sent.
        not_arrived: Orders whose customer did not get it: the next run sends it.
        block: The name of the ledger's saved block.
    """
    sent, unsent = _ids(arrived, "--arrived"), _ids(not_arrived, "--not-arrived")
    if both := set(sent) & set(unsent):
        raise InvalidInput(
            f"order {min(both)} is given to both --arrived and --not-arrived; give it to one"
        )
    ledger = _ledger(block)
    if sent or unsent:
        claims = ledger.uncertain()
        # all are checked before the first is recorded
        to_confirm = _keys(claims, sent, "--arrived")
        to_clear = _keys(claims, unsent, "--not-arrived")
        confirmed, cleared = ledger.confirm_uncertain(to_confirm), ledger.clear_uncertain(to_clear)
        print(f"{confirmed} recorded as sent, {cleared} to be sent by the next run")
    left = ledger.uncertain()
    _print(left)
    if left:
        print(
            "Find out whether they arrived, from the mail server's log or the customer, and add"
            " --arrived ORDER_ID or --not-arrived ORDER_ID."
        )


@app.command
def forget(
    *order_ids: str,
    older_than_days: int | None = None,
    yes: bool = False,
    block: Block = SHARED,
) -> int:
    """Delete the notices of some orders, or all notices older than some days.

    A later run notifies these customers again if their orders still have the condition.

    Args:
        order_ids: The orders.
        older_than_days: Instead of orders: delete all notices that were completed so many days ago.
        yes: Delete; without it you only see what would be deleted.
        block: The name of the ledger's saved block.
    """
    if (older_than_days is None) == (not order_ids):
        raise InvalidInput("name either orders (ORDER-IDS) or --older-than-days, one of the two")
    ids = _ids(order_ids, "order id")
    if older_than_days is not None:
        older_than_days = checked_id(older_than_days, field="--older-than-days")
    ledger = _ledger(block)
    if not yes:
        count = _would_be_deleted(ledger, ids, older_than_days)
        print(
            f"{count:,} notices would be deleted. A later run notifies their customers again if"
            " the orders still have the condition. Nothing was deleted: add --yes to do it."
        )
        return 2
    count = ledger.forget(ids) if ids else ledger.forget_older_than(older_than_days or 0)
    print(f"deleted {count:,} notices")
    if kept := ledger.told(ids):
        print("These stay, as it is uncertain whether they arrived; see ledger uncertain:")
        _print(kept)
    return 0


def _would_be_deleted(ledger: NotificationLedger, ids: list[int], days: int | None) -> int:
    if days is not None:
        return ledger.count_older_than(days)
    found = ledger.told(ids)
    _print(found)
    return sum(notice.state is not NoticeState.CLAIMED for notice in found)


def _ledger(block: str) -> NotificationLedger:
    if PREFECT_API_URL.value():
        found = find_block(NotificationLedger, block)
        if found is None and block != SHARED:
            raise InvalidInput(
                f"there is no block tracktor-notification-ledger/{block}: save it with"
                " prefect-tracktor blocks, or name another one with --block"
            )
        ledger = found or NotificationLedger()
    elif url := os.environ.get("TRACKTOR_LEDGER_URL"):
        ledger = NotificationLedger.model_validate({"url": url})
    else:
        raise InvalidInput(
            "set PREFECT_API_URL (or log in with prefect cloud login), so that the ledger's block"
            " is found; or TRACKTOR_LEDGER_URL to the address of its database"
        )
    print(f"The ledger is {ledger.place}.")
    return ledger


def _ids(order_ids: Iterable[str], field: str) -> list[int]:
    return [checked_id(given, field=f"{field} {n}") for n, given in enumerate(order_ids, start=1)]


def _keys(notices: Iterable[Notice], order_ids: Iterable[int], option: str) -> list[NoticeKey]:
    wanted = set(order_ids)
    keys = [notice.key for notice in notices if notice.key.order_id in wanted]
    if missing := wanted - {key.order_id for key in keys}:
        raise InvalidInput(
            f"{option}: no message of the order {min(missing)} is uncertain; messages younger than"
            " an hour, and those of a run at work, are not uncertain yet"
        )
    return keys


def _print(notices: Iterable[Notice]) -> None:
    """Print notices as a table, each line before the next is read."""
    empty = True
    for row in notice_rows(notices):
        if empty:
            print(_line(COLUMNS))
        empty = False
        print(_line([in_words(row[column]) for column in COLUMNS]))
    if empty:
        print("No notices.")


def _line(cells: Iterable[str | int]) -> str:
    return "  ".join(str(c).ljust(w) for c, w in zip(cells, _WIDTHS, strict=True)).rstrip()
