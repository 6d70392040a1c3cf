"""Resident memory of processes over time, and a plot of it as an SVG."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from html import escape
from typing import Final, NamedTuple

import psutil

MIB: Final = 1024 * 1024
PERIOD_S: Final = 1.0
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 860, 320, 60, 40, 30, 130
COLOURS: Final = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
# More points than pixels tell nothing.
POINTS: Final = 600


class Sample(NamedTuple):
    """Seconds since the beginning, and MiB by process."""

    at_s: float
    mib: dict[str, float]


class Sampler:
    """Looks once a second at the processes that `pids` names; one that is away for a moment is left out."""

    def __init__(self, pids: Callable[[], dict[str, int]]) -> None:
        self.samples: list[Sample] = []
        self._pids = pids
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def at_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def peak(self, name: str) -> float:
        """The most MiB a process had; 0 if it was never seen."""
        return max((s.mib[name] for s in self.samples if name in s.mib), default=0.0)

    def _run(self) -> None:
        while True:
            self.samples.append(Sample(round(self.at_s, 1), {n: resident(p) for n, p in self._pids().items() if p}))
            if self._stop.wait(PERIOD_S):
                return


def resident(pid: int) -> float:
    """MiB of a process and its descendants; 0 if it is gone."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += each.memory_info().rss
    return round(total / MIB, 1)


def svg(title: str, samples: Sequence[Sample], marks: Iterable[tuple[float, str]] = (), bound: float = 0) -> str:
    """A plot of samples, with named moments (seconds) and a bound in MiB. Pure."""
    names = sorted({name for sample in samples for name in sample.mib})
    long = max((s.at_s for s in samples), default=1.0) or 1.0
    high = 1.15 * max((v for s in samples for v in s.mib.values()), default=1.0)
    high = max(high, 1.1 * bound)

    def x(at_s: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * at_s / long, 1)

    def y(mib: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * mib / high, 1)

    head = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {head}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><text x="{LEFT}" y="18">{escape(title)}</text>',
    ]
    for i in range(5):
        mib, at_s = high * i / 4, long * i / 4
        out.append(f'<path d="M{LEFT} {y(mib)}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y(mib) + 4}" text-anchor="end">{mib:.0f} MiB</text>')
        out.append(f'<text x="{x(at_s)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{at_s:.0f} s</text>')
    if bound:
        out.append(f'<path d="M{LEFT} {y(bound)}H{WIDTH - RIGHT}" stroke="#888" stroke-dasharray="4 3"/>')
    for i, (at_s, text) in enumerate(marks):
        out.append(f'<path d="M{x(at_s)} {TOP}V{HEIGHT - BOTTOM}" stroke="#bbb"/>')
        out.append(f'<text x="{x(at_s) + 3}" y="{HEIGHT - BOTTOM - 8 - 14 * i}" fill="#666">{escape(text)}</text>')
    for i, name in enumerate(names):
        colour = COLOURS[i % len(COLOURS)]
        seen = [s for s in samples if name in s.mib]
        seen = seen[:: 1 + len(seen) // POINTS]
        path = "L".join(f"{x(s.at_s)} {y(s.mib[name])}" for s in seen)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        out.append(f'<text x="{WIDTH - RIGHT + 8}" y="{TOP + 14 + 16 * i}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>\n"])
