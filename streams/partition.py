"""Which partition of the lake a row belongs to, and from when on that partition gets no more. Pure.

Both follow from the row alone: its own time, and the broker's time of its record. So a partition is complete once
everything that was appended before `closes_ms` is in files, and a row read again goes to the same place.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
# A row this much later than its hour's end is late: the hour is closed.
GRACE_MS: Final = 10 * 60_000
# Beyond these a row's own time cannot be believed.
MAX_LATE_MS: Final = 7 * DAY_MS
MAX_AHEAD_MS: Final = HOUR_MS
# Hours that no clock shows: rows of the day that came after their hour was closed; and rows that came on the day with a
# time that cannot be believed. So whoever asks for a day has them too, without knowing of it.
LATE: Final = 24
STRANGE: Final = 25
_FOLDER: Final = re.compile(r"dt=(\d{4}-\d\d-\d\d)/hour=(\d\d)")


class Partition(NamedTuple):
    """A UTC day and an hour of it, or LATE or STRANGE."""

    day: date
    hour: int

    @property
    def folder(self) -> str:
        """Where its files lie below its table."""
        return f"dt={self.day}/hour={self.hour:02d}"

    @property
    def opens_ms(self) -> int:
        """What was appended before this never belongs to it."""
        if self.hour in (LATE, STRANGE):
            return self._day_ms
        return self._day_ms + self.hour * HOUR_MS - MAX_AHEAD_MS

    @property
    def closes_ms(self) -> int:
        """What is appended from this moment on never belongs to it."""
        if self.hour == LATE:
            return self._day_ms + DAY_MS + MAX_LATE_MS
        if self.hour == STRANGE:
            return self._day_ms + DAY_MS
        return self._day_ms + (self.hour + 1) * HOUR_MS + GRACE_MS

    @property
    def _day_ms(self) -> int:
        return int(datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC).timestamp() * 1000)


def of(event_ms: int, appended_ms: int) -> Partition:
    """The partition of a row. The lake's job says the same in SQL (lake.insert)."""
    if event_ms < appended_ms - MAX_LATE_MS or event_ms > appended_ms + MAX_AHEAD_MS:
        return Partition(_day(appended_ms), STRANGE)
    hour_ms = event_ms - event_ms % HOUR_MS
    if hour_ms + HOUR_MS + GRACE_MS <= appended_ms:
        return Partition(_day(event_ms), LATE)
    return Partition(_day(event_ms), hour_ms % DAY_MS // HOUR_MS)


def parse(path: str) -> Partition | None:
    """The partition that a path lies in; None for a path that names none."""
    found = _FOLDER.search(path)
    return Partition(date.fromisoformat(found[1]), int(found[2])) if found else None


def _day(ms: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).date()
