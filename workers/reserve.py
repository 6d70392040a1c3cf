"""The slots that only interactive callers may take, for an engine whose running work cannot be stopped. Pure.

Learned: by Little's law (1961) they hold, on average, as many slots as arrive per second times the seconds each takes;
around that the number in service spreads like a Poisson's, so two standard deviations more are kept. When the first
token comes later than it could, with other lanes beside, the reserve grows slot by slot until it does not, and shrinks
again in quiet. Without interactive callers it is gone within a minute or two.
"""

from __future__ import annotations

import math
from typing import Final

# Arrivals are counted over about this long.
MEMORY_MS: Final = 30_000
SPREAD: Final = 2.0
SMOOTHING: Final = 0.1
# A first token this much later than at its best, in part and in ms, is late.
LATE: Final = 1.25
LATE_MS: Final = 5.0
# The best is forgotten by this part with each first token: prompts and models change.
FORGET: Final = 0.001
# After a change of the reserve so many first tokens pass before the next one, or so long.
TOKENS: Final = 8
QUIET_MS: Final = 10_000


class Reserve:
    """Of one pool in one worker."""

    def __init__(self) -> None:
        self._arrivals = 0.0
        self._at_ms = 0
        self._service_ms = 0.0
        self._best_ms = math.inf
        self._usual_ms = 0.0
        self._since = 0
        self._changed_ms = 0
        self.extra = 0

    def arrive(self, now_ms: int) -> None:
        """An interactive request came."""
        self._arrivals = self._arrivals_at(now_ms) + 1
        self._at_ms = now_ms

    def _arrivals_at(self, now_ms: int) -> float:
        return self._arrivals * math.exp(-max(0, now_ms - self._at_ms) / MEMORY_MS)

    def finish(self, took_ms: float) -> None:
        """An interactive request held a slot for so long."""
        self._service_ms += (SMOOTHING if self._service_ms else 1.0) * (took_ms - self._service_ms)

    def first_token(self, waited_ms: float, now_ms: int, *, beside: bool) -> None:
        """An interactive request's first token came; `beside` says whether other lanes run."""
        self._best_ms = min(self._best_ms * (1 + FORGET), waited_ms)
        self._usual_ms += (SMOOTHING if self._usual_ms else 1.0) * (waited_ms - self._usual_ms)
        self._since += 1
        if self._since >= TOKENS:
            if beside and self._usual_ms > LATE * self._best_ms + LATE_MS:
                self._change(self.extra + 1, now_ms)
            elif now_ms - self._changed_ms > QUIET_MS:
                self._change(max(0, self.extra - 1), now_ms)

    def _change(self, extra: int, now_ms: int) -> None:
        self.extra, self._since, self._changed_ms = extra, 0, now_ms

    def slots(self, slots: int, now_ms: int) -> int:
        """How many of `slots` are kept free; at least one is always for others."""
        busy = self._arrivals_at(now_ms) * self._service_ms / MEMORY_MS
        learned = round(busy + SPREAD * math.sqrt(busy))
        # What was added goes as the callers go, or it would outlive them.
        self.extra = min(self.extra, slots) if learned else 0
        return max(0, min(slots - 1, learned + self.extra))
