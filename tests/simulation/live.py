"""The live view of the simulated world, over a dictionary in place of Redis: it may be lost at any time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from schemas.wire import Codec
from streams import progress
from tests.oracle.books import Books

CODEC = Codec.offline()
# Windows are shown for a day.
RECENT_MS = 24 * 3_600_000
Topics = Mapping[str, list[tuple[str, bytes]]]


class LiveView:
    """Folds `usage` and `batch_results` with the product's own folds, from where it stopped or from the beginning."""

    def __init__(self) -> None:
        self.lose()

    def lose(self) -> None:
        """Redis is empty."""
        self.places: Counter[str] = Counter()
        self.windows: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.lines: defaultdict[str, dict[int, progress.Line]] = defaultdict(dict)

    def fold(self, topics: Topics, committed: Mapping[str, int], now_ms: int) -> None:
        """Read on, up to what is committed."""
        for key, window in progress.fold_usage(self._next(topics, committed, "usage"), now_ms).items():
            self.windows[key].update(window.fields())
        for batch, lines in progress.fold_results(self._next(topics, committed, "batch_results")).items():
            for line in lines:
                self.lines[batch].setdefault(line.line, line)

    def _next(self, topics: Topics, committed: Mapping[str, int], topic: str) -> list[Any]:
        begin, self.places[topic] = self.places[topic], committed.get(topic, 0)
        return [CODEC.decode(value)[1] for _, value in topics.get(topic, [])[begin : self.places[topic]]]

    def check(self, books: Books, now_ms: int) -> None:
        """However often it was lost, it shows what the auditor counted."""
        for (tenant, minute), sums in books.minutes.items():
            key = progress.window_key(tenant, minute * 60_000)
            if now_ms - minute * 60_000 < RECENT_MS:
                shown = tuple(self.windows[key][name] for name in progress.FIELDS)
                assert shown == tuple(sums), f"the live view shows {shown} for {key}, not {sums}"
        lines = {(batch, line) for batch, done in self.lines.items() for line in done}
        assert lines == books.results.keys(), "the live view shows other progress than the topics"
