"""A seeded run of the whole topology on the memory engine: callers, workers, time, and faults. The seed is the run."""

from __future__ import annotations

import copy
import random
from typing import Any

from streams.memory import MemoryEngine
from tests import oracle
from tests.oracle import Evidence
from tests.unit.world import T0, cancellation, completion, engine, line, request, started

LIMITS = [
    {"on": "requests", "per": "minute", "max": 20},
    {"on": "total_tokens", "per": "hour", "max": 4_000},
    {"on": "concurrency", "max": 6},
]
RULES = [{"id": "p", "match": "a banned phrase"}, {"id": "card", "detect": "credit_card", "action": "mask"}]
TEXTS = ["one", "two words", "three words here", "a banned phrase", "pay 4111 1111 1111 1111", "x " * 30]


class World:
    """Steps are drawn from the seed; a crash goes back to the last checkpoint and reads the journal again."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.engine: MemoryEngine = engine(LIMITS, RULES)
        self.now = T0
        self.journal: list[tuple[str, dict[str, Any], int]] = []
        policy = self.engine.tenant("acme").policy
        assert policy is not None
        self.policy = policy.document
        self.requests: list[dict[str, Any]] = []
        self.work: list[dict[str, Any]] = []
        self.read: dict[str, int] = {}
        self.completions: list[dict[str, Any]] = []
        self._line = 0
        self.checkpoint()

    def checkpoint(self) -> None:
        """What a restore comes back to: stores, exactly-once topics, and the place in the journal."""
        self.saved = copy.deepcopy((self.engine.stores, self.engine.topics)), len(self.journal)

    def crash(self) -> None:
        """Lose what is in memory, restore the checkpoint, decide again; what was written before must be repeated."""
        before = {name: list(records) for name, records in self.engine.topics.items()}
        (stores, topics), place = copy.deepcopy(self.saved)
        self.engine.restart()
        self.engine.stores, self.engine.topics = stores, topics
        for kind, record, at in self.journal[place:]:
            self.engine.step(kind, record, at)
        assert {n: r for n, r in self.engine.topics.items() if r} == before, "a replay decided differently"

    def append(self, kind: str, record: dict[str, Any]) -> None:
        """Write to the journal; workers see the work that follows."""
        self.journal.append((kind, record, self.now))
        self.engine.step(kind, record, self.now)
        for name in [n for n in self.engine.topics if n.startswith("work.")]:
            values = self.engine.topics[name]
            for _, value in values[self.read.get(name, 0) :]:
                self.work.append(self.engine.codec.decode(value)[1])
            self.read[name] = len(values)

    def step(self) -> None:
        """One thing happens."""
        act = self.chance.choices(
            (self.ask, self.ask_line, self.finish, self.finish_again, self.cancel, self.wait, self.repeat, self.start),
            (30, 15, 40, 4, 3, 6, 2, 3),
        )[0]
        act()
        fault = self.chance.random()
        if fault < 0.01:
            self.crash()
        elif fault < 0.03:
            self.checkpoint()

    def ask(self) -> None:
        text = self.chance.choice(TEXTS)
        r = request(
            text,
            model=self.chance.choice(("echo", "echo", "two")),
            received_at=self.now,
            deadline=self.now + self.chance.choice((2_000, 60_000, 600_000)),
            stream=self.chance.random() < 0.2,
            body={"temperature": self.chance.choice((0, 0, 1)), "max_tokens": self.chance.choice((3, 30))},
        )
        self.requests.append(r)
        self.append("Request", r)

    def ask_line(self) -> None:
        self._line += 1
        r = line(self._line, self.chance.choice(TEXTS), received_at=self.now, body={"temperature": 0, "max_tokens": 5})
        self.requests.append(r)
        self.append("Request", r)

    def finish(self) -> None:
        if not self.work:
            return
        work = self.work.pop(self.chance.randrange(len(self.work)))
        outcome = self.chance.choices(("ok", "unavailable", "failed", "invalid", "blocked"), (80, 8, 4, 4, 4))[0]
        used = 0 if outcome == "invalid" else self.chance.randrange(1, work["max_output_tokens"] + 2)
        findings = [{"rule": "p", "action": "block", "matches": 1}] if outcome == "blocked" else []
        c = completion(work, outcome, step=work["step"], pool=work["pool"], output_tokens=used, findings=findings)
        self.completions.append(c)
        self.append("Completion", c)

    def finish_again(self) -> None:
        if self.completions:
            c = self.chance.choice(self.completions)
            again = self.chance.random() < 0.5
            c = c if again else {**c, "attempt": f"again-{len(self.journal)}"}
            self.append("Completion", c)

    def start(self) -> None:
        if self.work:
            self.append("Started", started(self.chance.choice(self.work), f"s{self.chance.randrange(3)}"))

    def cancel(self) -> None:
        if self.requests:
            self.append("Cancellation", cancellation(self.chance.choice(self.requests)))

    def repeat(self) -> None:
        if self.requests:
            self.append("Request", self.chance.choice(self.requests))

    def wait(self) -> None:
        self.now += self.chance.choice((1, 50, 700, 5_000, 61_000))
        self.append("Tick", {"tenant": "", "partition": 0})

    def settle(self) -> None:
        """Nobody asks any more; workers finish; time passes until nothing can be open."""
        for _ in range(5_000):
            if self.work:
                self.finish()
            elif self.open_requests():
                self.now += 61_000
                self.append("Tick", {"tenant": "", "partition": 0})
            else:
                return
        raise AssertionError(f"{self.open_requests()} requests never end")

    def open_requests(self) -> int:
        """How many requests have no outcome yet."""
        tenant = self.engine.tenant("acme")
        return sum(tenant.open(request_id) is not None for request_id in self.engine.stores["acme"].requests.values)

    def run(self, steps: int) -> None:
        """Step, settle, and hold everything against what must be so. Raises AssertionError."""
        tenant = self.engine.tenant
        for _ in range(steps):
            self.step()
            for limit in self.policy.limits:
                account = tenant("acme").accounts.get(limit.id)
                if account is not None:
                    debt = tenant("acme").debt if "tokens" in limit.on else 0
                    assert account.spent + account.held <= limit.max + debt, f"{limit.id} is overspent"
                    assert account.held >= 0 and account.spent >= 0, f"{limit.id} is negative"
        self.settle()
        found = oracle.audit(self.evidence())
        assert not found, found
        assert all(a.held == 0 for a in tenant("acme").accounts.values()), "a hold never ended"
        assert tenant("acme").deferral.count == tenant("acme").deferral.size == 0, "a deferred request is forgotten"

    def evidence(self) -> Evidence:
        """What the oracle looks at."""
        read = self.engine.read
        journal = [("Policy", {"tenant": "acme", "document": self.document()}, T0), *self.journal]
        return Evidence(
            journal, read("usage"), read("responses"), read("waste"), read("audit"), read("batch_results"),
            read("replies.gw"),
        )  # fmt: skip

    def document(self) -> str:
        from schemas import config

        return config.encode(self.policy)
