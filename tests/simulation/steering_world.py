"""Pools that die and recover, a canary that turns bad, tenants who obey what they were told, and an oracle beside it.

The oracle knows the truth (which pool is dead, which share is bad) and none of the rules' code.
"""

from __future__ import annotations

import heapq
import random
from typing import Any

from schemas import config, config_check
from streams.steering import Ended, Steering, Tell

T0 = 1_700_000_000_000
TICK_MS = 250
LONGEST_MS = 30_000
# What the rules promise, written down a second time.
ROW, PAUSES_S, MEMORY_MS = 5, (5, 10, 20, 40, 60), 120_000
MIN_REQUESTS, WINDOW_MS, SLOW_MS = 20, 60_000, 2_000

CONFIG: dict[str, Any] = {
    "tenants": {"acme": {}, "globex": {}},
    "pools": {"p1": {"engine": "echo"}, "p2": {"engine": "echo"}, "p3": {"engine": "echo"}},
    "models": {
        "good": {"route": ["p1", "p2"]},
        "new": {"route": ["p3", "p2"]},
        "chat": {
            "split": [{"model": "good", "weight": 70}, {"model": "new", "weight": 30}],
            "canary": {"model": "new", "max_error_percent": 20, "max_ms": SLOW_MS, "min_requests": MIN_REQUESTS},
        },
    },
}


def document(tenants: tuple[str, ...] = ("acme", "globex")) -> config.ConfigDocument:
    return config.document(config_check.parse({**CONFIG, "tenants": {name: {} for name in tenants}}))


