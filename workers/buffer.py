"""Work that was read and waits for a slot: bounded, per pool and lane. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

# Reading stops at HIGH and goes on at LOW. librdkafka drops what it fetched ahead when a partition pauses, so the gap
# is wide: one refetch per 192 records at most. Bytes, because one record may hold 8 MiB.
HIGH: Final = 256
LOW: Final = 64
HIGH_BYTES: Final = 32 * 1024 * 1024


class Buffer(Generic[T]):
    """A queue that says when reading must pause."""

    def __init__(self, high: int = HIGH, low: int = LOW, high_bytes: int = HIGH_BYTES) -> None:
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._high, self._low, self._high_bytes = high, low, high_bytes
        self.paused = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, size_bytes: int) -> None:
        """Append; takes what was already on its way when reading paused, too."""
        self._items.append((item, size_bytes))
        self._bytes += size_bytes
        self._turn()

    def take(self) -> T:
        """The oldest item. Raises IndexError when empty."""
        item, size = self._items.popleft()
        self._bytes -= size
        self._turn()
        return item

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Drop what is not wanted any more, such as work of a partition that was taken away."""
        self._items = deque((item, size) for item, size in self._items if wanted(item))
        self._bytes = sum(size for _, size in self._items)
        self._turn()

    def _turn(self) -> None:
        if len(self._items) >= self._high or self._bytes >= self._high_bytes:
            self.paused = True
        elif len(self._items) <= self._low and self._bytes <= self._high_bytes // 4:
            self.paused = False
