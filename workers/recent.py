"""Identities that were seen lately, bounded by number and age. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

CAPACITY: Final = 20_000


class Recent(Generic[K, V]):
    """A mapping that forgets the oldest entries beyond `capacity`, and those older than `age_ms`."""

    def __init__(self, age_ms: int, capacity: int = CAPACITY) -> None:
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._age_ms = age_ms
        self._capacity = capacity

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: K, value: V, now_ms: int) -> None:
        """Remember `value` under `key` from now on."""
        self._entries.pop(key, None)
        self._entries[key] = (value, now_ms)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def get(self, key: K, now_ms: int) -> V | None:
        """What was remembered, unless it is too old."""
        entry = self._entries.get(key)
        if entry is None or now_ms - entry[1] > self._age_ms:
            return None
        return entry[0]
