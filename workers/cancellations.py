"""Which requests were taken back lately. Pure; workers/follow.py feeds it from the `control` topic."""

from __future__ import annotations

from typing import Final

from schemas.records import Control
from workers.recent import Recent

# Control records are kept for an hour (schemas.topics), so nothing older can come back on a restart.
AGE_MS: Final = 3_600_000
CAPACITY: Final = 100_000


class Cancellations:
    """Recent cancellations, by (tenant, request id)."""

    def __init__(self) -> None:
        self._recent: Recent[tuple[str, str], Control] = Recent(AGE_MS, CAPACITY)

    def note(self, control: Control, now_ms: int) -> None:
        """Remember a control record."""
        self._recent.add((control["tenant"], control["request_id"]), control, now_ms)

    def reason(self, tenant: str, request_id: str, admitted_at: int, now_ms: int) -> str | None:
        """Why work admitted at `admitted_at` is to be stopped; None if it is not, or was admitted again since."""
        control = self._recent.get((tenant, request_id), now_ms)
        return control["reason"] if control is not None and control["at"] >= admitted_at else None
