"""Whose line of a lane goes next: the earliest deadline, as long as no tenant gets far ahead of another. Pure.

Deadlines alone would let one tenant's million urgent lines keep everybody else's waiting. So each tenant has a virtual
time that grows by what its lines may cost, as in start-time fair queueing (Goyal, Vin, Cheng 1996): only tenants within
LEAD of the one furthest behind are looked at, and among those the earliest deadline goes first. Who was idle starts at
the present, so nobody banks credit. What was overtaken is bounded twice: by LEAD, and by the window of a partition
(workers/watermark.py), which is not read further until its oldest line is done.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

# Tokens that a tenant's deadlines may put it ahead: one large answer, a few dozen small ones.
LEAD: Final = 1_024.0
# Tenants without work whose virtual time is remembered, beyond those with work.
IDLE: Final = 1_000


class Claim(NamedTuple):
    """What a piece of work asks for: `cost` in tokens at most, `deadline_ms` 0 for none."""

    tenant: str
    deadline_ms: int
    cost: float


class Turns(Generic[T]):
    """A queue of work, ordered by what `claim` says of each piece."""

    def __init__(self, claim: Callable[[T], Claim], lead: float = LEAD) -> None:
        self._claim, self._lead = claim, lead
        self._waiting: dict[str, list[tuple[float, int, float, T]]] = {}
        self._used: dict[str, float] = {}
        self._present = 0.0
        self._number = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, item: T) -> None:
        """Take a piece of work in."""
        tenant, deadline_ms, cost = self._claim(item)
        if tenant not in self._waiting:
            self._waiting[tenant] = []
            self._used[tenant] = max(self._used.get(tenant, 0.0), self._present)
        self._number += 1
        self._length += 1
        heapq.heappush(self._waiting[tenant], (deadline_ms or float("inf"), self._number, cost, item))

    def take(self) -> T:
        """The piece whose turn it is. Raises IndexError when empty."""
        if not self._waiting:
            raise IndexError("nothing waits")
        self._present = min(self._used[tenant] for tenant in self._waiting)
        near = (tenant for tenant in self._waiting if self._used[tenant] <= self._present + self._lead)
        tenant = min(near, key=lambda t: (self._waiting[t][0][0], self._used[t], self._waiting[t][0][1]))
        _, _, cost, item = heapq.heappop(self._waiting[tenant])
        self._used[tenant] += cost
        self._length -= 1
        if not self._waiting[tenant]:
            del self._waiting[tenant]
            self._forget()
        return item

    def _forget(self) -> None:
        if len(self._used) > len(self._waiting) + IDLE:
            past = [t for t, used in self._used.items() if t not in self._waiting and used <= self._present]
            for tenant in past or [next(t for t in self._used if t not in self._waiting)]:
                del self._used[tenant]

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Drop what is not wanted any more."""
        for tenant, heap in list(self._waiting.items()):
            left = [entry for entry in heap if wanted(entry[3])]
            self._length -= len(heap) - len(left)
            heapq.heapify(left)
            if left:
                self._waiting[tenant] = left
            else:
                del self._waiting[tenant]
