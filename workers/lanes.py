"""Which lane of a pool starts next. Pure: the clock is an argument, so the same calls choose the same again.

Strict priority starves batch, earliest deadline ruins interactive; guaranteed shares keep both. This is stride
scheduling (Waldspurger 1995) over slot time: each lane has a virtual time that grows by the slot time it used
divided by its share, and the lane furthest behind goes first. A lane that was idle starts at the present, so it
banks no credit. A start is charged what the lane's requests took lately, and corrected when the request ends.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

from schemas.topics import LANES

SHARES: Final = {"interactive": 0.7, "standard": 0.2, "batch": 0.1}
# Interactive traffic counts as present for this long after its last arrival; a person's pause between two questions.
RECENT_MS: Final = 10_000
# The part of the slots that only interactive work may take while it is present.
RESERVE: Final = 0.25
FIRST_ESTIMATE_MS: Final = 100.0
SMOOTHING: Final = 0.2


class _Lane:
    __slots__ = ("estimate_ms", "running", "share", "virtual")

    def __init__(self, share: float) -> None:
        self.share = share
        self.virtual = 0.0
        self.running = 0
        self.estimate_ms = FIRST_ESTIMATE_MS


class Lanes:
    """The lanes of one pool in one worker, over `slots` slots."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._lanes = {name: _Lane(SHARES[name]) for name in LANES}
        self._backlogged: frozenset[str] = frozenset()
        self._virtual = 0.0
        self._interactive_at_ms: int | None = None

    @property
    def running(self) -> int:
        """Requests that hold a slot."""
        return sum(lane.running for lane in self._lanes.values())

    def busy(self, name: str) -> int:
        """Slots that a lane's requests hold."""
        return self._lanes[name].running

    def arrive(self, lane: str, now_ms: int) -> None:
        """Note that work arrived: interactive work keeps the reserve up."""
        if lane == "interactive":
            self._interactive_at_ms = now_ms

    def choose(self, waiting: Collection[str], now_ms: int) -> str | None:
        """The lane, among those with work waiting, whose next request shall start now; None if none may."""
        for name in waiting:
            if name not in self._backlogged:
                lane = self._lanes[name]
                lane.virtual = max(lane.virtual, self._virtual)
        self._backlogged = frozenset(waiting)
        ready = [name for name in LANES if name in waiting and self._may_start(name, now_ms)]
        return min(ready, key=lambda name: self._lanes[name].virtual, default=None)

    def _may_start(self, name: str, now_ms: int) -> bool:
        free = self.slots - self.running
        if free <= 0:
            return False
        if name == "interactive" or self._interactive_at_ms is None:
            return True
        if now_ms - self._interactive_at_ms > RECENT_MS:
            return True
        # The reserve never takes a lane's own share away, or a saturated interactive lane would starve it.
        guaranteed = math.ceil(self.slots * SHARES[name])
        return free > int(self.slots * RESERVE) or self._lanes[name].running < guaranteed

    def start(self, name: str) -> float:
        """Take a slot for `name`; the charge in ms, to be given back to `finish`."""
        assert self.running < self.slots, "a start without a free slot"
        lane = self._lanes[name]
        lane.running += 1
        self._virtual = max(self._virtual, lane.virtual)
        lane.virtual += lane.estimate_ms / lane.share
        return lane.estimate_ms

    def finish(self, name: str, charge_ms: float, took_ms: float) -> None:
        """Give the slot back; what it took replaces what it was charged."""
        lane = self._lanes[name]
        assert lane.running > 0, "a finish without a start"
        lane.running -= 1
        lane.virtual += (took_ms - charge_ms) / lane.share
        lane.estimate_ms += SMOOTHING * (max(1.0, took_ms) - lane.estimate_ms)
