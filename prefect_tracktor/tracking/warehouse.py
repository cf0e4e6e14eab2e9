"""Tracking tables in a warehouse, loaded by dlt."""

import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from prefect_tracktor.errors import InvalidInput, TracktorError, replaced_errors
from prefect_tracktor.models import Order
from prefect_tracktor.text import form_of, public_words
from prefect_tracktor.thresholds import DEFAULT_THRESHOLDS, Thresholds
from prefect_tracktor.tracking.rows import TABLES
from prefect_tracktor.tracking.writers import TrackingWriter

_BATCH_SIZE = 5_000
_MAX_MESSAGE_LENGTH = 500
# column of a marker row: dlt does not load the row, and deletes the rows of its order
_IS_GONE = "is_gone"
_TABLES_OF_PARTS = {name: table for name, table in TABLES.items() if name != "orders"}


class TrackingWarehouse(TrackingWriter):
    """Writes the tables into a dlt destination."""

    def __init__(self, destination: Any, *, dataset: str = "tracktor", **options: Any) -> None:
        super().__init__(**options)
        self._dlt = _import_dlt()
        # a folder for each run: rows that a killed run left behind are not loaded later
        self._folder = TemporaryDirectory(prefix="tracktor-dlt-")
        with replaced_errors(Exception, partial(_not_usable, destination)):
            self._pipeline = self._dlt.pipeline(
                "tracktor",
                pipelines_dir=self._folder.name,
                destination=destination,
                dataset_name=dataset,
            )
        # dlt reads all rows in one go, at the end
        self._buffer = TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self._rows: dict[str, list[Mapping[str, Any]]] = {}

    def finish(self) -> None:
        self._flush()
        self._buffer.seek(0)
        # each destination has errors of its own, which may quote rows or credentials
        with replaced_errors(Exception, _not_loaded):
            self._pipeline.run(self._dlt.resource(self._with_hints(), name="tracking"))

    def _write(self, table: str, row: Mapping[str, Any]) -> None:
        if table == "orders":
            # parcels and steps that the order has no more are deleted even if none replace them
            for name, parts in _TABLES_OF_PARTS.items():
                marker = dict.fromkeys(parts.key, -row["order_id"]) | {_IS_GONE: True}
                self._rows.setdefault(name, []).append({"order_id": row["order_id"]} | marker)
        self._rows.setdefault(table, []).append(row)
        if sum(map(len, self._rows.values())) >= _BATCH_SIZE:
            self._flush()

    def _flush(self) -> None:
        pickle.dump(self._rows, self._buffer)
        self._rows = {}

    def __exit__(self, *_: object) -> None:
        self._buffer.close()
        self._folder.cleanup()

    def _with_hints(self) -> Iterator[Any]:
        """Yield the rows in batches, each with its table and that table's merge strategy."""
        mark = self._dlt.mark
        hints = {
            name: mark.make_hints(
                table_name=name,
                write_disposition={"disposition": "merge", "strategy": "delete-insert"},
                primary_key=table.key,
                merge_key="order_id",
                columns={
                    column: {"data_type": kind}
                    for column, kind in table.all_columns(
                        include_personal_data=self._personal
                    ).items()
                }
                | (
                    {_IS_GONE: {"data_type": "bool", "hard_delete": True}}
                    if name in _TABLES_OF_PARTS
                    else {}
                ),
            )
            for name, table in TABLES.items()
        }
        while True:
            try:
                by_table = pickle.load(self._buffer)  # noqa: S301  # our own
            except EOFError:
                return
            for name, rows in by_table.items():
                yield mark.with_hints(rows, hints[name], create_table_variant=True)


def load_tracking(
    orders: Iterable[Order],
    destination: Any,
    *,
    dataset: str = "tracktor",
    include_personal_data: bool = False,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> dict[str, int]:
    """Load the tables into any dlt destination, merged by key, so that a second run adds nothing.

    All parcels and steps of an order are replaced by its present ones. Other orders in the
    warehouse stay as they are, so a run needs to load only orders that may have changed. Needs the
    extra `dlt`. Telemetry of dlt is off unless you switch it on in dlt's configuration.

    Args:
        orders: The orders; a generator is read once.
        destination: The name of a dlt destination, such as `duckdb` or `postgres`, whose
            credentials dlt finds in its configuration (`DESTINATION__POSTGRES__CREDENTIALS`);
            or a dlt destination object that has them.
        dataset: The schema or dataset that the tables are in.
        include_personal_data: Also load names, email addresses, phone numbers and tracking
            numbers.
        thresholds: The days after which a parcel is delayed, for the column `condition`.

    Returns:
        The number of rows that were loaded, by table.

    Raises:
        ImportError: dlt is not installed; the message says how to install it.
        InvalidInput: The destination is none of dlt's; no order was read.
        TracktorError: The destination cannot be used.

    Example:
        ```python
        from prefect_tracktor import Order
        from prefect_tracktor.tracking import load_tracking

        load_tracking([Order(order_id=1)], "duckdb", dataset="tracktor")
        ```
    """
    warehouse = TrackingWarehouse(
        destination,
        dataset=dataset,
        include_personal_data=include_personal_data,
        thresholds=thresholds,
    )
    return warehouse.write_all(orders)


def _import_dlt() -> Any:
    # dlt sends nothing about a run to its makers unless you switch that on
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    try:
        return import_module("dlt")
    except ImportError:
        raise ImportError(
            "loading a warehouse needs dlt: pip install 'prefect-tracktor[dlt]', and dlt's extra"
            " for your destination, such as dlt[postgres]"
        ) from None


def _not_usable(destination: object, error: Exception) -> InvalidInput:
    return InvalidInput(
        f"destination: dlt cannot use {form_of(destination)} ({type(error).__name__}): give the"
        " name of one of its destinations, such as duckdb or postgres; its credentials belong into"
        " dlt's configuration"
    )


def _not_loaded(error: Exception) -> TracktorError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    kinds = " from ".join(dict.fromkeys([type(error).__name__, type(cause).__name__]))
    if fields := getattr(cause, "fields", ()):  # missing in dlt's configuration
        reason = f"missing: {', '.join(fields)}"
    else:
        reason = public_words(str(cause)[:_MAX_MESSAGE_LENGTH])
    return TracktorError(
        f"the tables could not be loaded ({': '.join(filter(None, (kinds, reason)))}): check dlt's"
        " configuration of the destination, its credentials, and that dlt's extra for it is"
        " installed, such as dlt[postgres]"
    )
