"""What the demo shows while it waits: a bar per lane and the streamed answer on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

REFRESH_HZ: Final = 8
# Without a terminal a lane gets a line for each tenth of its work.
TENTHS: Final = 10
# The frame, and 96 tokens on a terminal of 80 columns.
PANEL_LINES: Final = 8


class Board:
    """Lanes and how far they are. May be used from several threads."""

    def __init__(self, console: Console, lanes: dict[str, int]) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._bars = Progress(
            TextColumn("{task.description:12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {n: self._bars.add_task(n, total=t, note="") for n, t in lanes.items()}
        self._shown = dict.fromkeys(lanes, -1)
        self._streamed = Text()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=REFRESH_HZ)

    def __enter__(self) -> Board:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, lane: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` requests of a lane have their outcome; `note` is a word on its state."""
        with self._lock:
            self._bars.update(self._tasks[lane], completed=done, total=total, note=note)
            step = tenth(done, total)
            if not self._console.is_terminal and step != self._shown[lane]:
                self._shown[lane] = step
                self._say(f"{lane:12} {done:3}/{total}  {note}")

    def stream(self, piece: str, end: bool = False) -> None:
        """The next piece of the streamed answer."""
        with self._lock:
            self._streamed.append(piece)
            if end and not self._console.is_terminal:
                self._say(f"streamed: {' '.join(self._streamed.plain.split())}")

    def _say(self, line: str) -> None:
        self._console.print(f"[{time.monotonic() - self._began:5.1f} s] {line}", markup=False, highlight=False)

    def _render(self) -> Group:
        with self._lock:
            text = self._streamed.copy()
        return Group(self._bars, Panel(text, title="a streamed answer", title_align="left", height=PANEL_LINES))


def tenth(done: int, total: int) -> int:
    """How many whole tenths of the work are done."""
    return TENTHS * done // total if total else 0
