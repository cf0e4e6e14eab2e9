"""Artifacts in Prefect's API: tables, summaries, charts."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any, TypeVar
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

from prefect_tracktor.reporting.charts import Chart, Trend
from prefect_tracktor.reporting.deployment import deployment_id
from prefect_tracktor.reporting.markdown import Link, Row, clean, markdown_table, plain
from prefect_tracktor.reporting.words import (
    WORDINGS,
    Wording,
    counts_in_words,
    mode_label,
    what_to_do,
)

_T = TypeVar("_T")

# Prefect refuses the event of an artifact above 1.5 MB, in which the table is JSON within JSON.
_TABLE_BYTES_AT_MOST = 1_000_000
_RUNS_IN_A_TREND = 14
_ROWS_IN_A_SUMMARY = 50
_CHARACTERS_AT_ONCE = 400


def publish_table(
    key: str,
    rows: Sequence[Row],
    *,
    description: str,
    limit: int = 1000,
    replaces: UUID | None = None,
) -> UUID | None:
    """Publish as many rows as Prefect accepts as a table, and return its id.

    Prefect's tables can be searched, but show no links: rows with links become a markdown table.
    """
    # the UI takes the columns from the first row; the fullest row has them in order
    columns = list(
        dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row)
    )
    table = [{clean(name): row.get(name, "") for name in columns} for row in rows[:limit]]
    kind, data = _table_data(table)
    while (size := len(json.dumps(data))) > _TABLE_BYTES_AT_MOST:
        table = table[: len(table) * _TABLE_BYTES_AT_MOST // size]
        kind, data = _table_data(table)
    if left_out := len(rows) - len(table):
        description += f"\n\n{len(table):,} of {len(rows):,} rows; {left_out:,} are left out."
    if replaces is not None:
        return update(replaces, data, description=description)
    return publish(key, type=kind, data=data, description=description)


def publish_summary(
    key: str,
    *,
    title: str,
    counts: Mapping[str, int],
    notes: Sequence[str] = (),
    mode: str = "",
    act_on: Sequence[Row] = (),
) -> None:
    """Publish a run's result: a sentence, what to do, rows that a person must act on, counts."""
    parts = [f"# {plain(f'{title}: {mode_label(mode).lower()}' if mode else title)}"]
    if counts:
        parts.append(f"**{plain(counts_in_words(counts))}**")
    if notes:
        parts.append(_list(notes))
    if to_do := what_to_do(counts):
        parts.append(f"## What to do\n\n{_list(to_do)}")
    if act_on:
        parts.append(_markdown_of(act_on[:_ROWS_IN_A_SUMMARY]))
    if more := len(act_on[_ROWS_IN_A_SUMMARY:]):
        parts.append(f"{more:,} more are in the table of this run.")
    parts += _in_numbers(counts)
    description = "The run in words and numbers."
    if mode:
        description = f"{mode_label(mode)}. {description}"
    publish(key, type="markdown", data="\n\n".join(parts), description=description)


def publish_message(key: str, *, subject: str, text: str) -> None:
    """Publish the subject and the text of a message, line by line."""
    # with hard line breaks, as the UI cuts long lines of a code block
    lines = "\n".join(f"{_line(line)}  " if line.strip() else "" for line in text.splitlines())
    publish(
        key,
        type="markdown",
        data=f"# {plain(subject)}\n\n{lines}",
        description="Dry run. One message, personal data masked.",
    )


def publish_charts(
    key: str,
    charts: Sequence[Chart],
    *,
    title: str,
    lead: str,
    description: str,
    counted: tuple[str, int, int] | None = None,
    series: str = "",
) -> None:
    """Publish bar charts as one markdown artifact.

    `counted` is a unit, a count and a total: they are stored with the artifact, and shown as a
    trend with the last runs of this deployment that counted the same `series`, such as a shop.
    """
    parts = [f"# {plain(title)}", plain(lead), *(chart.markdown() for chart in charts)]
    metadata = {}
    if counted:
        unit, count, total = counted
        metadata = {"series": series, "count": str(count), "total": str(total)}
        if earlier := _earlier_counts(key, series):
            parts.append(Trend(unit, [*earlier, ("This run", count, total)]).markdown())
    publish(
        key,
        type="markdown",
        data="\n\n".join(parts),
        description=plain(description),
        metadata=metadata,
    )


