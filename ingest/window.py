"""How many lines of batches may be on their way, and whose turn it is. Pure: the clock is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

# One line in each slot of the pool and one behind it keep it busy while results travel back.
SLOT_LINES: Final = 2
# Enough to find out how fast a pool is.
MIN_OPEN: Final = 16
# Bounds memory here and the longest possible queue in the log, whatever was measured.
MAX_OPEN: Final = 5_000
# What another tenant's lines wait behind, whose batch has just begun. Results travel back in less than a second.
OPEN_S: Final = 2
# Each 10 ms twice what admission was measured to take in that time, so that a faster one is found out, and at least 64,
# which is above what one slot takes. It spreads lines over time; how many may wait there is bounded by ahead.py.
SLICE_LINES: Final = 64
SLICE_MS: Final = 10
FASTER: Final = 2
# Slices made up for when the loop was late; what is more is left out.
LATE_SLICES: Final = 4
# Lines one tenant may send before it is the next one's turn.
TURN_LINES: Final = 8

RATE_WINDOW_MS: Final = 2_000
BUCKET_MS: Final = 100


class Rate:
    """Events per second over the last two seconds."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, int]] = deque()
        self._sum = 0

    def add(self, count: int, now_ms: int) -> None:
        """`count` events happened now."""
        bucket = now_ms - now_ms % BUCKET_MS
        if self._buckets and self._buckets[-1][0] == bucket:
            self._buckets[-1] = (bucket, self._buckets[-1][1] + count)
        else:
            self._buckets.append((bucket, count))
        self._sum += count

    def per_second(self, now_ms: int) -> float:
        """The rate at `now_ms`."""
        while self._buckets and self._buckets[0][0] <= now_ms - RATE_WINDOW_MS:
            self._sum -= self._buckets.popleft()[1]
        return self._sum * 1000 / RATE_WINDOW_MS


def slice_lines(per_second: float) -> int:
    """Lines that may be sent in one slice when admission takes `per_second`."""
    return max(SLICE_LINES, int(FASTER * per_second * SLICE_MS / 1000))


def limit(slots: int, per_second: float) -> int:
    """Lines of a model that may be open when its pool has `slots` and gives `per_second` results: what takes
    `OPEN_S` seconds, within bounds.
    """
    return min(MAX_OPEN, max(MIN_OPEN, SLOT_LINES * slots, int(OPEN_S * per_second)))


def turns(names: Iterable[str], last: str) -> list[str]:
    """Names in round-robin order, beginning with the one after `last`, which had its turn."""
    ordered = sorted(names)
    return [n for n in ordered if n > last] + [n for n in ordered if n <= last]
