"""Workers of the simulated world: they start, stream, end, die with work in hand, and come late."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from tests.simulation.journal import Journal, Record
from tests.unit.world import completion, started
from workers import outcome

WORKERS = 5
HOUR_MS = 3_600_000
OUTCOMES = ("ok", "blocked", "unavailable", "failed", "invalid", "interrupted")
COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
WEIGHTS = (82, 4, 7, 3, 2, 2)
# What a guard says of a prompt.
WORDS = (b"safe", b"safe", b"safe", b"safe", b"unsafe\\nS1,S2", b"as you like")


class Attempt(NamedTuple):
    """Work in a worker's hands."""

    work: Record
    id: str
    worker: int
    started_at: int


class Fleet:
    """All workers of all pools. `queue` is work that no worker has taken."""

    def __init__(self, chance: random.Random, journal: Journal) -> None:
        self._chance = chance
        self._journal = journal
        self._attempts = 0
        self.queue: list[Record] = []
        self.hands: list[Attempt] = []
        self.stopped: dict[tuple[str, str], str] = {}
        self.told: list[Record] = []

    def take(self) -> None:
        """A worker takes work, and mostly ends it at once."""
        if not self.queue:
            return self.end()
        place = self._chance.randrange(min(len(self.queue), 12))
        work = self.queue[place]
        self.queue[place] = self.queue[-1]
        self.queue.pop()
        now = self._journal.now_ms
        self._attempts += 1
        attempt = Attempt(work, f"a{self._attempts}", self._chance.randrange(WORKERS), now)
        refusal = outcome.before(work, now, self.stopped.get((work["tenant"], work["request_id"])))
        if refusal is not None:
            self._tell(attempt, refusal.outcome, http_status=refusal.http_status, body=refusal.body, tokens=False)
            return None
        if work["announce"] and self._chance.random() < 0.8:
            note = {**started(work, attempt.id), "tenant": work["tenant"], "pool": work["pool"], "started_at": now}
            self._journal.send("Started", note)
        if self._chance.random() < 0.7:
            self._end(attempt)
        else:
            self.hands.append(attempt)
        return None

    def end(self) -> None:
        """An attempt that takes longer ends."""
        if self.hands:
            self._end(self.hands.pop(self._chance.randrange(len(self.hands))))

    def die(self) -> None:
        """A worker dies: its work is taken by another. Or it only seemed dead, and its completions come late."""
        worker = self._chance.randrange(WORKERS)
        mine = [a for a in self.hands if a.worker == worker]
        self.hands = [a for a in self.hands if a.worker != worker]
        for attempt in mine:
            self.queue.append(attempt.work)
            if self._chance.random() < 0.5:
                self._end(attempt, late_ms=self._chance.choice((10, 5_000, 120_000, HOUR_MS)))

    def repeat(self) -> None:
        """A worker that came back writes its last completions again."""
        if self.told:
            self._journal.append("Completion", self._chance.choice(self.told))

    def _end(self, attempt: Attempt, late_ms: int = 0) -> None:
        stop = self.stopped.get((attempt.work["tenant"], attempt.work["request_id"]))
        if stop is not None and self._chance.random() < 0.9:
            refusal = outcome.stopped(stop)
            self._tell(attempt, refusal.outcome, late_ms, http_status=refusal.http_status, tokens=True)
            return
        kind = self._chance.choices(OUTCOMES, WEIGHTS)[0]
        streamed = attempt.work["stream"] and self._chance.random() < 0.7
        if kind == "interrupted" and not streamed:
            kind = "failed"
        if kind == "unavailable" and streamed:
            kind = "interrupted"
        self._tell(attempt, kind, late_ms, streamed=streamed, tokens=kind != "invalid" and self._chance.random() < 0.95)

    def _tell(self, attempt: Attempt, kind: str, late_ms: int = 0, *, tokens: bool, **more: Any) -> None:
        work, now = attempt.work, self._journal.now_ms
        fields: dict[str, Any] = dict.fromkeys(COUNTS, 0)
        if tokens:
            # Rarely one more than the bound: it is settled in full, as debt.
            most = work["max_output_tokens"] + (self._chance.random() < 0.05)
            fields["output_tokens"] = self._chance.randrange(1, most + 1)
            fields["input_tokens"] = min(len(work["body"].split()), 12)
            fields["reasoning_tokens"] = self._chance.randrange(fields["output_tokens"] + 1)
            fields["cached_tokens"] = self._chance.randrange(fields["input_tokens"] + 1)
        if kind == "blocked":
            fields["findings"] = [{"rule": "p", "action": "block", "matches": 1}]
        if kind == "ok" and work["step"] < 0:
            fields["body"] = b'{"choices":[{"message":{"content":"%s"}}]}' % self._chance.choice(WORDS)
        elif kind in ("ok", "blocked"):
            fields["body"] = b'{"choices":[{"index":0}],"id":"%s"}' % attempt.id.encode()
        fields |= {"step": work["step"], "pool": work["pool"], "worker": f"w{attempt.worker}", "attempt": attempt.id}
        fields |= {"started_at": attempt.started_at, "first_token_at": now, "finished_at": now}
        fields |= {"model": work["model"], "shadow_of": work["shadow_of"]}
        record = completion(work, kind, **fields, **more)
        self.told = [*self.told[-20:], record]
        if late_ms:
            self._journal.send_at(now + late_ms, "Completion", record)
        else:
            self._journal.send("Completion", record)
