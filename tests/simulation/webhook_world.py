"""Webhooks in a toy world: a log that outlives kills, endpoints of every temper, and an oracle that saw every call.

The clerk is what streams/webhooks.py is, without Kafka and HTTP: it carries out what Queue and deliveries decide. A
kill may come before or after any write; the clerk's memory and the calls under way are lost with it.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from schemas.webhooks import Webhook
from streams import deliveries
from streams.deliveries import Endpoint, Key
from streams.delivery_queue import Queue, Start

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_700_000_000_000
TIMEOUT_MS = 10_000
TICK_MS = 250
# So many come one by one within seconds, the rest whenever something happens.
EVENTS_AT_ONCE = 30
EVENTS = 60
# Several times what the most patient run needs.
MOST_CALLS = 5_000
# Nobody looks more seldom than this.
LONGEST_MS = 600_000


class Killed(BaseException):
    """The clerk is gone."""


class Call(NamedTuple):
    """A call as its endpoint saw it. `life` counts the clerks; a call of a killed one may have no end."""

    endpoint: Endpoint
    event_id: str
    at_ms: int
    ends_ms: int
    status: int
    life: int


class Temper(NamedTuple):
    """How an endpoint is: how long an answer takes, when it is out (from, until), when it says 410."""

    took_ms: int
    out: tuple[int, int] = (0, 0)
    gone: tuple[int, int] = (0, 0)

    def status(self, at_ms: int) -> int:
        if self.gone[0] <= at_ms < self.gone[1]:
            return 410
        return 0 if self.out[0] <= at_ms < self.out[1] else 204


class World:
    """`run` goes through three days, then judges."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_ms = START_MS
        self.events: list[tuple[dict[str, Any], int]] = []
        self.log: list[tuple[Any, int]] = []
        self.newest: dict[Key, Any] = {}
        self.calls: list[Call] = []
        self.published: list[int] = []
        self.kill_in = self.life = 0
        minutes, hours = self.chance.randrange(2, 40), self.chance.randrange(1, 20)
        self.tempers = {
            Endpoint("acme", "good"): Temper(20),
            Endpoint("acme", "slow"): Temper(8_000),
            Endpoint("acme", "flaky"): Temper(50, out=(START_MS + 30_000, START_MS + minutes * 60_000)),
            Endpoint("acme", "ill"): Temper(50, out=(START_MS, START_MS + hours * HOUR_MS)),
            Endpoint("acme", "dead"): Temper(50, out=(START_MS, START_MS + 9 * DAY_MS)),
            Endpoint("acme", "gone"): Temper(30, gone=(START_MS, START_MS + 3 * HOUR_MS)),
            Endpoint("globex", "good"): Temper(40),
        }
        self.begin()
        self.publish()

    # The clerk

    def begin(self) -> None:
        """A new clerk, who knows nothing."""
        self.life += 1
        self.begun_ms = self.now_ms
        self.queue = Queue()
        self.position = 0
        self.flying: list[tuple[int, int, Start]] = []
        if self.published:
            self.configure()

    def recover(self) -> None:
        for delivery in self.newest.values():
            self.queue.put(delivery)
        self.position = deliveries.next_position(d for d, _ in self.log)

    def step(self) -> None:
        while self.position < len(self.events):
            event, at_ms = self.events[self.position]
            hooks = [w for e, w in self.webhooks.items() if e.tenant == event["tenant"]]
            self.record(deliveries.plan(event, self.position, self.queue.known, hooks, at_ms, self.now_ms))
            self.position += 1
        for flight in [f for f in self.flying if f[0] <= self.now_ms]:
            self.flying.remove(flight)
            self.finish(*flight)
        starts, lost = self.queue.next(self.now_ms)
        for delivery in lost:
            self.record([deliveries.given_up(delivery)])
        for start in starts:
            self.call(start)

    def call(self, start: Start) -> None:
        endpoint = Endpoint(start.delivery["tenant"], start.webhook.name)
        temper = self.tempers[endpoint]
        status = temper.status(self.now_ms)
        ends_ms = self.now_ms + (temper.took_ms if status else TIMEOUT_MS)
        assert len(self.calls) < MOST_CALLS, "calls without end"
        self.calls.append(Call(endpoint, start.delivery["event_id"], self.now_ms, ends_ms, status, self.life))
        self.flying.append((ends_ms, self.now_ms, start))

    def finish(self, ends_ms: int, at_ms: int, start: Start) -> None:
        status = self.tempers[Endpoint(start.delivery["tenant"], start.webhook.name)].status(at_ms)
        error = "" if status == 204 else "it failed"
        attempt: Any = {"at": at_ms, "http_status": status, "error": error, "took_ms": ends_ms - at_ms}
        key = deliveries.key(start.delivery)
        self.record([deliveries.after(self.queue.known[key], attempt)], tried=True)

    def record(self, changed: Iterable[Any], *, tried: bool = False) -> None:
        for delivery in changed:
            self.kill_in -= 1
            if self.kill_in == 0 and self.chance.random() < 0.5:
                raise Killed
            self.log.append((delivery, self.now_ms))
            self.newest[Key(delivery["tenant"], delivery["endpoint"], delivery["event_id"])] = delivery
            if self.kill_in == 0:
                raise Killed
            if tried:
                self.queue.end(deliveries.key(delivery))
            self.queue.put(delivery)

    # The world

    @property
    def webhooks(self) -> dict[Endpoint, Webhook]:
        return {e: Webhook("https://example.com/", "HOOK", e.name) for e in self.tempers}

    def configure(self) -> None:
        self.queue.configure(self.webhooks, self.published[-1])

    def publish(self) -> None:
        self.published.append(self.now_ms)
        self.configure()

    def surviving(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Killed:
            self.begin()
            self.surviving(self.recover)

    def run(self) -> None:
        while self.now_ms < START_MS + 3 * DAY_MS:
            young = self.now_ms < START_MS + 6 * HOUR_MS
            if len(self.events) < EVENTS and self.chance.random() < 0.5:
                self.add_event()
            if young and self.chance.random() < 0.03:
                self.kill_in = self.chance.randrange(1, 8)
            if len(self.published) == 1 and self.now_ms > START_MS + 5 * HOUR_MS:
                self.publish()
            self.surviving(self.step)
            busy = len(self.events) < EVENTS_AT_ONCE or self.now_ms - self.begun_ms < 2_000
            self.now_ms += TICK_MS if busy else self.pause_ms()
        self.judge()

    def pause_ms(self) -> int:
        """Until something can happen, read from the log."""
        pending = [d["due_at"] for d in self.newest.values() if d["status"] == "pending"]
        times = [*pending, *(ends_ms for ends_ms, _, _ in self.flying)]
        soonest = min((at_ms for at_ms in times if at_ms > self.now_ms), default=self.now_ms + LONGEST_MS)
        return max(1, min(soonest - self.now_ms, LONGEST_MS))

    def add_event(self) -> None:
        if self.events and self.chance.random() < 0.3:  # the batcher was killed, and says it again; or somebody asks
            again = {"repeat": self.chance.random() < 0.3}
            self.events.append((self.chance.choice(self.events)[0] | again, self.now_ms))
            return
        number, tenant = len(self.events), self.chance.choice(["acme", "acme", "acme", "globex"])
        event = {"tenant": tenant, "event_id": f"evt_{number}", "type": "batch.completed", "batch_id": f"b{number}"}
        self.events.append((event | {"created_at": self.now_ms, "repeat": False, "endpoint": ""}, self.now_ms))

    # The oracle looks at what the endpoints saw and at the log, never into the clerk.

    def judge(self) -> None:
        asked: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for event, at_ms in self.events:
            if event["repeat"] or (event["tenant"], event["event_id"]) not in asked:
                asked[event["tenant"], event["event_id"]].append(at_ms)
        seen: defaultdict[tuple[Endpoint, str], list[Call]] = defaultdict(list)
        for call in self.calls:
            assert (call.endpoint.tenant, call.event_id) in asked, "a call to another tenant's endpoint"
            seen[call.endpoint, call.event_id].append(call)
        assert all(not k.endpoint or Endpoint(k.tenant, k.endpoint) in self.tempers for k in self.newest), "a stranger"
        for (tenant, event_id), times in asked.items():
            for endpoint in self.tempers:
                if endpoint.tenant == tenant:
                    end = self.newest[Key(tenant, endpoint.name, event_id)]
                    self.judge_delivery(endpoint.name, seen[endpoint, event_id], end, times)
        for endpoint in self.tempers:
            for life in range(1, self.life + 1):
                judge_slots([c for c in self.calls if (c.endpoint, c.life) == (endpoint, life)])
        self.judge_gone()
        self.judge_pauses()

    def judge_delivery(self, name: str, calls: list[Call], end: Any, asked: list[int]) -> None:
        good, status = [c for c in calls if c.status == 204], end["status"]
        if name == "dead":
            assert status == "failed" and not good, f"a dead endpoint's is {status}"
            assert DAY_MS <= calls[-1].at_ms - asked[-1] <= DAY_MS + 2 * LONGEST_MS, "the last try is at the day's end"
            assert 15 <= end["tries"] <= 24, f"{end['tries']} tries in a day"
        else:
            assert status == "delivered" and good, f"{name}: {status} after {len(good)} deliveries"
            assert len(good) - len({c.life for c in good}) < len(asked), "delivered twice without a kill"
            assert good[-1].at_ms >= asked[-1], "not delivered again when asked"
        if name == "good":
            assert calls[0].at_ms - asked[0] <= 5_000, "a healthy endpoint waits for others"
        for before, after in itertools.pairwise(calls):
            if before.life == after.life and not any(before.at_ms <= at_ms <= after.at_ms for at_ms in asked):
                assert after.at_ms - before.ends_ms >= 4_000 - TICK_MS, "tried again at once"

    def judge_gone(self) -> None:
        for delivery, at_ms in self.log:
            if any(a["http_status"] == 410 for a in delivery["attempts"][-1:]):
                until_ms = min((p for p in self.published if p > at_ms), default=1 << 62)
                called = [c for c in self.calls if c.endpoint.name == "gone" and at_ms < c.at_ms < until_ms]
                assert not called, "called although the log has it that it is gone"

    def judge_pauses(self) -> None:
        """Each attempt is made no sooner than the log said before."""
        due: dict[Key, tuple[int, int]] = {}
        for d, _ in self.log:
            key = Key(d["tenant"], d["endpoint"], d["event_id"])
            at_ms = d["attempts"][-1]["at"] if d["attempts"] else 0
            begun_ms, due_ms = due.get(key, (0, 0))
            if d["tries"] and begun_ms == d["begun_at"] != due_ms:
                assert at_ms >= due_ms, "tried before it was due"
            due[key] = (d["begun_at"], d["due_at"])


def judge_slots(calls: list[Call]) -> None:
    """Of one endpoint, in one life: four at once, one after a failure."""
    for call in calls:
        open_then = [c for c in calls if c is not call and c.at_ms <= call.at_ms < c.ends_ms]
        assert len(open_then) < 4, "more than four calls at once"
        # What ended within a tick may not have been looked at yet; a success among it counts.
        ended = [c for c in calls if c.ends_ms <= call.at_ms - (0 if c.status == 204 else TICK_MS)]
        last = max(ended, key=lambda c: c.at_ms, default=None)
        if last is not None and last.status != 204:
            assert not [c for c in open_then if c.at_ms > last.ends_ms + TICK_MS], "a failing endpoint takes more slots"
