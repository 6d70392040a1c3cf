"""Which of many strings occur more than once: eight bytes a string, and eight more while the question is answered."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

# Strings looked at in one step of the answer: what it holds beside the hashes is bounded by this.
STEP: Final = 65_536


class Repetition(NamedTuple):
    """A string that was there before: its place from 0, and the place where it was first."""

    place: int
    first: int


class Hashes:
    """Strings in the order in which they came, known by their 64-bit hash only.

    The chance that any two of n different strings collide is below n² / 2**65: at the 10,000,000 lines a batch
    may have, 3 in a million. The hash is Python's SipHash, keyed per process, so nobody can construct collisions.
    """

    def __init__(self) -> None:
        self._hashes = array("q")

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, member: str) -> None:
        """The next string."""
        self._hashes.append(hash(member))

    def extend(self, members: Iterable[str]) -> None:
        """The next strings."""
        self._hashes.extend(map(hash, members))

    def repetitions(self, most: int) -> list[Repetition]:
        """The first `most` strings that were there before, in order. Takes a second for 10,000,000."""
        values = np.frombuffer(self._hashes, np.int64)
        ordered = np.sort(values)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        del ordered
        if not len(twice):
            return []
        twice = np.unique(twice)
        first = np.full(len(twice), -1, np.int64)
        found: list[Repetition] = []
        for start in range(0, len(values), STEP):
            step = values[start : start + STEP]
            at = np.minimum(np.searchsorted(twice, step), len(twice) - 1)
            for offset in np.flatnonzero(twice[at] == step):
                place, which = start + int(offset), at[offset]
                if first[which] < 0:
                    first[which] = place
                    continue
                found.append(Repetition(place, int(first[which])))
                if len(found) == most:
                    return found
        return found
