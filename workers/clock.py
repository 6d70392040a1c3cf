"""The wall clock, for records and deadlines. Decisions take it as an argument."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Milliseconds UTC."""
    return time.time_ns() // 1_000_000
