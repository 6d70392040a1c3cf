"""What a pool's lanes did in this process, in plain numbers: cheap to count, read when somebody asks. Pure.

Counters only grow. Times are in ms where they come from records, and in seconds in histograms, as Prometheus has them.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from schemas.records import Completion
from schemas.topics import LANES
from workers.item import Item


def bounds(first: float, last: float, per_decade: int = 10) -> tuple[float, ...]:
    """Upper bounds of buckets from `first` to `last` seconds, evenly on a logarithmic scale."""
    steps = range(per_decade * 10)
    found = [float(f"{first * 10 ** (i / per_decade):.3g}") for i in steps]
    return tuple(bound for bound in found if bound <= last * 1.001)


# Ten in a decade are 26% apart: a 99th percentile read from them, interpolated, is a few percent off.
WAIT_S: Final = bounds(0.001, 100)
TOKEN_S: Final = bounds(0.0001, 10)
# What the measured rate remembers, in seconds of a full worker. Half is forgotten at a time.
MEMORY_S: Final = 120.0
# An answer that took no time by a clock of milliseconds.
LEAST_S: Final = 0.0005


class Histogram:
    """Counts by bucket; the last one has no bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class LaneSignals:
    """One lane of a pool."""

    __slots__ = (
        "attempts", "cached_tokens", "faults", "first_token", "input_tokens", "outcomes", "output_tokens",
        "per_token", "preemptions", "queue", "tokens_each",
    )  # fmt: skip

    def __init__(self) -> None:
        self.attempts = self.preemptions = 0
        self.input_tokens = self.output_tokens = self.cached_tokens = 0
        self.outcomes: dict[str, int] = {}
        self.faults: dict[str, int] = {}
        self.queue, self.first_token, self.per_token = Histogram(WAIT_S), Histogram(WAIT_S), Histogram(TOKEN_S)
        # Input and output tokens of an answer, lately; 0 while none was given.
        self.tokens_each = 0.0


class Signals:
    """One pool."""

    SMOOTHING: Final = 0.05

    def __init__(self) -> None:
        self.lanes = {name: LaneSignals() for name in LANES}
        self._tokens = self._slot_s = 0.0

    def stopped(self, lane: str) -> None:
        """A running request was stopped, to go on later."""
        self.lanes[lane].preemptions += 1

    def ended(self, item: Item, record: Completion, fault: str, *, ran: bool, slots: int) -> None:
        """An attempt has ended with `record`. `fault` is the code of what went wrong; `ran`: an engine was asked."""
        work = item.work
        lane = self.lanes.get(work["lane"])
        if lane is None:  # Work of a lane that this version does not know is run, and not counted.
            return
        outcome, started, finished = record["outcome"], record["started_at"], record["finished_at"]
        asked, answered = record["input_tokens"], record["output_tokens"]
        lane.outcomes[outcome] = lane.outcomes.get(outcome, 0) + 1
        if fault:
            lane.faults[fault] = lane.faults.get(fault, 0) + 1
        if not ran:
            return
        lane.attempts += 1
        lane.queue.add(max(0, started - work["admitted_at"]) / 1_000)
        lane.input_tokens += asked
        lane.output_tokens += answered
        lane.cached_tokens += record["cached_tokens"]
        if item.seen.assembly.begun:  # Tokens were seen as they came, so the times between them mean something.
            first = record["first_token_at"]
            lane.first_token.add(max(0, first - started) / 1_000)
            if answered > 1 and finished > first:
                lane.per_token.add((finished - first) / 1_000 / (answered - 1))
        if not item.stops:  # Its time is no slot's time if it was stopped.
            self._learn(lane, asked + answered, (finished - started) / 1_000, slots)

    def _learn(self, lane: LaneSignals, tokens: int, took_s: float, slots: int) -> None:
        if not tokens:
            return
        lane.tokens_each += (tokens - lane.tokens_each) * (self.SMOOTHING if lane.tokens_each else 1.0)
        self._tokens += tokens
        self._slot_s += max(took_s, LEAST_S)
        if self._slot_s > MEMORY_S * max(1, slots):
            self._tokens, self._slot_s = self._tokens / 2, self._slot_s / 2

    def tokens_each(self, lane: str) -> float:
        """Tokens of one answer in a lane, or, while none was given there, in the pool; 0 while unknown."""
        return self.lanes[lane].tokens_each or max(one.tokens_each for one in self.lanes.values())

    def tokens_per_s(self, slots: int) -> float:
        """What this process gives with all of `slots` busy, input and output together; 0 while unknown.

        Taken from the time that answers held their slots, so it is too high for an engine that was never full.
        """
        return self._tokens / self._slot_s * slots if self._slot_s else 0.0
