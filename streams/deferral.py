"""Requests that wait for quota: a queue per batch, released in turn, so that no batch waits behind another. Pure.

Batches share SLOTS queues by the hash of their id, which keeps the ledger of constant size; within a queue the order
is that of arrival. Queue 0 is for requests of the batch lane that belong to no batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from schemas.records import Ledger, Queue
from streams.stores import Table

SLOTS: Final = 63


def slot_of(batch_id: str) -> int:
    """The queue of a batch: 1 to SLOTS; 0 without a batch."""
    return zlib.crc32(batch_id.encode()) % SLOTS + 1 if batch_id else 0


def _place(slot: int, number: int) -> str:
    return f"{slot}/{number}" if slot else str(number)


class Deferral:
    """The queues of one tenant. `count` and `size` (bytes) cover all of them; `changes` counts every change."""

    def __init__(self, table: Table, ledger: Ledger | None) -> None:
        self._table = table
        self._queues: dict[int, tuple[int, int]] = {}
        self.count = self.size = self._turn = self.changes = 0
        if ledger is None:
            return
        self.count, self.size, self._turn = ledger["deferred_count"], ledger["deferred_bytes"], ledger["turn"]
        if ledger["first_deferred"] < ledger["next_deferred"]:
            self._queues[0] = ledger["first_deferred"], ledger["next_deferred"]
        self._queues.update({q["slot"]: (q["first"], q["next"]) for q in ledger["queues"]})

    @property
    def turn(self) -> int:
        """The slot that was released from last."""
        return self._turn

    @turn.setter
    def turn(self, slot: int) -> None:
        self.changes += self._turn != slot
        self._turn = slot

    def add(self, slot: int, request_id: str, size: int) -> None:
        """Put a request of `size` bytes at the end of a queue."""
        first, end = self._queues.get(slot, (0, 0))
        self._table.put(_place(slot, end), request_id.encode())
        self._queues[slot] = first, end + 1
        self.count += 1
        self.size += size
        self.changes += 1

    def waits(self, slot: int) -> bool:
        """Whether anything is in the queue."""
        return slot in self._queues

    def turns(self) -> Iterator[int]:
        """Slots of queues that are not empty, beginning after the one whose turn was last. They may be changed."""
        slots = sorted(self._queues)
        yield from [s for s in slots if s > self.turn] + [s for s in slots if s <= self.turn]

    def head(self, slot: int) -> str:
        """Id of the oldest request of a queue that is not empty."""
        data = self._table.get(_place(slot, self._queues[slot][0]))
        assert data is not None, "a queue has no holes"
        return data.decode()

    def pop(self, slot: int) -> None:
        """Remove the head of a queue."""
        first, end = self._queues[slot]
        self._table.remove(_place(slot, first))
        if first + 1 < end:
            self._queues[slot] = first + 1, end
        else:
            del self._queues[slot]
        self.count -= 1
        self.changes += 1

    def shrink(self, size: int) -> None:
        """A request of so many bytes left a queue, or ended in it."""
        self.size -= size
        self.changes += 1

    def fields(self) -> dict[str, object]:
        """What the Ledger record says of the queues."""
        first, end = self._queues.get(0, (0, 0))
        queues = [Queue(slot=s, first=a, next=b) for s, (a, b) in sorted(self._queues.items()) if s]
        return {
            "first_deferred": first,
            "next_deferred": end,
            "deferred_count": self.count,
            "deferred_bytes": self.size,
            "queues": queues,
            "turn": self.turn,
        }
