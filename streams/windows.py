"""Fixed windows aligned to UTC. Pure; all times in milliseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

LENGTH_MS: Final = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}


def start_of(per: str | None, now_ms: int) -> int:
    """Start of the window that holds `now_ms`; 0 for no window."""
    if per is None:
        return 0
    if per == "month":
        return _month_of(now_ms // LENGTH_MS["hour"])
    return now_ms - now_ms % LENGTH_MS[per]


def end_of(per: str | None, now_ms: int) -> int:
    """First moment after the window that holds `now_ms`; a second from now for no window."""
    if per is None:
        return now_ms + 1_000
    if per == "month":
        first = datetime.fromtimestamp(start_of(per, now_ms) / 1000, UTC)
        return _ms(first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1))
    return start_of(per, now_ms) + LENGTH_MS[per]


@lru_cache(maxsize=64)
def _month_of(hour: int) -> int:
    """Start of the month that holds an hour, which is asked for again at each request of that hour."""
    moment = datetime.fromtimestamp(hour * 3_600, UTC)
    return _ms(moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0))


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000
