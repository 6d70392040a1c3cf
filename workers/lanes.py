"""Which lane of a pool starts next, and what is in the way. Pure: the clock is an argument.

Strict priority starves batch, earliest deadline ruins interactive; guaranteed shares keep both. While interactive
callers are there (workers/presence.py) the others have what they are owed (workers/credit.py): such a lane goes first,
up to its guaranteed slots. Beyond that, an engine whose work can be stopped is left to the interactive callers alone,
and what harvests it is stopped; on another one, a reserve of slots is kept free (workers/reserve.py). In a gap between
two calls one piece of work runs alone, so that the next call waits for one small step: what was stopped goes on at
once, since it has no prompt to be read, and after half of the hold-off a new one may begin.

While they are away the others share it all, by stride scheduling (Waldspurger 1995) over slot time: each lane has a
virtual time that grows by the slot time it used divided by its share, and the lane furthest behind goes first. A lane
that was idle starts at the present, so it banks no credit. A start is charged what the lane's requests took lately,
and corrected when the request ends.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

from schemas.config import Protection
from schemas.topics import LANES
from workers.credit import Credit
from workers.presence import Presence
from workers.reserve import Reserve

SHARES: Final = {"interactive": 0.7, "standard": 0.2, "batch": 0.1}
FIRST: Final = "interactive"
# Debt and credit of a lane, as ms of its share. Standard has callers who wait; batch harvests, and waits for hours.
HORIZON_MS: Final = {"standard": 5_000, "batch": 30_000}
SAVED_MS: Final = {"standard": 1_000, "batch": 20_000}
# Batch that can be stopped begins when it may run this long in its guaranteed slots: each stop repeats some tokens.
STRETCH_MS: Final = 1_000
# Of the hold-off, before a new piece of work begins in it.
HALF: Final = 0.5
# Where the reserve keeps work waiting, look again after this.
AGAIN_MS: Final = 500
FIRST_ESTIMATE_MS: Final = 100.0
SMOOTHING: Final = 0.2


class _Lane:
    __slots__ = ("credit", "estimate_ms", "running", "share", "virtual")

    def __init__(self, name: str) -> None:
        self.share = SHARES[name]
        self.credit = Credit(self.share, HORIZON_MS.get(name, 0), SAVED_MS.get(name, 0))
        self.virtual = 0.0
        self.running = 0
        self.estimate_ms = FIRST_ESTIMATE_MS


class Lanes:
    """The lanes of one pool in one worker, over `slots` slots. `stops` says that running batch work can be stopped."""

    def __init__(self, slots: int, protection: Protection = "full", *, stops: bool = True) -> None:
        self.slots, self.protection, self.stops = slots, protection, stops
        self.presence, self.reserve = Presence(), Reserve()
        self._lanes = {name: _Lane(name) for name in LANES}
        self._others = {name: lane for name, lane in self._lanes.items() if name != FIRST}
        self._backlogged: frozenset[str] = frozenset()
        self._virtual = 0.0

    @property
    def running(self) -> int:
        """Requests that hold a slot."""
        return sum(lane.running for lane in self._lanes.values())

    def busy(self, name: str) -> int:
        """Requests of a lane that hold a slot."""
        return self._lanes[name].running

    def arrive(self, lane: str, now_ms: int) -> None:
        """Note that work arrived."""
        if lane == FIRST:
            self.presence.arrive(now_ms, running=self._lanes[FIRST].running > 0)
            self.reserve.arrive(now_ms)
        elif lane not in self._backlogged and not self._lanes[lane].running:
            self._lanes[lane].credit.advance(now_ms, self.slots, 0, waiting=False)

    def reserved(self, now_ms: int) -> int:
        """Slots that are kept free for interactive work; none where running batch work can be stopped for it."""
        return 0 if self.stops or self.protection != "full" else self.reserve.slots(self.slots, now_ms)

    def first_token(self, waited_ms: float, now_ms: int) -> None:
        """Note that an interactive request's first token came so long after it arrived."""
        self.reserve.first_token(waited_ms, now_ms, beside=any(lane.running for lane in self._others.values()))

    def present(self, waiting: Collection[str], now_ms: int) -> bool:
        """Whether interactive callers are there."""
        return FIRST in waiting or self._lanes[FIRST].running > 0 or now_ms < self.presence.until()

    def _in_gap(self, waiting: Collection[str], now_ms: int) -> bool:
        """Whether interactive callers, who are there, have nothing that runs or waits just now."""
        return FIRST not in waiting and not self._lanes[FIRST].running and now_ms >= self.presence.soon()

    def choose(self, waiting: Collection[str], now_ms: int, *, resumes: bool = False) -> str | None:
        """The lane, among those with work waiting, whose next request shall start now; None if none may.

        `resumes` says that the next one of batch was stopped, and goes on.
        """
        self._note_backlog(waiting)
        free = self.slots - self.running
        if free <= 0 or not waiting:
            return None
        first = FIRST if FIRST in waiting else None
        others = [name for name in self._others if name in waiting]
        if self.protection != "full" or not others:
            return first or next(iter(others), None)
        present = self.present(waiting, now_ms)
        if present:
            self._advance(waiting, now_ms)
            owed = [name for name in others if self._owed(name)]
            if owed:
                return max(owed, key=lambda name: self._lanes[name].credit.level_ms / self._lanes[name].share)
        if first is None and present and self.stops:
            alone = "batch" in waiting and not self._lanes["batch"].running and self._in_gap(waiting, now_ms)
            return "batch" if alone and (resumes or now_ms >= self.presence.until(HALF)) else None
        if first is not None:
            return first
        if not self.stops and free <= self.reserve.slots(self.slots, now_ms):
            # The reserve never takes a lane's own share away, or a saturated interactive lane would starve it.
            others = [name for name in others if self._lanes[name].running < self._guaranteed(name)]
        return min(others, key=lambda name: self._lanes[name].virtual, default=None)

    def _note_backlog(self, waiting: Collection[str]) -> None:
        for name in waiting:
            if name not in self._backlogged:
                lane = self._lanes[name]
                lane.virtual = max(lane.virtual, self._virtual)
        self._backlogged = frozenset(waiting)

    def _guaranteed(self, name: str) -> int:
        return math.ceil(self.slots * SHARES[name])

    def _threshold_ms(self, name: str) -> float:
        """The credit from which a lane may begin beside interactive callers."""
        return float(STRETCH_MS * self._guaranteed(name)) if name == "batch" and self.stops else 0.0

    def _owed(self, name: str) -> bool:
        lane = self._lanes[name]
        return lane.running < self._guaranteed(name) and lane.credit.level_ms >= self._threshold_ms(name)

    def _advance(self, waiting: Collection[str], now_ms: int) -> None:
        for name, lane in self._others.items():
            lane.credit.advance(now_ms, self.slots, lane.running, waiting=name in waiting)

    def surplus(self, waiting: Collection[str], now_ms: int) -> int:
        """How many running batch requests are to be stopped now."""
        batch = self._lanes["batch"]
        if not batch.running or not self.stops or self.protection != "full" or not self.slots:
            return 0
        if not self.present(waiting, now_ms):
            return 0
        self._advance(waiting, now_ms)
        owed = self._guaranteed("batch") if batch.credit.level_ms > 0 else 0
        return max(0, batch.running - max(owed, int(self._in_gap(waiting, now_ms))))

    def again_ms(self, waiting: Collection[str], now_ms: int) -> int | None:
        """In how many ms to choose again, even if nothing comes or ends; None for never."""
        batch = self._lanes["batch"]
        if self.protection != "full" or not self.slots or not (waiting or (batch.running and self.stops)):
            return None
        others = [name for name in self._others if name in waiting]
        if not self.present(waiting, now_ms):
            return None if self.stops or not others or self.running >= self.slots else AGAIN_MS
        if not others and not (batch.running and self.stops):
            return None
        times = [self._when(name) for name in others if self._lanes[name].running < self._guaranteed(name)]
        times += [] if self.stops else [AGAIN_MS]
        if batch.running and self.stops:
            times.append(batch.credit.in_ms(0.0, self.slots, batch.running))
        if FIRST not in waiting and not self._lanes[FIRST].running:
            ends = (self.presence.soon(), self.presence.until(HALF), self.presence.until())
            times += [end - now_ms for end in ends if end > now_ms]
        return max(1, min((t for t in times if t is not None), default=AGAIN_MS))

    def _when(self, name: str) -> int | None:
        lane = self._lanes[name]
        return lane.credit.in_ms(self._threshold_ms(name), self.slots, lane.running)

    def start(self, name: str, now_ms: int) -> float:
        """Take a slot for `name`; the charge in ms, to be given back to `finish`."""
        assert self.running < self.slots, "a start without a free slot"
        lane = self._lanes[name]
        if name != FIRST:
            lane.credit.advance(now_ms, self.slots, lane.running, waiting=True)
        lane.running += 1
        self._virtual = max(self._virtual, lane.virtual)
        lane.virtual += lane.estimate_ms / lane.share
        return lane.estimate_ms

    def finish(self, name: str, charge_ms: float, took_ms: float, now_ms: int, *, whole: bool = True) -> None:
        """Give the slot back; what it took replaces what it was charged. Not `whole`: it was stopped."""
        lane = self._lanes[name]
        assert lane.running > 0, "a finish without a start"
        if name != FIRST:
            lane.credit.advance(now_ms, self.slots, lane.running, waiting=True)
        lane.running -= 1
        lane.virtual += (took_ms - charge_ms) / lane.share
        if whole:
            lane.estimate_ms += SMOOTHING * (max(1.0, took_ms) - lane.estimate_ms)
        if name == FIRST:
            self.presence.finish(now_ms, running=lane.running > 0)
            self.reserve.finish(took_ms)
