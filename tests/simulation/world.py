"""A seeded run of the whole topology: callers, batcher, workers, operator, time, and faults. The seed is the run."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import orjson

from schemas.wire import Codec
from streams.memory import MemoryEngine
from tests.oracle import Auditor
from tests.simulation.batches import Batcher
from tests.simulation.fleet import HOUR_MS, Fleet
from tests.simulation.journal import Journal, Record
from tests.simulation.live import LiveView
from tests.simulation.policies import CARD, KEYS, MODELS, PHRASES, T0, TENANTS, Operator
from tests.simulation.site import ROWS, EngineClass, Site
from tests.unit.world import cancellation, credit, request

TEXTS = ["one", "two words", "three words here", f"say {PHRASES[0]}", f"or {PHRASES[1]}", f"pay {CARD}", "x " * 30]
# Before a text, in some requests: long enough to be worth one worker's cache.
PROLOGUES = ["a" * 1_100, "b" * 1_100]
RECENT = 200
CODEC = Codec.offline()


class World:
    """Steps are drawn from the seed. `stats` counts what happened, so that a test knows how much a run has tried."""

    def __init__(self, seed: int, engine: EngineClass = MemoryEngine, *, remember: bool = False) -> None:
        self.seed = seed
        self.steps = 0
        self.chance = random.Random(seed)
        self.auditor = Auditor()
        self.journal = Journal(self.chance, CODEC, T0)
        self.operator = Operator(self.chance)
        self.fleet = Fleet(self.chance, self.journal)
        self.batcher = Batcher(self.chance, self.journal, TENANTS, TEXTS)
        self.live = LiveView()
        self.stats: Counter[str] = Counter()
        self.site = Site(engine, self.journal, CODEC, self.auditor, remember=remember)
        self._asked: list[Record] = []
        self._count = 0
        self._places: Counter[str] = Counter()
        self._stalled = 0
        for policy in self.operator.policies():
            self.journal.append("Policy", policy)
        # What may happen, and how often. A new kind of record of the journal is a new line here.
        self.acts: list[tuple[Callable[[], None], float]] = [
            (self.ask, 24), (self.crowd, 1), (self.repeat, 3), (self.cancel, 3), (self.wait, 7),
            (self.batcher.feed, 8), (self.batcher.open, 0.6), (self.batcher.end, 0.25), (self.batcher.start_anew, 0.15),
            (self.fleet.take, 36), (self.fleet.end, 6), (self.fleet.repeat, 2), (self.fleet.die, 1.5),
            (self.credit, 0.7), (self.enquire, 0.3), (self.circuit, 0.3), (self.apply, 0.25), (self.erase, 0.2),
            (self.silence, 0.04), (self.stall, 0.3), (self.journal.move_leader, 0.3),
            (self.look, 0.3), (self.site.checkpoint, 2.5), (self.crash, 0.4),
        ]  # fmt: skip
        self._weights = [weight for _, weight in self.acts]

    # what callers, the operator and time do

    def ask(self) -> None:
        """A caller asks."""
        tenant = self.chance.choice(TENANTS) if self.chance.random() < 0.995 else "nobody"
        self._ask(tenant, self.chance.choice(TEXTS) if self.chance.random() < 0.6 else f"text {self._count}")

    def crowd(self) -> None:
        """Several callers ask the same at once, mostly of one tenant."""
        tenant, text = self.chance.choice(TENANTS), f"crowd {self._count}"
        for _ in range(self.chance.randrange(2, 6)):
            self._ask(tenant if self.chance.random() < 0.8 else self.chance.choice(TENANTS), text)

    def _ask(self, tenant: str, text: str) -> None:
        """Through one of two gateways, or a topic of the tenant's own."""
        self._count += 1
        chance, now = self.chance, self.journal.now_ms
        if chance.random() < 0.2:
            text = f"{chance.choice(PROLOGUES)} {text}"
        # The last one waits in the batch lane, as a flex call does.
        lane, gateway = chance.choice(
            (("interactive", "replies.a"), ("interactive", "replies.b"), ("standard", ""), ("batch", "replies.a"))
        )
        r = request(
            text,
            tenant=tenant,
            request_id=f"r{self._count}",
            key_id=chance.choice(KEYS),
            model=chance.choice(MODELS) if chance.random() < 0.99 else "unheard-of",
            lane=lane,
            reply_to=gateway,
            received_at=now,
            deadline=now + chance.choice((2_000, 60_000, 600_000, 600_000, 600_000)),
            stream=bool(gateway) and chance.random() < 0.2,
            repeatable=chance.random() < 0.1,
            cache=chance.choice(("default", "default", "default", "off", "on")),
            body={"temperature": chance.choice((0, 0, 1)), "max_tokens": chance.choice((3, 3, 30))},
        )
        self._asked.append(r)
        if len(self._asked) > RECENT:
            del self._asked[: RECENT // 2]
        self.journal.send("Request", r)

    def repeat(self) -> None:
        """A caller asks again with the same key, perhaps through another gateway; or a producer repeats itself."""
        if self._asked:
            r = self.chance.choice(self._asked)
            if r["reply_to"] and self.chance.random() < 0.5:
                r = {**r, "reply_to": self.chance.choice(("replies.a", "replies.b"))}
            self.journal.append("Request", r)

    def cancel(self) -> None:
        """A caller leaves."""
        if self._asked:
            self.journal.send("Cancellation", cancellation(self.chance.choice(self._asked[-30:])))

    def wait(self) -> None:
        """Time passes, with ticks."""
        self.journal.pass_time(self.chance.choice((1, 50, 700, 700, 700, 5_000, 5_000, 61_000)))
        self.journal.tick()

    def silence(self) -> None:
        """Nothing is written for an hour, not even a tick; then all that could not be written comes at once."""
        self.journal.now_ms += self.chance.choice((300_000, HOUR_MS))
        self.journal.pass_time(0)

    def apply(self) -> None:
        """The operator publishes a changed configuration."""
        self.operator.change()
        for policy in self.operator.policies():
            self.journal.append("Policy", policy)

    def enquire(self) -> None:
        """A gateway asks what a tenant has left."""
        self._count += 1
        tenant = self.chance.choice(TENANTS)
        record = {"tenant": tenant, "request_id": f"q{self._count}", "reply_to": "replies.b"}
        self.journal.send("Enquiry", record)

    def credit(self) -> None:
        """Someone pays in, or is paid back; an entry may be booked twice."""
        amount, kind = self.chance.choice(((2_000, "credit"), (9_000, "credit"), (300, "refund"), (-500, "credit")))
        record = credit(f"entry {self.chance.randrange(self._count + 20)}", amount, kind)
        self.journal.send("Credit", record | {"tenant": self.chance.choice(("umbra", "umbra", "acme"))})

    def erase(self) -> None:
        """Somebody asks to be forgotten: some requests of a tenant, seen or unheard of."""
        self._count += 1
        tenant = self.chance.choice(TENANTS)
        theirs = [r["request_id"] for r in self._asked if r["tenant"] == tenant]
        ids = self.chance.sample(theirs, min(len(theirs), self.chance.randrange(20)))
        record = {"tenant": tenant, "erasure_id": f"e{self._count}", "part": 1, "parts": 1, "request_ids": ids}
        self.journal.append("Erasure", {**record, "answers": 0, "replies": 0, "at": self.journal.now_ms})
        self.stats["erasure"] += 1

    def circuit(self) -> None:
        """Workers of a pool say that it is not worth trying, or is again."""
        pool, is_open = self.chance.choice(("p1", "p2", "echo")), self.chance.random() < 0.4
        for tenant in TENANTS:
            record = {"tenant": tenant, "pool": pool, "open": is_open, "at": self.journal.now_ms}
            self.journal.send("Circuit", record)

    # what breaks

    def stall(self) -> None:
        """Admission falls behind for a while."""
        self._stalled = self.chance.randrange(5, 60)

    def crash(self) -> None:
        """Admission dies; mostly it comes back as of the newest checkpoint."""
        self.stats["crash"] += 1
        lost = dict(self._places) if self.chance.random() < 0.5 else {}
        self.site.crash(self.chance.choice((0, 0, 1, 2)), lost)

    def look(self) -> None:
        """The live view reads on; or Redis forgets everything, and it is counted anew from the topics."""
        if self.chance.random() < 0.2:
            self.live.lose()
        self.live.fold(self.site.engine.topics, self.site.committed, self.now_ms)

    # running

    def step(self) -> None:
        """One thing happens; admission reads on; who reads its topics sees what is new."""
        self.steps += 1
        self.chance.choices(self.acts, self._weights)[0][0]()
        if self.chance.random() < 0.4:
            self.journal.pass_time(self.chance.choice((1, 3, 20)))
        if self._stalled:
            self._stalled -= 1
        else:
            self.site.read(self.chance.choice((0, 1, 2, 4, 8)), self.chance)
            self._see()

    def _see(self) -> None:
        """Workers and batcher read what admission wrote; records written again are seen again."""
        topics, self.site.news = sorted(self.site.news), set()
        for topic in topics:
            records = self.site.engine.topics[topic][self._places[topic] :]
            if topic in ROWS:
                continue
            self._places[topic] += len(records)
            if topic.startswith("work."):
                self.fleet.queue += [CODEC.decode(value)[1] for _, value in records]
            elif topic == "control":
                for _, value in records:
                    r = CODEC.decode(value)[1]
                    self.fleet.stopped[r["tenant"], r["request_id"]] = r["reason"]
            elif topic == "batch_results":
                for _, value in records:
                    self.batcher.result(CODEC.decode(value)[1])

    def run(self, steps: int) -> World:
        """Step, settle, and hold everything against what must be so. Raises AssertionError."""
        try:
            for _ in range(steps):
                self.step()
            self.settle()
            self.check()
        except Exception as error:
            error.add_note(f"seed {self.seed}, step {self.steps}: python -m tests.simulation {self.seed} {steps}")
            raise
        return self

    def settle(self) -> None:
        """Nobody asks any more; workers finish; time passes until nothing is open."""
        self._stalled = 0
        for n in range(3_000):
            for _ in range(20):
                self.fleet.take()
            self.journal.pass_time(5_000)
            self.journal.tick()
            if n % 20 == 19:
                self.batcher.end_all()
            self.site.read(self.site.lag, self.chance)
            self._see()
            idle = not (self.site.lag or self.fleet.queue or self.fleet.hands or self.batcher.active)
            if idle and self.journal.silent and not self.open_requests():
                return
        raise AssertionError(f"{self.open_requests()} requests never end")

    def open_requests(self) -> int:
        """How many requests have no outcome yet."""
        return len(self.auditor.books.asked) - len(self.auditor.books.rows)

    def check(self) -> None:
        """What must be so once everything has ended."""
        self.site.checkpoint()
        self.site.check_topics()
        found = self.auditor.finish()
        assert not found, f"{len(found)} violations: {found[:5]}"
        self.live.fold(self.site.engine.topics, self.site.flushed, self.now_ms)
        self.live.check(self.auditor.books, self.now_ms)
        for row in self.auditor.books.rows.values():
            self.stats[f"{row.status}/{row.cache}"] += 1

    @property
    def now_ms(self) -> int:
        """The world's time."""
        return self.journal.now_ms


def show(world: World) -> str:
    """What a run has tried, in one line."""
    return orjson.dumps(dict(sorted(world.stats.items()))).decode()
