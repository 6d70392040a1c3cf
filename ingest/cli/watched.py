"""Batches that are looked at again and again until they end, and what they cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

from ingest.cli import batch, progress
from ingest.cli.client import Client
from ingest.cli.fault import Fault
from ingest.cli.progress import Meter

# The cost of the last lines is known a checkpoint of admission (five seconds) after they were answered.
SETTLE_S: Final = 12.0


@dataclass
class Seen:
    """What was seen of one batch. `settled_s` is when its cost is final or waited for no longer; None while it runs."""

    meter: Meter = field(default_factory=Meter)
    batch: dict[str, Any] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)
    settled_s: float | None = None


def _settles_in_s(ended: dict[str, Any]) -> float:
    """How long the cost of a batch may still change that had ended when it was first looked at."""
    at_s = max(ended.get(f"{status}_at") or 0 for status in batch.ENDED)
    return min(SETTLE_S, max(0.0, at_s + SETTLE_S - time.time()))


class Watched:
    """Batches that are looked at again and again."""

    def __init__(self, client: Client, ids: list[str]) -> None:
        self._client = client
        self._seen = {batch_id: Seen() for batch_id in ids}
        self.lanes: list[dict[str, Any]] = []

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The progress of every batch, as of the last look."""
        return [seen.row for seen in self._seen.values()]

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return all(self._is_over(seen) for seen in self._seen.values())

    @staticmethod
    def _is_over(seen: Seen) -> bool:
        return seen.settled_s is not None and time.monotonic() >= seen.settled_s

    def look(self) -> None:
        """Look at every batch that is not over, and at the lanes. Raises Fault."""
        for batch_id, seen in self._seen.items():
            if not self._is_over(seen):
                self._look(batch_id, seen)
        usage = self._usage(minutes=progress.LANE_MINUTES, lanes="true")
        self.lanes = progress.lanes(usage, time.time()) if usage else []

    def _look(self, batch_id: str, seen: Seen) -> None:
        first = not seen.batch
        if seen.settled_s is None:
            seen.batch = self._client.get(f"/batches/{batch_id}")
            seen.meter.add(time.monotonic(), (seen.batch.get("usage") or {}).get("total_tokens", 0))
        used = (self._usage(batch_id=batch_id) or {}).get("total")
        seen.row = progress.document(seen.batch, seen.meter.per_second, used and used["cost_micros"])
        if not progress.ended(seen.batch):
            return
        counted = used is None or used["requests"] >= seen.row["total"]
        if seen.settled_s is None:
            seen.settled_s = time.monotonic() + (_settles_in_s(seen.batch) if first else SETTLE_S)
        if counted:
            seen.settled_s = time.monotonic()

    def _usage(self, **query: Any) -> dict[str, Any] | None:
        """Usage as the live application counts it; None where there is none, which keeps nobody waiting."""
        try:
            found: dict[str, Any] = self._client.get("/usage", patience_s=0, **query)
        except Fault as fault:
            if 0 < fault.status < 500 and fault.status != 404:
                raise
            return None
        return found

    def name(self, batch_id: str) -> str:
        """What its owner calls it."""
        return batch.name(self._seen[batch_id].batch)
