"""What the pools of a model were measured to do in batches. Pure: the clock is an argument.

Measured only while it is the pools that bound the work: in seconds in which a batch of the model has lines to send
that neither its owner nor a quota holds back. So a small batch, or one over quota, says nothing of what a large one
could get.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

# Shorter than this, the beginning of a batch and its queues count for too much.
MIN_S: Final = 10
MIN_LINES: Final = 20
MEMORY_S: Final = 60
# Older measurements are of another time; pools may have been changed since.
KEPT_MS: Final = 86_400_000


class Measure(msgspec.Struct, frozen=True):
    """What one model does per second: lines, and tokens of input and output together. `pools` says of which pools."""

    lines_per_second: float
    tokens_per_second: float
    at_ms: int
    pools: str


class Report(msgspec.Struct, frozen=True):
    """What one batcher says: measures, and lines of its batches that have no outcome yet, by model."""

    measures: dict[str, Measure] = {}
    left: dict[str, int] = {}
    at_ms: int = 0


class Meter:
    """Measures one model."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int, int]] = deque(maxlen=MEMORY_S)

    def add(self, span_ms: int, lines: int, tokens: int, *, pressed: bool) -> None:
        """What ended in the last `span_ms`; `pressed` if only the pools kept more from ending."""
        if pressed:
            self._seconds.append((span_ms, lines, tokens))
        else:
            self._seconds.clear()

    def measure(self, now_ms: int, pools: str) -> Measure | None:
        """What was measured; None if that was too little."""
        span_ms = sum(s for s, _, _ in self._seconds)
        if span_ms < 1000 * MIN_S or sum(lines for _, lines, _ in self._seconds) < MIN_LINES:
            return None
        lines, tokens = (1000 * sum(s[i] for s in self._seconds) / span_ms for i in (1, 2))
        return Measure(round(lines, 3), round(tokens, 3), now_ms, pools)


def together(reports: list[Report], model: str, pools: str, now_ms: int) -> tuple[Measure | None, int]:
    """The measure of all batchers for a model whose pools are `pools`, None if there is none; and the lines left in it.

    A batcher measures its own batches, so what several of them saw adds up; what one saw that is gone makes this too
    much rather than too little.
    """
    found = [m for r in reports if (m := r.measures.get(model)) and m.pools == pools and now_ms - m.at_ms < KEPT_MS]
    left = sum(r.left.get(model, 0) for r in reports)
    if not found:
        return None, left
    lines, tokens = sum(m.lines_per_second for m in found), sum(m.tokens_per_second for m in found)
    return Measure(lines, tokens, max(m.at_ms for m in found), pools), left
