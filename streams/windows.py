"""Fixed windows aligned to UTC. Pure; all times in milliseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

LENGTH_MS: Final = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}


def start_of(per: str | None, now_ms: int) -> int:
    """Start of the window that holds `now_ms`; 0 for no window."""
    if per is None:
        return 0
    if per == "month":
        return _ms(datetime.fromtimestamp(now_ms / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    return now_ms - now_ms % LENGTH_MS[per]


def end_of(per: str | None, now_ms: int) -> int:
    """First moment after the window that holds `now_ms`; a second from now for no window."""
    if per is None:
        return now_ms + 1_000
    if per == "month":
        first = datetime.fromtimestamp(start_of(per, now_ms) / 1000, UTC)
        return _ms(first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1))
    return start_of(per, now_ms) + LENGTH_MS[per]


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000
