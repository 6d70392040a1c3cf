"""Admission in the simulated world: reads the journal, takes checkpoints, dies, comes back and decides again.

Whatever was once written is compared with what is written when it is decided again: byte for byte, tenant by tenant.
What is written for the first time is shown to the auditor.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from schemas import topics
from schemas.wire import Codec
from streams.memory import OnWrite
from tests.oracle import Auditor, Written
from tests.simulation.journal import PARTITIONS, Journal

# Checkpoints that a restore may come back to: Flink keeps one, a savepoint may be older.
KEPT = 3
Entry = tuple[str, str, bytes]
ROWS = ("usage", "responses", "audit", "waste", "credits", "shadows")


class Engine(Protocol):
    """What carries decisions out: the memory engine, or the Flink operator over doubles of its runtime."""

    topics: defaultdict[str, list[tuple[str, bytes]]]

    def append(self, value: bytes, now_ms: int) -> Any:
        """Decide one journal record."""

    def checkpoint(self) -> Any:
        """The present."""

    def restore(self, checkpoint: Any) -> None:
        """Die, and come back as of a checkpoint."""

    def forget(self, checkpoint: Any) -> None:
        """What is older is not needed again."""


EngineClass = Callable[[Codec, int, OnWrite], Engine]


class Saved(NamedTuple):
    """A checkpoint: the engine's own, the place in the journal, how much had been written for each tenant and topic."""

    engine: Any
    places: tuple[int, ...]
    written: dict[str, int]
    topics: dict[str, int]


class Site:
    """Runs an engine over a journal. `auditor` sees every decision once, in the order it was first made.

    `news` are topics with records that were not there before. With `remember`, journal and log are kept whole.
    """

    def __init__(
        self, make: EngineClass, journal: Journal, codec: Codec, auditor: Auditor, *, remember: bool = False
    ) -> None:
        self._remember = remember
        self.engine = make(codec, PARTITIONS, self._on_write)
        self.journal = journal
        self.auditor = auditor
        self.firsts: defaultdict[str, int] = defaultdict(int)
        self._codec = codec
        self._places = [0] * PARTITIONS
        self._audited = [0] * PARTITIONS
        self._clocks = [0] * PARTITIONS
        # Per tenant: what was written since the oldest checkpoint kept, how much was before, and where we are.
        self._log: defaultdict[str, list[Entry]] = defaultdict(list)
        self._cut: defaultdict[str, int] = defaultdict(int)
        self._at: defaultdict[str, int] = defaultdict(int)
        self._fresh: Written = []
        self.news: set[str] = set()
        self.saved: deque[Saved] = deque()
        self.checkpoint()

    @property
    def lag(self) -> int:
        """Journal records not decided yet."""
        return sum(p.end - place for p, place in zip(self.journal.partitions, self._places, strict=True))

    def read(self, records: int, chance: random.Random) -> None:
        """Decide up to `records` of the journal, of partitions in any order."""
        for _ in range(records):
            behind = [n for n, p in enumerate(self.journal.partitions) if self._places[n] < p.end]
            if not behind:
                return
            self._decide(behind[0] if len(behind) == 1 else chance.choice(behind))

    def _decide(self, partition: int) -> None:
        offset = self._places[partition]
        kind, record, value, at = self.journal.partitions[partition].at(offset)
        self._places[partition] = offset + 1
        self.engine.append(value, at)
        fresh, self._fresh = self._fresh, []
        if kind == "Tick":
            self._clocks[partition] = at
            # What is decided again may be new as well: another partition's clock is further on this time. What must
            # have happened by now is judged once all that the auditor has seen was decided again.
            behind = any(place < seen for place, seen in zip(self._places, self._audited, strict=True))
            self.auditor.passed(0 if behind else min(self._clocks), fresh)
        elif offset < self._audited[partition]:
            self.auditor.wrote(fresh)
        else:
            self.auditor.step(kind, record, at, fresh)
        self._audited[partition] = max(self._audited[partition], offset + 1)
        assert not self.auditor.found, self.auditor.found[0]

    def _on_write(self, tenant: str, topic: str, key: str, value: bytes) -> None:
        entry = (topic, key, value)
        log, at = self._log[tenant], self._at[tenant] - self._cut[tenant]
        self._at[tenant] += 1
        self.news.add(topic)
        if topic == topics.JOURNAL:  # At least once: what is decided again is written again.
            self.journal.append(*self._codec.decode(value))
        if at < len(log):
            assert log[at] == entry, f"a replay decided differently for {tenant}: {self._show(log[at], entry)}"
            return
        log.append(entry)
        self.firsts[topic] += 1
        schema, record = self._codec.decode(value)
        assert record["tenant"] == tenant, f"{topic} says {record['tenant']} in a decision for {tenant}"
        self._fresh.append((topic, schema, record))

    def _show(self, *entries: Entry) -> str:
        return " / ".join(f"{topic} {self._codec.decode(value)}" for topic, _, value in entries)

    def checkpoint(self) -> None:
        """Keep the present; the oldest checkpoint goes, and with it what only it needed."""
        self.flushed = {topic: len(records) for topic, records in self.engine.topics.items()}
        self.saved.append(Saved(self.engine.checkpoint(), tuple(self._places), dict(self._at), self.flushed))
        if len(self.saved) > KEPT:
            self.saved.popleft()
        oldest = self.saved[0]
        self.engine.forget(oldest.engine)
        if self._remember:
            return
        for partition, place in zip(self.journal.partitions, oldest.places, strict=True):
            partition.cut(place)
        for tenant, at in oldest.written.items():
            del self._log[tenant][: at - self._cut[tenant]]
            self._cut[tenant] = at

    def crash(self, back: int, lost: Mapping[str, int]) -> None:
        """Die and restore the newest checkpoint but `back`; newer ones are gone with their branch of time.

        Of each topic written at least once, the last records still on their way are lost: those from `lost` on.
        """
        for topic, end in lost.items():
            if topic not in ROWS:
                del self.engine.topics[topic][max(end, self.flushed.get(topic, 0)) :]
        for _ in range(min(back, len(self.saved) - 1)):
            self.saved.pop()
        saved = self.saved[-1]
        self.engine.restore(saved.engine)
        self._places = list(saved.places)
        self._clocks = [0] * PARTITIONS
        self._fresh = []
        self._at.clear()
        self._at.update(saved.written)

    @property
    def committed(self) -> dict[str, int]:
        """How long each topic was at the oldest checkpoint kept: no restore takes that back."""
        return self.saved[0].topics

    @property
    def log(self) -> dict[str, list[Entry]]:
        """What was decided, by tenant; whole with `remember`."""
        return dict(self._log)

    def check_topics(self) -> None:
        """Rows are in their topics exactly once, all else at least once; and all was decided again that was lost."""
        assert all(self._at[t] - self._cut[t] == len(log) for t, log in self._log.items()), "a replay decided less"
        for topic, count in self.firsts.items():
            length = len(self.engine.topics[topic])
            assert length == count if topic in ROWS else length >= count, f"{topic}: {length} records of {count}"
