"""How a run shows itself in Prefect's UI: tables, summaries, charts and progress, as artifacts.

A report never fails the work that it reports on: when Prefect's API has trouble, a warning is
logged and the run goes on. All functions are synchronous; an asynchronous flow calls them with
`await asyncio.to_thread(...)`.
"""

import asyncio
import json
import logging
import math
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate, takewhile
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

from prefect_tracktor.models import ExceptionStatus, ShipmentStatus

# Prefect refuses the event of an artifact above 1.5 MB, in which the table is JSON within JSON.
_TABLE_BYTES_AT_MOST = 1_000_000
_CELL_CHARACTERS_AT_MOST = 500

_ENTITIES = str.maketrans({mark: f"&#{ord(mark)};" for mark in "&<>|`*_[]()!~#$\\"})
_WORD_JOINER = "\u2060"
_INSIDE_A_LINK = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)

_PERCENT_BETWEEN_UPDATES = 5

_LABELS: dict[str, str] = {
    str(status): status.label for status in (*ExceptionStatus, *ShipmentStatus)
}

# as wide as Prefect's page takes beside a name and a number; eighths are drawn, too
_BAR_CHARACTERS = 14
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


def plain(text: object) -> str:
    """Write text so that markdown shows it as it is: no markup, HTML, link or line break."""
    # a reader turns even escaped addresses into links; an unseen character inside prevents it
    return _INSIDE_A_LINK.sub(_WORD_JOINER, _clean(text).translate(_ENTITIES))


@dataclass(frozen=True, slots=True)
class Chart:
    """One bar chart: how many of what, each bar with its number and its share."""

    title: str
    header: str
    unit: str
    counts: Mapping[str, int]

    def markdown(self) -> str:
        """Write the chart as a table, which every theme and screen reader can show."""
        total, most = sum(self.counts.values()), max(self.counts.values(), default=0)
        rows: list[list[str | int]] = [
            [name, count, f"{_bar(count, most)} {count / total:.0%}".strip() if total else ""]
            for name, count in self.counts.items()
        ]
        table = markdown_table([self.header, self.unit, "Share"], rows)
        return f"## {plain(self.title)}\n\n{table}"


def _bar(count: int, most: int) -> str:
    """A bar as long as the count is beside the largest; what is there at all is seen."""
    if not count:
        return ""
    eighths = max(1, round(count / most * _BAR_CHARACTERS * len(_EIGHTHS)))
    full, rest = divmod(eighths, len(_EIGHTHS))
    return "█" * full + _EIGHTHS[rest]


