"""The batcher of the simulated world: feeds lines, reads results, starts anew, cancels what is left."""

from __future__ import annotations

import random
from typing import Any

from tests.simulation.journal import Journal, Record
from tests.unit.world import cancellation, line

AHEAD = 12


class Batch:
    """One batch and what the batcher knows of it."""

    def __init__(self, number: int, tenant: str, model: str, total: int, shareable: bool) -> None:
        self.id = f"b{number}"
        self.tenant, self.model, self.total = tenant, model, total
        self.shareable = shareable
        self.sent: dict[int, Record] = {}
        self.done: set[int] = set()
        self.ending = ""

    def line(self, number: int, text: str, now_ms: int) -> Record:
        """A Request record of one of its lines."""
        body: dict[str, Any] = {"temperature": 0 if self.shareable else 1, "max_tokens": 2 + number % 7}
        fields = {"request_id": f"{self.id}-{number}", "tenant": self.tenant, "model": self.model, "key_id": "k1"}
        return line(number, text, body=body, received_at=now_ms, deadline=now_ms + 86_400_000, **fields) | {
            "batch_id": self.id
        }


class Batcher:
    """Feeds all batches. `texts` are what lines may say."""

    def __init__(self, chance: random.Random, journal: Journal, tenants: tuple[str, ...], texts: list[str]) -> None:
        self._chance = chance
        self._journal = journal
        self._tenants = tenants
        self._texts = texts
        self._count = 0
        self.active: dict[str, Batch] = {}

    def open(self) -> None:
        """A client creates a batch."""
        if len(self.active) >= 12:
            return
        self._count += 1
        total, model = self._chance.randrange(3, 40), self._chance.choice(("echo", "two"))
        tenant, shareable = self._chance.choice(self._tenants), self._chance.random() < 0.3
        batch = Batch(self._count, tenant, model, total, shareable)
        self.active[batch.id] = batch

    def feed(self) -> None:
        """Some lines of some batch are sent, in order, few ahead."""
        ready = [b for b in self.active.values() if not b.ending and len(b.sent) < b.total]
        if not ready:
            return self.open()
        batch = self._chance.choice(ready)
        for _ in range(self._chance.randrange(1, 5)):
            if len(batch.sent) >= batch.total or len(batch.sent) - len(batch.done) >= AHEAD:
                return None
            number = len(batch.sent) + 1
            record = batch.line(number, self._chance.choice(self._texts), self._journal.now_ms)
            batch.sent[number] = record
            self._journal.send("Request", record)
        return None

    def start_anew(self) -> None:
        """The batcher was restarted: it sends again what has no result, stamped anew."""
        for batch in self.active.values():
            missing = [n for n in batch.sent if n not in batch.done]
            if batch.ending:
                self._sweep(batch)
            else:
                for number in missing[:20]:
                    again = {**batch.sent[number], "received_at": self._journal.now_ms}
                    self._journal.append("Request", again)

    def end(self) -> None:
        """A batch is cancelled, or its window is over: every line without a result is ended."""
        if self.active:
            batch = self._chance.choice(list(self.active.values()))
            batch.ending = batch.ending or self._chance.choice(("cancelled", "expired"))
            self._sweep(batch)

    def end_all(self) -> None:
        """Every batch is over."""
        for batch in self.active.values():
            batch.ending = batch.ending or "expired"
            self._sweep(batch)

    def _sweep(self, batch: Batch) -> None:
        for number in range(1, batch.total + 1):
            if number not in batch.done:
                record = batch.sent.get(number) or batch.line(number, "", self._journal.now_ms)
                self._journal.send("Cancellation", cancellation(record, batch.ending))

    def result(self, r: Record) -> None:
        """A line has its result; it may be told twice."""
        batch = self.active.get(r["batch_id"])
        if batch is not None:
            batch.done.add(r["line"])
            if len(batch.done) == batch.total:
                del self.active[batch.id]
