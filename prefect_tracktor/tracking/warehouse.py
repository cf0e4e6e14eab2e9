"""The tracking tables in a warehouse, through dlt."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Any

from prefect_tracktor.errors import TracktorError
from prefect_tracktor.models import Order
from prefect_tracktor.text import public_words
from prefect_tracktor.tracking.rows import TABLES, Conditions, tracking_rows

_ROWS_AT_ONCE = 5_000


def load_tracking(
    orders: Iterable[Order],
    destination: Any,
    *,
    dataset: str = "tracktor",
    include_personal_data: bool = False,
    conditions: Conditions | None = None,
) -> dict[str, int]:
    """Load the tables into any of dlt's destinations, merged by key: twice is the same as once.

    All parcels and steps of an order are replaced by those that it has now. Orders that are not
    among these stay as they are, so that a run needs to bring only what may have changed.
    Needs the extra `dlt`. Telemetry of dlt is off unless you switch it on in dlt's configuration.

    Args:
        orders: The orders; a generator is read once.
        destination: The name of a dlt destination, such as `duckdb` or `postgres`, whose
            credentials dlt finds in its configuration (`DESTINATION__POSTGRES__CREDENTIALS`);
            or a destination of dlt's that has them.
        dataset: The schema or dataset that the tables are in.
        include_personal_data: Also load names, email addresses, phone numbers and tracking
            numbers.
        conditions: As of `tracking_rows`.

    Returns:
        The number of rows that were brought, by table.

    Raises:
        ImportError: dlt is not installed; the message says how to install it.
        TracktorError: The destination cannot be used.

    Example:
        ```python
        from prefect_tracktor import Order
        from prefect_tracktor.tracking import load_tracking

        load_tracking([Order(order_id=1)], "duckdb", dataset="tracktor")
        ```
    """
    dlt = _dlt()
    counts = Counter(dict.fromkeys(TABLES, 0))
    rows = tracking_rows(orders, include_personal_data=include_personal_data, conditions=conditions)
    # of its own for each run: what a killed run left behind is not loaded later
    with TemporaryDirectory(prefix="tracktor-dlt-") as folder:
        try:
            pipeline = dlt.pipeline(
                "tracktor",
                pipelines_dir=folder,
                destination=destination,
                dataset_name=dataset,
            )
            resource = dlt.resource(
                _marked(dlt, rows, counts, personal=include_personal_data), name="tracking"
            )
            pipeline.run(resource)
        except TracktorError:
            raise
        except Exception as error:  # noqa: BLE001  # each destination has errors of its own
            problem = _not_loaded(error)
        else:
            return dict(counts)
    # raised outside of the handler, whose error may quote rows or credentials
    raise TracktorError(problem)


def _dlt() -> Any:
    # nothing about a run goes to dlt's makers unless you ask for it
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    try:
        import dlt
    except ImportError:
        raise ImportError(
            "loading a warehouse needs dlt: pip install 'prefect-tracktor[dlt]', and dlt's extra"
            " for your destination, such as dlt[postgres]"
        ) from None
    return dlt


def _marked(
    dlt: Any,
    rows: Iterator[tuple[str, dict[str, Any]]],
    counts: Counter[str],
    *,
    personal: bool,
) -> Iterator[Any]:
    """Rows in batches, each with the table that it belongs to and how it is merged."""
    hints = {
        name: dlt.mark.make_hints(
            table_name=name,
            write_disposition={"disposition": "merge", "strategy": "delete-insert"},
            primary_key=table.key,
            merge_key=table.parent,
            columns={
                column: {"data_type": kind}
                for column, kind in table.all_columns(include_personal_data=personal).items()
            },
        )
        for name, table in TABLES.items()
    }
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        by_table = defaultdict(list)
        for name, row in some:
            by_table[name].append(row)
        for name, batch in by_table.items():
            counts[name] += len(batch)
            yield dlt.mark.with_hints(batch, hints[name], create_table_variant=True)


def _not_loaded(error: Exception) -> str:
    cause = error
    while cause.__cause__ is not None and isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    said = public_words(str(cause)[:300])
    return (
        f"the tables could not be loaded ({type(error).__name__}, {type(cause).__name__}: {said}):"
        " check dlt's configuration of the destination, its credentials, and that dlt's extra for"
        " it is installed, such as dlt[postgres]"
    )