def publish(
    key: str,
    *,
    type: str,  # noqa: A002 - as Prefect calls it
    data: Any,
    description: str,
    metadata: Mapping[str, str] | None = None,
) -> UUID | None:
    """Create an artifact of this run; return its id, or `None` after an error."""
    artifact = ArtifactCreate(
        key=_key(key),
        type=type,
        data=data,
        description=description,
        metadata_=dict(metadata or {}),
        flow_run_id=runtime.flow_run.id,
        task_run_id=runtime.task_run.id,
    )
    return _attempt(lambda client: client.create_artifact(artifact).id)


def update(artifact_id: UUID, data: Any, **others: Any) -> UUID | None:
    """Replace an artifact's data; return its id, or `None` after an error."""

    def put(client: SyncPrefectClient) -> UUID:
        client.update_artifact(artifact_id, ArtifactUpdate(data=data, **others))
        return artifact_id

    return _attempt(put)


def _attempt(request: Callable[[SyncPrefectClient], _T]) -> _T | None:
    """Send a request to Prefect's API, and log its error."""
    try:
        with get_client(sync_client=True) as client:
            return request(client)
    except Exception as error:  # noqa: BLE001 - a report never fails the run
        # the error's text may repeat the artifact's data
        logger().warning("A report could not be published (%s).", type(error).__name__)
        return None


def _earlier_counts(key: str, series: str) -> list[tuple[str, int, int]]:
    """Return the counts of this deployment's last runs, the oldest first."""
    deployment = deployment_id()
    of_deployment = {"any_": [deployment]} if deployment else {"is_null_": True}

    def read(client: SyncPrefectClient) -> list[tuple[str, int, int]]:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter.model_validate({"key": {"any_": [_key(key)]}}),
            flow_run_filter=FlowRunFilter.model_validate({"deployment_id": of_deployment}),
            sort=ArtifactSort.CREATED_DESC,
            limit=_RUNS_IN_A_TREND - 1,
        )
        return [
            (f"{artifact.created:%d %b %H:%M}", int(stored["count"]), int(stored["total"]))
            for artifact in reversed(found)
            if (stored := artifact.metadata_ or {}).get("series") == series
        ]

    return _attempt(read) or []


def logger() -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
    """Return the run's logger, or the module's outside of a run."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger(__name__)


def _key(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")


def _line(line: str) -> str:
    """Return a line of any length as markdown, with its indentation."""
    indented = "\u00a0" * (len(line) - len(line.lstrip()))
    return indented + " ".join(map(plain, wrap(line, _CHARACTERS_AT_ONCE)))


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {plain(line)}" for line in lines)


def _in_numbers(counts: Mapping[str, int]) -> Iterator[str]:
    """Yield the counts as a table, and the names of those that are zero in one line."""
    in_order = sorted(counts, key=[*WORDINGS, *counts].index)
    named = {name: WORDINGS.get(name, Wording(name[:1].upper() + name[1:])) for name in in_order}
    rows = [(w.label, counts[name]) for name, w in named.items() if counts[name] or w.always]
    zero = [w.label for name, w in named.items() if not (counts[name] or w.always)]
    if rows:
        yield f"## The run in numbers\n\n{markdown_table(['', 'Count'], rows)}"
    if zero:
        yield f"None: {plain('; '.join(zero))}."


def _markdown_of(rows: Sequence[Row]) -> str:
    # on a phone, an empty column takes the room of others
    columns = list(dict.fromkeys(name for row in rows for name, cell in row.items() if str(cell)))
    return markdown_table(columns, [[row.get(name, "") for name in columns] for row in rows])


def _table_data(table: Sequence[Row]) -> tuple[str, str]:
    """Return a table's type of artifact and its data: Prefect's own, or markdown for links."""
    if any(isinstance(cell, Link) for row in table for cell in row.values()):
        return "markdown", _markdown_of(table)
    cells = [
        {name: cell if isinstance(cell, int) else clean(cell) for name, cell in row.items()}
        for row in table
    ]
    return "table", json.dumps(cells)
