"""What `up` shows while it works: a live table on a terminal, a line for each event elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

REFRESH_HZ: Final = 8


class Progress:
    """Steps and their state. May be used from several threads."""

    def __init__(self, names: list[str]) -> None:
        self._console = Console(file=sys.stderr)
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._ended: dict[str, float | None] = dict.fromkeys(names)
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=REFRESH_HZ)

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def done(self, name: str) -> None:
        """Mark a step as done."""
        seconds = time.monotonic() - self._began
        with self._lock:
            self._ended[name] = seconds
        if not self._live:
            count = sum(end is not None for end in self._ended.values())
            self._console.print(f"[{count:2}/{len(self._ended)}] {name} ready after {seconds:.1f} s", markup=False)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        with self._lock:
            for name, end in self._ended.items():
                mark = Spinner("dots") if end is None else "[green]✓[/green]"
                now = time.monotonic() - self._began
                table.add_row(mark, name, f"[dim]{now if end is None else end:5.1f} s[/dim]")
        return table
