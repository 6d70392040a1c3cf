"""Whether interactive callers are there, and whether they are back so soon that nothing should begin before. Pure.

They are there while any of their requests runs or waits, and for a hold-off after the last: within a burst, the next
one comes after a gap much like the gaps before. So the hold-off is as long as nearly all gaps of late. Where callers
come one by one, far apart, it is not worth waiting for them, and the hold-off is short.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

# Bounds of the hold-off. A longer gap ends a burst.
LEAST_MS: Final = 50
MOST_MS: Final = 2_000
# So many gaps are remembered, and this part of them is waited out.
GAPS: Final = 64
PART: Final = 0.95


class Presence:
    """Of the interactive lane of one pool. Times in ms."""

    def __init__(self) -> None:
        self._gaps: deque[int] = deque(maxlen=GAPS)
        self._quiet_since: int | None = None
        self._last = -MOST_MS
        self._hold_off_ms: int | None = LEAST_MS

    def arrive(self, now_ms: int, *, running: bool) -> None:
        """A request came; `running` says whether others run."""
        if self._quiet_since is not None and not running:
            self._gaps.append(now_ms - self._quiet_since)
            self._hold_off_ms = None
        self._quiet_since = None
        self._last = now_ms

    def finish(self, now_ms: int, *, running: bool) -> None:
        """A request ended; `running` says whether others still run."""
        self._last = now_ms
        if not running:
            self._quiet_since = now_ms

    def soon(self) -> int:
        """When even the shortest hold-off ends."""
        return self._last + LEAST_MS

    def until(self, part: float = 1.0) -> int:
        """When this part of the hold-off ends if nothing runs, waits, or comes."""
        if self._hold_off_ms is None:
            self._hold_off_ms = hold_off_ms(self._gaps)
        return self._last + int(part * self._hold_off_ms)


def hold_off_ms(gaps_ms: deque[int]) -> int:
    """How long to wait for the next request after such gaps."""
    near = sorted(gap for gap in gaps_ms if gap <= MOST_MS)
    if not near or 2 * len(near) < len(gaps_ms):
        return LEAST_MS
    nearly_all = near[math.ceil(PART * len(near)) - 1]
    return max(LEAST_MS, nearly_all)
