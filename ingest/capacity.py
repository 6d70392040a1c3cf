"""What the pools of a model were measured to do in batches, and what can be promised by that. Pure: the clock is an
argument.

Measured only while it is the pools that bound the work: in seconds in which a batch of the model has lines to send
that neither its owner nor a quota holds back. So a small batch, or one over quota, says nothing of what a large one
could get.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

# Shorter than this, the beginning of a batch and its queues count for too much.
MIN_S: Final = 10
MIN_LINES: Final = 20
MEMORY_S: Final = 60
# Whoever looks so late was held up itself, or has only begun to look: what ended meanwhile says nothing of pools.
LATE_MS: Final = 5_000
# Older measurements are of another time; pools may have been changed since.
KEPT_MS: Final = 86_400_000
# On a noisy machine the same figure moves by a third. So a batch is refused for its window only where the pools would
# need that much more, and what is promised instead has that much to spare.
DOUBT: Final = 1.33
# Until a batch is validated and its lines come as fast as the pools take them, and from the last answer to its files.
STARTING_MS: Final = 5_000


class Measure(msgspec.Struct, frozen=True):
    """What one model does per second: lines, and tokens of input and output together. `pools` says of which pools."""

    lines_per_second: float
    tokens_per_second: float
    at_ms: int
    pools: str


class Queue(msgspec.Struct, frozen=True, array_like=True):
    """Lines of one batch that have no outcome yet."""

    tenant: str
    deadline_ms: int
    left: int


class Report(msgspec.Struct, frozen=True):
    """What one batcher says, by model: measures, and what waits in the batches that go on."""

    measures: dict[str, Measure] = {}
    queues: dict[str, tuple[Queue, ...]] = {}
    at_ms: int = 0


class Meter:
    """Measures one model."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int, int]] = deque(maxlen=MEMORY_S)

    def add(self, span_ms: int, lines: int, tokens: int, *, pressed: bool) -> None:
        """What ended in the last `span_ms`; `pressed` if only the pools kept more from ending."""
        if pressed and span_ms < LATE_MS:
            self._seconds.append((span_ms, lines, tokens))
        else:
            self._seconds.clear()

    def measure(self, now_ms: int, pools: str) -> Measure | None:
        """What was measured; None if that was too little."""
        span_ms = sum(s for s, _, _ in self._seconds)
        if span_ms < 1000 * MIN_S or sum(lines for _, lines, _ in self._seconds) < MIN_LINES:
            return None
        lines, tokens = (1000 * sum(s[i] for s in self._seconds) / span_ms for i in (1, 2))
        return Measure(lines, tokens, now_ms, pools)


def together(reports: Iterable[Report], model: str, pools: str, now_ms: int) -> Measure | None:
    """The measure of all batchers for a model whose pools are `pools`, None if there is none.

    A batcher measures its own batches, so what several of them saw adds up; what one saw that is gone makes this too
    much rather than too little.
    """
    found = [m for r in reports if (m := r.measures.get(model)) and _is_of_use(m, pools, now_ms)]
    if not found:
        return None
    lines, tokens = sum(m.lines_per_second for m in found), sum(m.tokens_per_second for m in found)
    return Measure(lines, tokens, max(m.at_ms for m in found), pools)


def _is_of_use(measure: Measure, pools: str, now_ms: int) -> bool:
    return measure.pools == pools and measure.lines_per_second > 0 and now_ms - measure.at_ms < KEPT_MS


class Promise(NamedTuple):
    """When a new batch would be done (ms): at best, and with what can be promised."""

    earliest_ms: int
    safe_ms: int


def promise(
    measure: Measure, queues: Iterable[Queue], tenant: str, deadline_ms: int, lines: int, tokens: int, now_ms: int
) -> Promise:
    """What can be promised to a batch of `lines`, whose texts have about `tokens`.

    Lines of the tenant with an earlier deadline go first; tenants take turns, so each of the others gets as many lines
    done meanwhile as it has, at most as many as this one. A line may take as long as those that were measured, or as
    its tokens do: at best it is the quicker of both, and the slower one is promised. Without a rate of tokens only
    lines count.
    """
    waiting: defaultdict[str, int] = defaultdict(int)
    for queue in queues:
        if queue.tenant != tenant or queue.deadline_ms <= deadline_ms:
            waiting[queue.tenant] += queue.left
    ahead = waiting.pop(tenant, 0)
    ahead += sum(min(left, ahead + lines) for left in waiting.values())
    by_lines = lines / measure.lines_per_second
    by_tokens = tokens / measure.tokens_per_second if measure.tokens_per_second else by_lines
    before = ahead / measure.lines_per_second
    earliest, safe = (before + f(by_lines, by_tokens) for f in (min, max))
    return Promise(now_ms + int(1000 * earliest), now_ms + STARTING_MS + int(1000 * DOUBT * safe))


def impossible(promise: Promise, deadline_ms: int, now_ms: int) -> bool:
    """Whether even the earliest end is beyond all doubt after the deadline."""
    return promise.earliest_ms - now_ms > DOUBT * (deadline_ms - now_ms)
