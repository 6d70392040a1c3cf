"""Charts as SVG text, for a page that stands alone: columns, bars, ranges. Pure.

Each says in words what it shows, for those who do not see it; colours differ in lightness too, and never tell alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 640
# Of a chart that has the page's whole width.
WIDE: Final = 1120
LABELS: Final = 14
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 10, 28
# Of Okabe and Ito's palette, darkened until each stands out from white by 3 to 1; what is left over is grey.
COLOURS: Final = ("#0b62a4", "#c75000", "#00805c", "#8a4fa3", "#a6761d", "#2b8fae", "#b5477c")
REST: Final = "#7d8790"
OTHERS: Final = "others"


class Range(NamedTuple):
    """Three quantiles of a group."""

    label: str
    p50: float
    p95: float
    p99: float


def number(value: float) -> str:
    """A number in few characters: 950, 1.2 k, 3.4 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}" if value % 1 else f"{value:.0f}"


def ticks(most: float) -> list[float]:
    """Up to five round numbers from 0 to the first that is not below `most`."""
    if most <= 0:
        return [0.0, 1.0]
    unit = 10.0 ** math.floor(math.log10(most / 5))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if most <= 5 * unit * factor)
    count = -int(-most // step)
    return [step * i for i in range(count + 1)]


def colour(name: str, index: int) -> str:
    """The colour of the series at `index`."""
    return REST if name == OTHERS else COLOURS[index % len(COLOURS)]


def _frame(title: str, told: str, height: int, body: Sequence[str], width: int = WIDTH) -> str:
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(f"{title}. {told}")}">'
    return "\n".join([head, f"<title>{escape(title)}</title>", *body, "</svg>"])


def columns(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], height: int = 240) -> str:
    """Stacked columns, one for each label, in the order of `series`."""
    totals = [sum(values[i] for values in series.values()) for i in range(len(labels))]
    marks = ticks(max(totals, default=0))
    inner, base = WIDE - LEFT - RIGHT, height - BOTTOM
    scale = (base - TOP) / marks[-1]
    body = []
    for mark in marks:
        y = base - mark * scale
        body.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDE - RIGHT}"/>')
        body.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number(mark)}</text>')
    slot = inner / max(1, len(labels))
    every = -(-len(labels) // LABELS)
    for i, label in enumerate(labels):
        y = float(base)
        for index, (name, values) in enumerate(series.items()):
            size = values[i] * scale
            if size > 0:
                y -= size
                hint = escape(f"{label}, {name}: {number(values[i])}")
                place = f'x="{LEFT + i * slot + slot * 0.12:.1f}" y="{y:.1f}" width="{slot * 0.76:.1f}"'
                body.append(
                    f'<rect {place} height="{size:.1f}" fill="{colour(name, index)}"><title>{hint}</title></rect>'
                )
        if i % every == 0:
            x = LEFT + (i + 0.5) * slot
            body.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{escape(label)}</text>')
    told = "; ".join(f"{name} {number(sum(values))}" for name, values in series.items())
    return _frame(title, told, height, body, WIDE)


def bars(title: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """A bar for each (label, value, what is written beside it)."""
    height, names, most = 26 * max(1, len(rows)) + 8, 170, max((value for _, value, _ in rows), default=0)
    scale = (WIDTH - names - 130) / (most or 1)
    body = []
    for i, (label, value, shown) in enumerate(rows):
        y, size = 4 + 26 * i, max(1.0, value * scale)
        body.append(f'<text x="{names - 8}" y="{y + 15}" text-anchor="end">{escape(_cut(label, 26))}</text>')
        body.append(f'<rect x="{names}" y="{y + 3}" width="{size:.1f}" height="16" rx="2" fill="{COLOURS[0]}"/>')
        body.append(f'<text x="{names + size + 8:.1f}" y="{y + 15}" class="value">{escape(shown)}</text>')
    return _frame(title, "; ".join(f"{label} {shown}" for label, _, shown in rows), height, body)


def ranges(title: str, rows: Sequence[Range], unit: str) -> str:
    """For each group a line from its median to its 99th percentile, with the 95th on the way."""
    height, names = 30 * max(1, len(rows)) + 34, 170
    marks = ticks(max((row.p99 for row in rows), default=0))
    scale, base = (WIDTH - names - 24) / marks[-1], height - 24
    body = []
    for mark in marks:
        x = names + mark * scale
        body.append(f'<path class="grid" d="M{x:.1f} 4V{base}"/>')
        body.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{number(mark)}</text>')
    for i, row in enumerate(rows):
        y = 20 + 30 * i
        x50, x95, x99 = (names + value * scale for value in (row.p50, row.p95, row.p99))
        hint = escape(f"{row.label}: p50 {row.p50:.0f}, p95 {row.p95:.0f}, p99 {row.p99:.0f} {unit}")
        body.append(f'<text x="{names - 8}" y="{y + 4}" text-anchor="end">{escape(_cut(row.label, 26))}</text>')
        body.append(f'<g><title>{hint}</title><path class="range" d="M{x50:.1f} {y}H{x99:.1f}"/>')
        body.append(f'<circle cx="{x50:.1f}" cy="{y}" r="6" fill="{COLOURS[0]}"/>')
        body.append(f'<path class="tick" d="M{x95:.1f} {y - 7}V{y + 7}"/>')
        body.append(f'<circle cx="{x99:.1f}" cy="{y}" r="5" class="hollow"/></g>')
    told = "; ".join(f"{r.label} p50 {r.p50:.0f}, p95 {r.p95:.0f}, p99 {r.p99:.0f} {unit}" for r in rows)
    return _frame(title, told, height, body)


def legend(names: Sequence[str]) -> str:
    """The names of a chart's series beside their colours."""
    items = (f'<li><i style="background:{colour(n, i)}"></i>{escape(n)}</li>' for i, n in enumerate(names))
    return f'<ul class="legend">{"".join(items)}</ul>'


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
