"""Progress of a run, as an artifact."""

import math
import time
from datetime import timedelta
from types import TracebackType
from typing import Self
from uuid import UUID

from prefect_tracktor.reporting.artifacts import logger, publish, update
from prefect_tracktor.reporting.markdown import plain

_LOGGED_AT_MOST_EVERY = timedelta(minutes=1).total_seconds()


class Progress:
    """Progress bar; without a total, the number so far, which is also logged once a minute.

    The artifact exists from the first second.
    """

    def __init__(
        self,
        key: str,
        *,
        description: str,
        total: int | None,
        at_most_every: timedelta = timedelta(seconds=2),
    ) -> None:
        self._key = key
        self._description = description
        self._total = total
        self._pause_seconds = at_most_every.total_seconds()
        self._done = 0
        self._artifact_id: UUID | None = None
        self._logged: int | None = None
        self._shown_at = self._logged_at = time.monotonic()

    def __enter__(self) -> Self:
        self._artifact_id = publish(
            self._key,
            type="markdown" if self._total is None else "progress",
            data=self._so_far(" so far") if self._total is None else 0.0,
            description=self._description,
        )
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        everything = not error_type and self._done >= (self._total or 0)
        self._show(100.0 if everything else self._percent, "" if everything else " when it failed")
        self._log(if_waited=0)

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        # each update is a request, and most runs take less time than twenty of them
        if time.monotonic() - self._shown_at >= self._pause_seconds:
            self._show(self._percent, " so far")
            self._log(if_waited=_LOGGED_AT_MOST_EVERY)

    @property
    def _percent(self) -> float:
        return min(100.0, 100 * self._done / self._total) if self._total else 0.0

    def _so_far(self, when: str) -> str:
        return f"{plain(self._description)}: **{self._done:,}**{when}"

    def _show(self, percent: float, when: str) -> None:
        self._shown_at = time.monotonic()
        if self._artifact_id is not None:
            # rounded down, as the UI shows all decimal places; 100 is for the end
            shown = self._so_far(when) if self._total is None else float(math.floor(percent))
            # after an error there are no more updates, as each may wait for a timeout
            self._artifact_id = update(self._artifact_id, shown)

    def _log(self, if_waited: float) -> None:
        waited = time.monotonic() - self._logged_at
        if self._total is None and self._done != self._logged and waited >= if_waited:
            self._logged, self._logged_at = self._done, time.monotonic()
            logger().info("%s: %s", self._description, f"{self._done:,}")
