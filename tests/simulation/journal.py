"""The journal of the simulated world: partitions with clocks of their own, and a network that delays and repeats."""

from __future__ import annotations

import heapq
import random
from typing import Any, NamedTuple

from schemas.kafka import murmur2
from schemas.wire import Codec

PARTITIONS = 4
Record = dict[str, Any]


def partition_of(tenant: str) -> int:
    """Where Kafka's default partitioner puts a tenant."""
    return (murmur2(tenant.encode()) & 0x7FFFFFFF) % PARTITIONS


class Entry(NamedTuple):
    """A record of the journal, its bytes, and the broker's time."""

    kind: str
    record: Record
    value: bytes
    at_ms: int


class Partition:
    """An append-only list of entries, whose beginning may be cut off. Its own time never steps back."""

    def __init__(self) -> None:
        self.begin = 0
        self._entries: list[Entry] = []
        self.skew_ms = 0
        self.last_ms = 0

    @property
    def end(self) -> int:
        """The next offset."""
        return self.begin + len(self._entries)

    def append(self, kind: str, record: Record, value: bytes, now_ms: int) -> None:
        """Write, as the broker stamps it."""
        self.last_ms = max(self.last_ms, now_ms + self.skew_ms)
        self._entries.append(Entry(kind, record, value, self.last_ms))

    def at(self, offset: int) -> Entry:
        """The entry at an offset."""
        return self._entries[offset - self.begin]

    def cut(self, before: int) -> None:
        """Forget what lies before an offset."""
        del self._entries[: before - self.begin]
        self.begin = max(self.begin, before)


class Journal:
    """Takes records from producers, now or later, once or again."""

    def __init__(self, chance: random.Random, codec: Codec, now_ms: int) -> None:
        self.partitions = [Partition() for _ in range(PARTITIONS)]
        self._chance = chance
        self._codec = codec
        self._under_way: list[tuple[int, int, str, Record]] = []
        self._sent = 0
        self.now_ms = now_ms

    def send(self, kind: str, record: Record) -> None:
        """A producer writes: mostly at once; sometimes it takes a while, or its retry writes the same again."""
        draw = self._chance.random()
        if draw < 0.90:
            self.append(kind, record)
            return
        if draw > 0.96:
            self.append(kind, record)
        self.send_at(self.now_ms + self._chance.choice((1, 40, 900, 7_000, 90_000)), kind, record)

    def send_at(self, due_ms: int, kind: str, record: Record) -> None:
        """It will arrive at `due_ms`."""
        self._sent += 1
        heapq.heappush(self._under_way, (due_ms, self._sent, kind, record))

    def append(self, kind: str, record: Record) -> None:
        """It has arrived."""
        partition = self.partitions[partition_of(record["tenant"])]
        partition.append(kind, record, self._codec.encode(kind, record), self.now_ms)

    def tick(self) -> None:
        """The relay writes to every partition."""
        for number, partition in enumerate(self.partitions):
            tick = {"tenant": "", "partition": number}
            partition.append("Tick", tick, self._codec.encode("Tick", tick), self.now_ms)

    def pass_time(self, ms: int) -> None:
        """Time goes by; what was under way arrives in between."""
        until = self.now_ms + ms
        while self._under_way and self._under_way[0][0] <= until:
            due, _, kind, record = heapq.heappop(self._under_way)
            self.now_ms = max(self.now_ms, due)
            self.append(kind, record)
        self.now_ms = until

    @property
    def silent(self) -> bool:
        """Whether nothing is under way."""
        return not self._under_way

    def move_leader(self) -> None:
        """A partition's leader moves to a broker with another clock."""
        self._chance.choice(self.partitions).skew_ms = self._chance.choice((-800, -30, 0, 0, 30, 800))
