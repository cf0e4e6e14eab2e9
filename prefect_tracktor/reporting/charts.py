"""Charts as SVG images in markdown, each with its numbers as text and as a table."""

import math
import unicodedata
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import TYPE_CHECKING

from prefect_tracktor.reporting.markdown import Cell, clean, markdown_table, plain

if TYPE_CHECKING:
    from jinja2 import Template

_LABEL_COLUMNS = 34


@dataclass(frozen=True, slots=True)
class Chart:
    """Bar chart of counts, with the number and the share of each bar."""

    title: str
    header: str
    unit: str
    counts: Mapping[str, int]

    def markdown(self) -> str:
        """Return an image, and the numbers as a table."""
        total = sum(self.counts.values())
        shares = {name: f"{n / total:.0%}" if total else "" for name, n in self.counts.items()}
        rows: list[list[Cell]] = [[name, n, shares[name]] for name, n in self.counts.items()]
        parts = [f"## {plain(self.title)}"]
        if total:
            text = ", ".join(f"{name} {n:,}" for name, n in self.counts.items())
            bars = [(name, f"{n:,} · {shares[name]}", n) for name, n in self.counts.items()]
            parts.append(_image(f"Bar chart of {self.unit.lower()}: {text}", bars))
        return "\n\n".join([*parts, markdown_table([self.header, self.unit, "Share"], rows)])


@dataclass(frozen=True, slots=True)
class Trend:
    """Counts of the last runs, from the oldest to this one: time, count and total."""

    unit: str
    points: Sequence[tuple[str, int, int]]

    def markdown(self) -> str:
        """Return an image, and the numbers as a table, the newest first."""
        text = ", ".join(f"{when}: {count:,}" for when, count, _ in self.points)
        alt = f"Column chart of {self.unit.lower()} by run: {text}"
        bars = [(when, f"{count:,}", count) for when, count, _ in self.points]
        table = markdown_table(["Run (UTC)", self.unit, "Of"], list(reversed(self.points)))
        return "\n\n".join(["## The last runs", _image(alt, bars, columns=True), table])


def ticks(most: int) -> list[int]:
    """Return up to five round numbers for an axis, from zero to at least the largest count."""
    power = 10 ** max(0, int(math.log10(max(1, most))) - 1)
    steps = (power * step for step in (1, 2, 5, 10, 20, 25, 50, 100))
    step = next(step for step in steps if step * 4 >= most)
    return list(range(0, max(1, -(-most // step)) * step + 1, step))


def _image(alt: str, bars: Sequence[tuple[str, str, int]], *, columns: bool = False) -> str:
    """Draw bars with their names and labels, horizontally or as columns."""
    scale = ticks(max(count for _, _, count in bars))
    drawing = _template().render(bars=bars, ticks=scale, columns=columns)
    # markdown unescapes an image's text before it escapes it for the page
    data = b64encode(drawing.encode("utf-8", "replace")).decode()
    return f"![{plain(alt)}](data:image/svg+xml;base64,{data})"


@cache
def _template() -> "Template":
    from jinja2 import Environment  # 15 ms, and most runs draw nothing

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["short"] = _shortened
    return environment.from_string((files(__package__) / "charts.svg.jinja").read_text("utf-8"))


def _shortened(label: str) -> str:
    """Shorten a label to the width of its line; letters of some scripts are twice as wide."""
    label = clean(label)
    widths: Iterable[int] = accumulate(
        1 + (unicodedata.east_asian_width(letter) in "WF") for letter in label
    )
    fitting = sum(1 for width in widths if width <= _LABEL_COLUMNS)
    return label if fitting == len(label) else f"{label[: fitting - 1]}…"
