"""Lines that were sent and of which admission has shown no sign yet: they are what an interactive call would wait for.

Pure: the clock is an argument. A line is seen by its work record, or by its result if it never became work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import Final

from ingest.window import Rate

# 20 ms of queue, and the way of a line until we see it: about 10 ms each for admission, for gathering what it wrote,
# for the fetch of that, and for our own loop, and as much again on a busy machine. Lines ahead / rate is the time until
# one is seen (Little's law), so this bound grows while that time is shorter, and holds it there.
AHEAD_MS: Final = 100
# A machine so slow that lines are not seen within AHEAD_MS would send ever less without this. It is 27 ms of the 2,400
# requests/s that admission is to do in one slot, and 140 ms where it does 450.
MIN_AHEAD: Final = 64
# What was not seen for so long waits for quota inside admission, or admission is down: it is not in the way.
PARKED_MS: Final = 1_000


class Ahead:
    """Bounds the lines ahead of admission by its own measured speed, and knows which of them are parked in it."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[str, int]] = {}
        self._parked: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._rate = Rate()

    def __len__(self) -> int:
        return len(self._sent)

    def sent(self, request_id: str, batch_id: str, now_ms: int) -> None:
        """A line goes to the journal."""
        self._sent.pop(request_id, None)
        self._leave(request_id)
        self._sent[request_id] = batch_id, now_ms

    def seen(self, request_id: str, now_ms: int) -> None:
        """Admission has decided about a line; others' lines and repetitions do not matter."""
        self._leave(request_id)
        if self._sent.pop(request_id, None) is not None:
            self._rate.add(1, now_ms)

    def room(self, now_ms: int) -> int:
        """Lines that may be sent now: as many as admission takes in `AHEAD_MS`, less those ahead."""
        while self._sent:
            request_id, (batch_id, sent_ms) = next(iter(self._sent.items()))
            if now_ms - sent_ms < PARKED_MS:
                break
            del self._sent[request_id]
            self._parked[request_id] = batch_id
            self._counts[batch_id] += 1
        return max(MIN_AHEAD, int(self._rate.per_second(now_ms) * AHEAD_MS / 1000)) - len(self._sent)

    def per_second(self, now_ms: int) -> float:
        """Lines that admission takes in a second, as measured lately."""
        return self._rate.per_second(now_ms)

    def parked(self, batch_id: str) -> int:
        """Lines of a batch that admission has had for a while and shows no sign of."""
        return self._counts[batch_id]

    def forget_others(self, batch_ids: Set[str]) -> None:
        """Forget what is parked of batches that are not among these."""
        if self._counts.keys() <= batch_ids:
            return
        self._parked = {r: b for r, b in self._parked.items() if b in batch_ids}
        self._counts = Counter(self._parked.values())

    def _leave(self, request_id: str) -> None:
        batch_id = self._parked.pop(request_id, None)
        if batch_id is not None:
            self._counts[batch_id] -= 1
            if not self._counts[batch_id]:
                del self._counts[batch_id]
