"""Lines that were sent and of which admission has shown no sign yet: they are what an interactive call would wait for.

Pure: the clock is an argument. A line is seen by its work record, or by its result if it never became work.
"""

from __future__ import annotations

from typing import Final

from ingest.window import Rate

# 20 ms of queue, and the way of a line until we see it: about 10 ms each for admission, for the fetch of what it
# wrote, and for our own loop, and as much again on a busy machine. Lines ahead / rate is the time until one is seen
# (Little's law), so this bound grows while that time is shorter, and holds it there.
AHEAD_MS: Final = 80
# 27 ms of the 2,400 requests/s that admission does in one slot.
MIN_AHEAD: Final = 64
# What was not seen for so long waits for quota inside admission, or admission is down: it is not in the way.
PARKED_MS: Final = 1_000


class Ahead:
    """Bounds the lines ahead of admission by its own measured speed."""

    def __init__(self) -> None:
        self._sent: dict[str, int] = {}
        self._rate = Rate()

    def __len__(self) -> int:
        return len(self._sent)

    def sent(self, request_id: str, now_ms: int) -> None:
        """A line goes to the journal."""
        self._sent.pop(request_id, None)
        self._sent[request_id] = now_ms

    def seen(self, request_id: str, now_ms: int) -> None:
        """Admission has decided about a line; others' lines and repetitions do not matter."""
        if self._sent.pop(request_id, None) is not None:
            self._rate.add(1, now_ms)

    def room(self, now_ms: int) -> int:
        """Lines that may be sent now: as many as admission takes in `AHEAD_MS`, less those ahead."""
        while self._sent:
            request_id, sent_ms = next(iter(self._sent.items()))
            if now_ms - sent_ms < PARKED_MS:
                break
            del self._sent[request_id]
        return max(MIN_AHEAD, int(self._rate.per_second(now_ms) * AHEAD_MS / 1000)) - len(self._sent)
