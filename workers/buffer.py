"""Work that was read and waits for a slot: bounded, per pool and lane. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

T = TypeVar("T")

# Reading stops at HIGH and goes on at LOW. librdkafka drops what it fetched ahead when a partition pauses, so the gap
# is wide: one refetch per 192 records at most. Bytes, because one record may hold 8 MiB.
HIGH: Final = 256
LOW: Final = 64
HIGH_BYTES: Final = 32 * 1024 * 1024


class Order(Protocol[T]):
    """What waits, and which of it is next."""

    def __len__(self) -> int: ...

    def add(self, item: T) -> None:
        """Take an item in."""
        ...

    def take(self) -> T:
        """The next one. Raises IndexError when empty."""
        ...

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Drop what is not wanted any more."""
        ...


class Arrival(Generic[T]):
    """The order of arrival."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: T) -> None:
        """At the end."""
        self._items.append(item)

    def take(self) -> T:
        """The oldest."""
        return self._items.popleft()

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Drop what is not wanted any more."""
        self._items = deque(filter(wanted, self._items))


class Buffer(Generic[T]):
    """A queue that says when reading must pause; `order` says who is next, of items with their sizes in bytes."""

    def __init__(
        self, order: Order[tuple[T, int]] | None = None, high: int = HIGH, low: int = LOW, high_bytes: int = HIGH_BYTES
    ) -> None:
        self._order: Order[tuple[T, int]] = order if order is not None else Arrival()
        self._front: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._high, self._low, self._high_bytes = high, low, high_bytes
        self.paused = False

    def __len__(self) -> int:
        return len(self._front) + len(self._order)

    @property
    def resumes(self) -> bool:
        """Whether the next item was put back."""
        return bool(self._front)

    def put(self, item: T, size_bytes: int) -> None:
        """Take an item in, also what was already on its way when reading paused."""
        self._order.add((item, size_bytes))
        self._bytes += size_bytes
        self._turn()

    def put_back(self, item: T, size_bytes: int) -> None:
        """Take an item in that was taken before: it goes first, and no turn is charged for it again."""
        self._front.append((item, size_bytes))
        self._bytes += size_bytes
        self._turn()

    def take(self) -> T:
        """The next item. Raises IndexError when empty."""
        item, size = self._front.popleft() if self._front else self._order.take()
        self._bytes -= size
        self._turn()
        return item

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Drop what is not wanted any more, such as work of a partition that was taken away."""

        def stays(entry: tuple[T, int]) -> bool:
            item, size = entry
            if wanted(item):
                return True
            self._bytes -= size
            return False

        self._order.keep(stays)
        self._front = deque(filter(stays, self._front))
        self._turn()

    def _turn(self) -> None:
        if len(self) >= self._high or self._bytes >= self._high_bytes:
            self.paused = True
        elif len(self) <= self._low and self._bytes <= self._high_bytes // 4:
            self.paused = False
