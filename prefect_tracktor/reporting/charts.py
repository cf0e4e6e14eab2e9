"""Charts as SVG images in markdown, each with its numbers as text and as a table."""

import math
import unicodedata
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate

from prefect_tracktor.reporting.markdown import Cell, clean, markdown_table, plain

# readable on a phone, where an image is as wide as the page
_WIDTH = 440
_LEFT, _RIGHT = 16, 424
_LABEL_COLUMNS = 34
_BAR_PITCH = 48
_TREND_HEIGHT = 150
# the panel brings its background, so that its text is readable whichever theme the page has
_STYLE = (
    "text{font:15px system-ui,sans-serif;fill:#1f2937}.n{font-weight:600}.s{font-size:12px;"
    "fill:#4b5563}.p{fill:#fff;stroke:#d1d5db}.b{fill:#2563eb}.g{stroke:#e5e7eb}"
    "@media(prefers-color-scheme:dark){text{fill:#f3f4f6}.s{fill:#b6bcc8}"
    ".p{fill:#17191f;stroke:#3f4552}.b{fill:#60a5fa}.g{stroke:#343944}}"
)


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar chart: how many of what, each bar with its number and its share."""

    title: str
    header: str
    unit: str
    counts: Mapping[str, int]

    def markdown(self) -> str:
        """Write the chart: an image, then its numbers as a table."""
        total = sum(self.counts.values())
        shares = {name: f"{n / total:.0%}" if total else "" for name, n in self.counts.items()}
        rows: list[list[Cell]] = [[name, n, shares[name]] for name, n in self.counts.items()]
        table = markdown_table([self.header, self.unit, "Share"], rows)
        parts = [f"## {plain(self.title)}"]
        if total:
            said = ", ".join(f"{name} {n:,}" for name, n in self.counts.items())
            drawing = _bars(list(self.counts.items()), shares)
            parts.append(_image(drawing, f"Bar chart of {self.unit.lower()}: {said}"))
        return "\n\n".join([*parts, table])


@dataclass(frozen=True, slots=True)
class Trend:
    """A count in the last runs, from the oldest to this one: when, and how many of how many."""

    unit: str
    points: Sequence[tuple[str, int, int]]

    def markdown(self) -> str:
        """Write the trend: an image, then its numbers as a table, the newest first."""
        said = ", ".join(f"{when}: {count:,}" for when, count, _ in self.points)
        drawing = _columns([(when, count) for when, count, _ in self.points])
        rows = list(reversed(self.points))
        return "\n\n".join(
            [
                "## The last runs",
                _image(drawing, f"Column chart of {self.unit.lower()} by run: {said}"),
                markdown_table(["Run (UTC)", self.unit, "Of"], rows),
            ]
        )


def ticks(most: int) -> list[int]:
    """Round, whole numbers from zero to at least the largest count, evenly apart, five at most."""
    power = 10 ** max(0, int(math.log10(max(1, most))) - 1)
    steps = (power * step for step in (1, 2, 5, 10, 20, 25, 50, 100))
    step = next(step for step in steps if step * 4 >= most)
    return list(range(0, max(1, -(-most // step)) * step + 1, step))


def _image(drawing: Iterator[str], alt: str) -> str:
    # a markdown reader unescapes an image's text before it puts it into the page, escaped again
    data = b64encode("".join(drawing).encode("utf-8", "replace")).decode()
    return f"![{plain(alt)}](data:image/svg+xml;base64,{data})"


def _svg(height: int, body: Iterator[str]) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        f' viewBox="0 0 {_WIDTH} {height}"><style>{_STYLE}</style>'
        f'<rect class="p" x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>'
    )
    yield from body
    yield "</svg>"


def _text(x: float, y: float, text: str, *, style: str = "", anchor: str = "start") -> str:
    shown = escape(_shortened(clean(text)))
    return f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{shown}</text>'


def _shortened(label: str) -> str:
    """As much of a label as fits on its line; letters of some scripts are twice as wide."""
    widths = accumulate(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in label)
    fitting = sum(1 for width in widths if width <= _LABEL_COLUMNS)
    return label if fitting == len(label) else f"{label[: fitting - 1]}…"


def _bars(counts: Sequence[tuple[str, int]], shares: Mapping[str, str]) -> Iterator[str]:
    """Horizontal bars, each below its name and number, over a scale from zero."""
    scale = ticks(max(count for _, count in counts))
    bottom = 16 + _BAR_PITCH * len(counts)
    unit = (_RIGHT - _LEFT) / scale[-1]

    def body() -> Iterator[str]:
        for tick in scale:
            x, anchor = _LEFT + tick * unit, "middle"
            anchor = {0: "start", scale[-1]: "end"}.get(tick, anchor)
            yield f'<path class="g" d="M{x:g} 12V{bottom}"/>'
            yield _text(x, bottom + 18, f"{tick:,}", style="s", anchor=anchor)
        for row, (name, count) in enumerate(counts):
            y = 28 + row * _BAR_PITCH
            yield _text(_LEFT, y, name)
            yield _text(_RIGHT, y, f"{count:,} · {shares[name]}", style="n", anchor="end")
            # what is there at all is seen
            width = max(1.5, count * unit) if count else 0
            yield f'<rect class="b" x="{_LEFT}" y="{y + 7}" width="{width:.1f}" height="14"/>'

    return _svg(bottom + 28, body())


def _columns(points: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Columns from left to right, beside a scale from zero; the first and the last are named."""
    scale = ticks(max(count for _, count in points))
    bottom, left = 24 + _TREND_HEIGHT, 64
    pitch = (_RIGHT - left) / len(points)
    unit = _TREND_HEIGHT / scale[-1]

    def body() -> Iterator[str]:
        for tick in scale:
            y = bottom - tick * unit
            yield f'<path class="g" d="M{left} {y:g}H{_RIGHT}"/>'
            yield _text(left - 8, y + 4, f"{tick:,}", style="s", anchor="end")
        for place, (_, count) in enumerate(points):
            height = max(1.5, count * unit) if count else 0
            yield (
                f'<rect class="b" x="{left + pitch * (place + 0.15):.1f}" width="{pitch * 0.7:.1f}"'
                f' y="{bottom - height:.1f}" height="{height:.1f}"/>'
            )
        yield _text(left, bottom + 20, points[0][0], style="s")
        yield _text(
            _RIGHT, bottom + 20, f"{points[-1][0]}: {points[-1][1]:,}", style="s", anchor="end"
        )

    return _svg(bottom + 32, body())
