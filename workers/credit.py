"""What a lane is owed while interactive callers have the engine: its guaranteed share, over half a minute. Pure.

A leaking bucket of slot time: it fills at the lane's share of all slots, and what the lane runs is taken out. Empty
beyond zero is debt, for what was harvested while nobody else was there; debt is forgotten beyond `horizon_ms`, so no
load lasts long enough to starve the lane. Credit is bounded, too: it saves nothing up for a burst of its own.
"""

from __future__ import annotations


class Credit:
    """The bucket of one lane, in ms of one slot: at most `horizon_ms` of its share in debt, `saved_ms` of it saved."""

    def __init__(self, share: float, horizon_ms: int, saved_ms: int) -> None:
        self._share, self._horizon_ms, self._saved_ms = share, horizon_ms, saved_ms
        self._at_ms: int | None = None
        self.level_ms = 0.0

    def advance(self, now_ms: int, slots: int, running: int, *, waiting: bool) -> None:
        """Bring it to `now_ms`, through which `running` requests ran; it saves nothing while none waits or runs."""
        passed = 0 if self._at_ms is None else max(0, now_ms - self._at_ms)
        self._at_ms = now_ms
        rate = self._share * slots
        most = self._saved_ms * rate if waiting or running else 0.0
        self.level_ms = max(-self._horizon_ms * rate, min(most, self.level_ms + (rate - running) * passed))

    def in_ms(self, level_ms: float, slots: int, running: int) -> int | None:
        """How long until the level is `level_ms`; None if it is not on the way there."""
        speed, way = self._share * slots - running, level_ms - self.level_ms
        if way == 0:
            return 0
        return None if speed == 0 or way / speed < 0 else int(way / speed) + 1