def label_of(status: str) -> str:
    """A status as people know it."""
    return _LABELS.get(status, status)


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    """Write a markdown table whose cells are shown as they are, whatever they hold."""
    if any(len(row) != len(headers) for row in rows):
        raise ValueError(f"each row must have {len(headers)} cells, one for each header")
    numeric = [
        bool(rows) and all(isinstance(cell, int) for cell in column)
        for column in zip(*rows, strict=True)
    ]
    rule = ["---:" if right else "---" for right in numeric or [False] * len(headers)]
    lines = [map(plain, headers), rule, *(map(_cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(cell: str | int) -> str:
    return f"{cell:,}" if isinstance(cell, int) else plain(cell)


def shown(ids: Sequence[int], limit: int = 20) -> str:
    """Name ids in a sentence, the first few of them if there are many."""
    named = ", ".join(map(str, ids[:limit]))
    more = len(ids) - limit
    return f"{named} and {more:,} more" if more > 0 else named or "none"


def in_list(words: Sequence[str]) -> str:
    """Write words as a list in a sentence."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def publish_table(
    key: str,
    rows: Sequence[Mapping[str, str | int]],
    *,
    description: str,
    limit: int = 1000,
) -> None:
    """Show rows as a table artifact, as many as Prefect takes."""
    # the UI takes the columns from the first row
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = _within_bytes([_cells(row, columns) for row in rows[:limit]])
    left_out = len(rows) - len(table)
    if left_out:
        description += f"\n\n{len(table):,} of {len(rows):,} rows; {left_out:,} are left out."
    _attempt(create_table_artifact, table=table, key=_key(key), description=description)


def publish_summary(
    key: str, *, title: str, counts: Mapping[str, int], notes: Sequence[str] = ()
) -> None:
    """Show what a run did as a markdown artifact: its counts, and what else is worth knowing."""
    parts = [f"# {plain(title)}"]
    if notes:
        parts.append("\n".join(f"- {plain(note)}" for note in notes))
    found = {name: count for name, count in counts.items() if count}
    if found:
        parts.append(markdown_table(["", "Count"], list(found.items())))
    if none := [name for name, count in counts.items() if not count]:
        parts.append(f"None: {plain(', '.join(none))}.")
    _attempt(
        create_markdown_artifact,
        markdown="\n\n".join(parts),
        key=_key(key),
        description="The run in numbers.",
    )


def publish_charts(
    key: str, charts: Sequence[Chart], *, title: str, lead: str, description: str
) -> None:
    """Show bar charts one below the other, as one markdown artifact."""
    parts = [f"# {plain(title)}", plain(lead), *(chart.markdown() for chart in charts)]
    _attempt(
        create_markdown_artifact,
        markdown="\n\n".join(parts),
        key=_key(key),
        description=plain(description),
    )


class Progress:
    """How far a run is: a progress artifact, or counts in the log when the total is unknown."""

    def __init__(
        self,
        key: str,
        *,
        description: str,
        total: int | None,
        at_most_every: timedelta = timedelta(seconds=2),
    ) -> None:
        self._key = _key(key)
        self._description = description
        self._total = total
        self._pause_seconds = at_most_every.total_seconds()
        self._done = 0
        self._artifact_id: UUID | None = None
        self._logged: int | None = None
        self._shown_percent = 0.0
        self._shown_at = time.monotonic()

    def __enter__(self) -> Self:
        """Show the beginning."""
        if self._total is not None:
            self._artifact_id = _attempt(
                create_progress_artifact,
                progress=0.0,
                key=self._key,
                description=self._description,
            )
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Show the end: everything done, or how far it came."""
        everything = not error_type and self._done >= (self._total or 0)
        self._show(100.0 if everything else self._percent)

    def advance(self, steps: int = 1) -> None:
        """Count steps as done."""
        self._done += steps
        gained = self._percent - self._shown_percent
        waited = time.monotonic() - self._shown_at
        if gained >= _PERCENT_BETWEEN_UPDATES or waited >= self._pause_seconds:
            self._show(self._percent)

    @property
    def _percent(self) -> float:
        return min(100.0, 100 * self._done / self._total) if self._total else 0.0

    def _show(self, percent: float) -> None:
        self._shown_percent, self._shown_at = percent, time.monotonic()
        if self._total is None:
            self._log()
        elif self._artifact_id is not None:
            # after a failure it is not tried again: each attempt may wait for a time-out
            self._artifact_id = _attempt(
                update_progress_artifact,
                artifact_id=self._artifact_id,
                # the UI shows every decimal place; and 100 is kept for the end
                progress=float(math.floor(percent)),
            )

    def _log(self) -> None:
        if self._done != self._logged:
            self._logged = self._done
            _logger().info("%s: %s", self._description, f"{self._done:,}")


def _attempt(
    publish: Callable[..., UUID | Coroutine[Any, Any, UUID]], **content: Any
) -> UUID | None:
    """Publish an artifact, or log that it was not possible."""
    try:
        published = publish(**content)
        if isinstance(published, UUID):
            return published
        with closing(published):  # within an asynchronous flow Prefect gives a coroutine
            return asyncio.run(published)
    except Exception as error:  # noqa: BLE001 - whatever it is, the work goes on
        # the error's text may repeat what was to be published
        _logger().warning("A report could not be published (%s).", type(error).__name__)
        return None


def _logger() -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger(__name__)


def _key(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")


def _cells(row: Mapping[str, str | int], columns: Sequence[str]) -> dict[str, str | int]:
    cells = {column: row.get(column, "") for column in columns}
    return {
        _clean(column): cell if isinstance(cell, int) else _clean(cell)
        for column, cell in cells.items()
    }


def _within_bytes(table: list[dict[str, str | int]]) -> list[dict[str, str | int]]:
    """The first rows, up to the size that Prefect takes."""
    # once more as JSON, as within an event: quotes and escapes take more room there
    sizes = accumulate(len(json.dumps(json.dumps(row))) for row in table)
    return table[: sum(1 for _ in takewhile(lambda size: size <= _TABLE_BYTES_AT_MOST, sizes))]


def _clean(text: object) -> str:
    """One line without control characters, of a length that fits into a table."""
    line = " ".join(str(text).split())
    cleaned = "".join(character for character in line if character.isprintable())
    if len(cleaned) > _CELL_CHARACTERS_AT_MOST:
        return cleaned[:_CELL_CHARACTERS_AT_MOST] + "…"
    return cleaned
