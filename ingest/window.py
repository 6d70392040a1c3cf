"""How many lines of batches may be on their way, and whose turn it is. Pure: the clock is an argument."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Final

# One line in each slot that is at work and one behind it keep it busy while results travel back.
SLOT_LINES: Final = 2
# What is on its way to the pool and back beside that: the lines of WAY_S, or this many where those are fewer and these
# do not take longer than OPEN_S. WAY_S must be longer than the way takes when nothing waits on it, a quarter of a
# second on a slow machine: with less, too few open lines make a low rate, and a low rate keeps them few. A pool that
# takes no time has its queue in the log, in the way of everyone whose records are in it; one that is slow has it in its
# workers, where tenants take turns.
WAY_S: Final = 0.3
WAY_LINES: Final = 256
# Enough to find out how fast a pool is.
MIN_OPEN: Final = 16
# Bounds memory here and the longest possible queue in the log, whatever was measured.
MAX_OPEN: Final = 5_000
OPEN_S: Final = 2
# How much one line changes what a line of its model is taken to need of a slot.
SMOOTHING: Final = 0.05
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


class Need:
    """How long a line of a model holds a slot of its pool, in ms: an average that follows what was measured."""

    def __init__(self) -> None:
        self.ms: float | None = None

    def add(self, took_ms: int) -> None:
        """One line was measured."""
        self.ms = took_ms if self.ms is None else self.ms + SMOOTHING * (took_ms - self.ms)


def limit(slots: int, per_second: float, need_ms: float | None = None) -> int:
    """Lines of a model that may be open when its pool has `slots` and gives `per_second` results, each of which held a
    slot for `need_ms`; None while that is not known, and every slot is taken to be at work.
    """
    busy = slots if need_ms is None else min(slots, math.ceil(per_second * need_ms / 1000))
    way = max(WAY_S * per_second, min(WAY_LINES, OPEN_S * per_second))
    return min(MAX_OPEN, max(MIN_OPEN, SLOT_LINES * busy + int(way)))


class Room:
    """Lines of one model that may still be sent: up to `most` open in all, and, where others have filled that, by a
    tenant that has less than its even share of it. So there are never twice as many.
    """

    def __init__(self, most: int = 0) -> None:
        self.most = most
        self._open: dict[str, int] = {}
        self._total = 0

    def take(self, tenant: str, lines: int = 1) -> None:
        """So many lines of a tenant, which has a batch of the model, are open, or none yet."""
        self._open[tenant] = self._open.get(tenant, 0) + lines
        self._total += lines

    @property
    def left(self) -> int:
        """What is left for everyone; less than nothing where shares were taken beyond it."""
        return self.most - self._total

    def allows(self, tenant: str) -> bool:
        """Whether a tenant may send one more."""
        return self.left > 0 or self._open.get(tenant, 0) < self.most // max(1, len(self._open))


def turns(names: Iterable[str], last: str) -> list[str]:
    """Names in round-robin order, beginning with the one after `last`, which had its turn."""
    ordered = sorted(names)
    return [n for n in ordered if n > last] + [n for n in ordered if n <= last]