class World:
    """One controller, or two, over one journal. `run` goes through the faults and asserts on the way."""

    def __init__(self, seed: int, controllers: int = 1) -> None:
        self.random = random.Random(seed)
        self.now = T0
        self.live = document()
        self.published = T0
        self.steerings = [Steering() for _ in range(controllers)]
        self.told: dict[tuple[str, str], tuple[bool, int]] = {}
        self.journal: list[tuple[int, Ended | dict[str, Any]]] = []
        self.running: list[tuple[int, int, Ended, int, str]] = []
        self.count = 0
        # The truth: how each pool fares, since when, and failures in a row that began since it was last let in.
        self.state = {"p1": ("well", T0), "p2": ("well", T0), "p3": ("well", T0)}
        self.row = dict.fromkeys(self.state, 0)
        self.let_in = dict.fromkeys(self.state, 0)
        self.tries = dict.fromkeys(self.state, 0)
        self.alive = dict.fromkeys(self.state, 0)
        self.taken_back: list[int] = []
        self.turn = False
        for s in self.steerings:
            self.tell(s.configure(self.live, self.published, self.now))

    def set(self, pool: str, state: str) -> None:
        """well | dead | hung | gone (nobody serves it) | half (at random) | turns (one in two) | slow | flaky"""
        self.state[pool], self.tries[pool] = (state, self.now), 0

    def run(self, seconds: int, per_s: int = 20, *, only: str = "") -> None:
        """Requests come in for so long."""
        end = self.now + seconds * 1_000
        next_request = next_tick = self.now
        while self.now < end:
            first = self.running[0][0] if self.running else end
            self.now = min(next_request, next_tick, first, end)
            if self.now == first and self.running:
                self.end(*heapq.heappop(self.running)[2:])
            elif self.now == next_request:
                next_request += self.random.randrange(1, 2 * 1_000 // per_s)
                model = only or self.random.choice(["good", "good", "new"])
                self.begin(model, 0, self.random.choice(self.live.tenants))
            elif self.now == next_tick:
                next_tick += TICK_MS
                self.tick()

    def begin(self, model: str, step: int, tenant: str) -> None:
        """An attempt at the first pool from `step` on that the tenant was not told to avoid."""
        route = self.live.models[model].route
        while step + 1 < len(route) and self.told.get((tenant, route[step]), (False, 0))[0]:
            step += 1
        outcome, code, took = self.fate(route[step])
        extra = self.random.random()
        if extra < 0.05 and code != "pool_silent":  # what concerns neither pools nor canaries, or no canary
            outcome, code, took = self.random.choice(
                [("invalid", "upstream_refused", 50), ("cancelled", "request_cancelled", 20),
                 ("unavailable", "pool_busy", 0) if model != "new" else ("expired", "request_timeout", 5)]
            )  # fmt: skip
        e = Ended(model, "", route[step], step, outcome, code, took)
        self.count += 1
        heapq.heappush(self.running, (self.now + took, self.count, e, self.now, tenant))
        if extra > 0.6 and model == "new":  # a shadow and a guard, both failing for reasons of their own
            for odd in (e._replace(shadow_of="x", step=0), e._replace(step=-1)):
                self.count += 1
                failing = odd._replace(pool="elsewhere", outcome="failed", code="internal_error", took_ms=1)
                heapq.heappush(self.running, (self.now + 1, self.count, failing, self.now, tenant))

    def fate(self, pool: str) -> tuple[str, str, int]:
        state, chance = self.state[pool][0], self.random.random()
        took = self.random.randrange(50, 400)
        if state == "slow":
            return "ok", "", took + SLOW_MS
        if state == "turns":
            self.turn = not self.turn
            return ("ok", "", 100) if self.turn else ("unavailable", "pool_unavailable", 100)
        if state == "dead" or (state == "half" and chance < 0.6) or (state == "flaky" and chance < 0.02):
            return "unavailable", "pool_unavailable", self.random.randrange(1, 30)
        if state == "gone":
            return "unavailable", "pool_silent", LONGEST_MS
        if state == "hung":
            return "unavailable", "pool_timeout", LONGEST_MS
        return "ok", "", took

    def end(self, e: Ended, began: int, tenant: str) -> None:
        """The completion reaches the journal; the next pool is tried where one is."""
        self.journal.append((self.now, e))
        for s in self.steerings:
            self.tell(s.complete(e, self.now))
        if e.pool in self.row and began >= self.let_in[e.pool]:
            if e.outcome == "ok":
                self.row[e.pool] = 0
            elif e.code in ("pool_unavailable", "pool_timeout"):
                self.row[e.pool] += 1
            elif e.code == "pool_silent":
                self.row[e.pool] += began > self.alive[e.pool]
        if e.pool in self.alive and e.code != "pool_silent":
            self.alive[e.pool] = self.now
        if e.outcome == "unavailable" and e.step >= 0 and not e.shadow_of:
            route = self.live.models[e.model].route
            if e.step + 1 < len(route):
                self.begin(e.model, e.step + 1, tenant)
        self.check()
        self.take_back()

    def tick(self) -> None:
        for s in self.steerings:
            self.tell(s.advance(self.now))
        self.check()

    def tell(self, tells: list[Tell]) -> None:
        for t in tells:
            for tenant in t.tenants:
                was_open = self.told.get((tenant, t.pool), (False, 0))[0]
                self.told[tenant, t.pool] = (t.is_open, self.now)
                notice = {"tenant": tenant, "pool": t.pool, "open": t.is_open, "at": t.at_ms}
                self.journal.append((self.now, notice))
                for s in self.steerings:
                    s.hear(notice)  # type: ignore[arg-type]
                if tenant == self.live.tenants[0] and was_open and not t.is_open:
                    self.row[t.pool], self.let_in[t.pool] = 0, self.now
                    self.tries[t.pool] += 1
                if t.is_open and not was_open:
                    state, since = self.state[t.pool]
                    assert state != "well" or since > self.let_in[t.pool], f"{t.pool} is told of an outage that is over"
                    healthy = state in ("well", "flaky", "slow") and self.now > since + LONGEST_MS + 31_000
                    assert not healthy, f"{t.pool} is well since {self.now - since} ms, and was told to be avoided"

    def check(self) -> None:
        """What must hold at any moment."""
        for pool, (state, since) in self.state.items():
            views = {self.told.get((t, pool), (False, 0))[0] for t in self.live.tenants}
            assert len(views) == 1, f"tenants were told different things of {pool}"
            is_open = views == {True}
            assert self.row[pool] < ROW or is_open, f"{self.row[pool]} failures in a row, and {pool} is still in use"
            if is_open:
                said = max(self.told[t, pool][1] for t in self.live.tenants)
                assert self.now - said <= PAUSES_S[-1] * 1_000 + 2 * TICK_MS, f"{pool} is never tried"
            if state == "well" and self.now > since + 2 * PAUSES_S[-1] * 1_000 + LONGEST_MS:
                assert not is_open, f"{pool} is well since {self.now - since} ms and still avoided"
            if state == "dead":
                most = len(PAUSES_S) + (self.now - since) // (PAUSES_S[-1] * 1_000) + 1
                assert self.tries[pool] <= most, f"{pool} was tried {self.tries[pool]} times while it is dead"

    def take_back(self) -> None:
        """Publish what is decided, as the controller does."""
        due = next((s.due_back for s in self.steerings if s.due_back), {})
        for model, why in dict(due).items():
            assert model == "chat"
            self.taken_back.append(self.now)
            self.configure(config.without_share(self.live, model, why))

    def configure(self, to: config.ConfigDocument) -> None:
        self.live, self.published = to, self.now
        for s in self.steerings:
            self.tell(s.configure(to, self.now, self.now))

    def restart(self) -> None:
        """Every controller dies, and one comes back that reads the last minutes."""
        new = Steering()
        new.configure(self.live, self.published, 0)
        for at, what in self.journal:
            if at >= self.now - MEMORY_MS:
                new.complete(what, at) if isinstance(what, Ended) else new.hear(what)  # type: ignore[arg-type]
        self.steerings = [new]
        self.tell(new.tell_all(self.now))
