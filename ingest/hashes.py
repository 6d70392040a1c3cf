"""A set of 64-bit hashes in eight bytes a slot, where Python's own set would take about ninety."""

from __future__ import annotations

from array import array
from typing import Final

MASK: Final = 2**64 - 1
START_SLOTS: Final = 1024


class Hashes:
    """Members are strings by their 64-bit hash only.

    The chance that any two of n different strings collide is below n² / 2**65: at the 10,000,000 lines a batch
    may have, 3 in a million. Memory: at most 256 MiB there. The hash is Python's SipHash, keyed per process, so
    nobody can construct collisions.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * START_SLOTS))
        self._count = 0

    def add(self, member: str) -> bool:
        """Whether `member` is new; from then on it is not."""
        if not _insert(self._slots, hash(member) & MASK or 1):
            return False
        self._count += 1
        if 2 * self._count > len(self._slots):
            self._grow()
        return True

    def __len__(self) -> int:
        return self._count

    def _grow(self) -> None:
        larger = array("Q", bytes(16 * len(self._slots)))
        for value in self._slots:
            if value:
                _insert(larger, value)
        self._slots = larger


def _insert(slots: array[int], value: int) -> bool:
    """Open addressing with linear probing; zero marks a free slot. At most half are taken, so probes stay few."""
    mask = len(slots) - 1
    at = value & mask
    while found := slots[at]:
        if found == value:
            return False
        at = (at + 1) & mask
    slots[at] = value
    return True
