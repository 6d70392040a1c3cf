"""How far a batch is and how fast it goes, from looks at it one after another. Pure: moments are arguments."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from ingest.cli import batch as words

# Speeds are those of the last so many seconds.
SPAN_S: Final = 15.0
LANE_MINUTES: Final = 2


class Meter:
    """Tokens per second of one batch, from what was seen of it."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def add(self, now_s: float, tokens: int) -> None:
        """Note that so many tokens were used up to now."""
        self._looks.append((now_s, tokens))
        while len(self._looks) > 2 and self._looks[1][0] <= now_s - SPAN_S:
            self._looks.popleft()

    @property
    def per_second(self) -> float:
        """Tokens per second; 0 while nothing is known."""
        (first_s, first), (last_s, last) = self._looks[0], self._looks[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


def document(batch: dict[str, Any], tokens_per_second: float, cost_micros: int | None) -> dict[str, Any]:
    """What `watch --json` prints of a batch. The names are stable; what is not known is null."""
    counts, usage, ours = batch["request_counts"], batch.get("usage") or {}, batch.get("millrace") or {}
    return {
        "object": "batch.progress",
        "id": batch["id"],
        "status": batch["status"],
        "lane": "batch",
        "paused": ours.get("paused", False),
        "total": counts["total"],
        "completed": counts["completed"],
        "failed": counts["failed"],
        "open_lines": ours.get("open_lines", 0),
        "lines_per_second": round(ours.get("lines_per_second", 0.0), 1),
        "tokens_per_second": round(tokens_per_second, 1),
        "input_tokens": usage.get("input_tokens", 0),
        "output_tokens": usage.get("output_tokens", 0),
        "cost_micros": cost_micros,
        "estimated_completion_at": ours.get("estimated_completion_at"),
        "expires_at": batch["expires_at"],
        "waiting": ours.get("waiting"),
        "errors": (batch.get("errors") or {}).get("data") or [],
    }


def lanes(usage: dict[str, Any], now_s: float) -> list[dict[str, Any]]:
    """What `watch --json` prints of each lane in which something ended lately.

    `usage` is the API's of LANE_MINUTES minutes with lanes, the current minute included; of one that has just begun
    nothing would be known.
    """
    span_s = 60 * (LANE_MINUTES - 1) + now_s % 60
    found: dict[str, dict[str, int]] = {}
    for tenant in usage["data"]:
        for lane, sums in tenant["lanes"].items():
            of_lane = found.setdefault(lane, dict.fromkeys(sums, 0))
            for name, value in sums.items():
                of_lane[name] += value
    return [
        {
            "object": "lane.progress",
            "lane": lane,
            "requests_per_second": round(sums["requests"] / span_s, 1),
            "tokens_per_second": round((sums["input_tokens"] + sums["output_tokens"]) / span_s, 1),
            "requests": sums["requests"],
            "input_tokens": sums["input_tokens"],
            "output_tokens": sums["output_tokens"],
            "cost_micros": sums["cost_micros"],
            "seconds": round(span_s),
        }
        for lane, sums in found.items()
        if sums["requests"]
    ]


def ended(batch: dict[str, Any]) -> bool:
    """Whether nothing will change any more."""
    return batch["status"] in words.ENDED
