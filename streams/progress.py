"""What the live view shows, folded from records: usage by minute, progress of batches. Pure.

The folds only add. That nothing is added twice is the view's part: it keeps a bit for every line of a batch, and for
every partition of `usage` the offset up to which it has counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.records import BatchResult, Usage

MINUTE_MS: Final = 60_000
# A day to look back on, and what a late reader needs beyond it.
WINDOW_KEPT_MS: Final = 26 * 60 * MINUTE_MS
# The longest batch window (7 days), and a day to look at its result.
PROGRESS_KEPT_MS: Final = 8 * 24 * 60 * MINUTE_MS
# Statuses whose line goes to the batch's output file; every other one goes to its error file.
COMPLETED: Final = frozenset({"completed", "blocked"})
# Of a window, in the order of its Redis script.
FIELDS: Final = ("requests", "input_tokens", "output_tokens", "cost_micros")


@dataclass(slots=True)
class Window:
    """What a tenant used: in one minute, in one minute of one lane, or for one batch.

    `until_ms` is when it may go, milliseconds UTC.
    """

    until_ms: int
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0

    def add(self, record: Usage) -> None:
        """Count a record."""
        self.requests += 1
        self.input_tokens += record["input_tokens"]
        self.output_tokens += record["output_tokens"]
        self.cost_micros += record["cost_micros"]

    def fields(self) -> dict[str, int]:
        """As the fields of a Redis hash."""
        return {name: getattr(self, name) for name in FIELDS}


@dataclass(frozen=True, slots=True)
class Line:
    """The outcome of one line of a batch, as the view counts it."""

    line: int
    completed: bool
    input_tokens: int
    output_tokens: int


def window_key(tenant: str, completed_at_ms: int) -> str:
    """Redis hash of the minute in which something was completed, named by the minute's first second (UTC)."""
    return f"usage:{tenant}:{minute_s(completed_at_ms)}"


def lane_key(tenant: str, lane: str, completed_at_ms: int) -> str:
    """The same of one lane. A tenant's name has no slash."""
    return window_key(f"{tenant}/{lane}", completed_at_ms)


def batch_key(tenant: str, batch_id: str) -> str:
    """Redis hash of all that a batch used so far."""
    return f"usage:{tenant}/{batch_id}"


def minute_s(at_ms: int) -> int:
    """First second of the minute that holds `at_ms`, seconds UTC."""
    return at_ms // MINUTE_MS * MINUTE_MS // 1000


def progress_key(batch_id: str) -> str:
    """Redis bitmap of a batch: bit n is set when line n (from 1) has its result."""
    return f"progress:{batch_id}"


def counts_key(batch_id: str) -> str:
    """Redis hash beside the bitmap: completed, failed, input_tokens, output_tokens."""
    return f"progress:{batch_id}:counts"


def position_field(topic: str, partition: int) -> str:
    """Field of the view's mark that holds the next offset of a partition."""
    return f"{topic}/{partition}"


def has_gap(committed: Mapping[str, int], positions: Mapping[str, int]) -> bool:
    """Whether the group has passed records that the view does not hold, so that nobody would ever count them.

    It happens when a process ends while Redis is away: Faust then commits what it has handed out.
    """
    return any(offset > positions.get(field, 0) for field, offset in committed.items())


def fold_usage(records: Iterable[Usage], now_ms: int) -> dict[str, Window]:
    """Windows by key, as sums over `records`; those too old to be shown are left out."""
    windows: dict[str, Window] = {}
    for record in records:
        tenant, at_ms = record["tenant"], record["completed_at"]
        if at_ms >= now_ms - WINDOW_KEPT_MS:
            until_ms = minute_s(at_ms) * 1000 + WINDOW_KEPT_MS
            for key in (window_key(tenant, at_ms), lane_key(tenant, record["lane"], at_ms)):
                windows.setdefault(key, Window(until_ms)).add(record)
        if record["batch_id"] and at_ms >= now_ms - PROGRESS_KEPT_MS:
            window = windows.setdefault(batch_key(tenant, record["batch_id"]), Window(0))
            window.until_ms = max(window.until_ms, at_ms + PROGRESS_KEPT_MS)
            window.add(record)
    return windows


def fold_results(records: Iterable[BatchResult]) -> dict[str, Sequence[Line]]:
    """Lines by batch, in the order of the records."""
    lines: dict[str, list[Line]] = {}
    for record in records:
        completed = record["status"] in COMPLETED and record["http_status"] < 400
        line = Line(record["line"], completed, record["input_tokens"], record["output_tokens"])
        lines.setdefault(record["batch_id"], []).append(line)
    return dict(lines)
