"""Lane scheduling, simulated: bursts have the engine, shares are kept, nothing starves, no slot idles needlessly."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers import lanes as module
from workers import presence
from workers.credit import Credit
from workers.lanes import HORIZON_MS, SHARES, Lanes
from workers.presence import LEAST_MS, MOST_MS, Presence
from workers.reserve import Reserve

STEP = 10


class Engine:
    """A pool's slots in steps of 10 ms. `arrivals` of interactive requests at ms; other lanes never run dry."""

    def __init__(self, lanes: Lanes, others: set[str], took_ms: dict[str, int], arrivals: list[int]) -> None:
        self.lanes, self.others, self.took = lanes, others, took_ms
        self.arrivals = arrivals[::-1]
        self.queue: list[int] = []
        self.running: list[list[Any]] = []
        self.used: list[Counter[str]] = []
        self.waits: list[int] = []
        self.stopped = 0

    def waiting(self) -> list[str]:
        return [*(["interactive"] if self.queue else []), *sorted(self.others)]

    def step(self, now: int) -> None:
        for entry in [e for e in self.running if e[1] <= now]:
            self.end(entry, now, whole=True)
        while self.arrivals and self.arrivals[-1] <= now:
            self.queue.append(self.arrivals.pop())
            self.lanes.arrive("interactive", now)
        for _ in range(self.lanes.surplus(self.waiting(), now)):
            self.end(next(e for e in self.running if e[0] == "batch"), now, whole=False)
            self.stopped += 1
        while (lane := self.lanes.choose(self.waiting(), now)) is not None:
            if lane == "interactive":
                self.waits.append(now - self.queue.pop(0))
            self.running.append([lane, now + self.took[lane], now, self.lanes.start(lane, now)])
            assert self.lanes.running <= self.lanes.slots
        self.used.append(Counter(entry[0] for entry in self.running))

    def end(self, entry: list[Any], now: int, *, whole: bool) -> None:
        self.running.remove(entry)
        self.lanes.finish(entry[0], entry[3], now - entry[2], now, whole=whole)

    def run(self, until_ms: int) -> Engine:
        for now in range(len(self.used) * STEP, until_ms, STEP):
            self.step(now)
        return self

    def part(self, lane: str, start_ms: int, end_ms: int) -> float:
        """The lane's part of all slot time in a stretch of time."""
        steps = self.used[start_ms // STEP : end_ms // STEP]
        return sum(step[lane] for step in steps) / (self.lanes.slots * len(steps))


TOOK = {"interactive": 150, "standard": 400, "batch": 1_500}


def burst(start: int, end: int, gap: int) -> list[int]:
    return list(range(start, end, gap))


def starves(lanes: Lanes) -> bool:
    """Whether endless interactive load keeps another lane below half of its share in some minute."""
    engine = Engine(lanes, {"standard", "batch"}, TOOK, burst(30_000, 230_000, 50)).run(230_000)
    starts = range(30_000, 170_000, 10_000)
    return any(engine.part(n, t, t + 60_000) < SHARES[n] / 3 for n in ("standard", "batch") for t in starts)


def is_disturbed(lanes: Lanes) -> bool:
    """Whether batch, when it had the pauses to itself, runs beside calls in bursts, or more than once in their gaps."""
    arrivals = [t for k in range(6) for t in burst(20_000 * k + 10_000, 20_000 * k + 20_000, 230)]
    engine = Engine(lanes, {"batch"}, TOOK, arrivals).run(120_000)
    steps = [
        step for k in range(1, 6) for step in engine.used[(20_000 * k + 10_100) // STEP : 20_000 * (k + 1) // STEP]
    ]
    return any(step["batch"] > (0 if step["interactive"] else 1) for step in steps)


def idles(lanes: Lanes) -> bool:
    """Whether slots stay empty in the pauses of ten seconds although batch waits."""
    arrivals = [t for k in range(6) for t in burst(20_000 * k + 10_000, 20_000 * k + 20_000, 700)]
    engine = Engine(lanes, {"batch"}, TOOK, arrivals).run(130_000)
    return any(engine.part("batch", 20_000 * k, 20_000 * k + 10_000) < 0.9 for k in range(6))


@pytest.mark.parametrize("slots", [1, 2, 4, 8])
def test_bursts_have_the_engine_pauses_are_harvested_and_no_lane_starves(slots: int) -> None:
    assert not is_disturbed(Lanes(slots))
    assert not idles(Lanes(slots))
    assert not starves(Lanes(slots))


def debt_is_endless(m: pytest.MonkeyPatch) -> None:
    m.setitem(module.HORIZON_MS, "batch", 10**9)


def debt_is_forgiven(m: pytest.MonkeyPatch) -> None:
    m.setitem(module.HORIZON_MS, "batch", 0)


def harvest_is_free(m: pytest.MonkeyPatch) -> None:
    real = Credit.advance
    m.setattr(
        Credit, "advance", lambda self, now, slots, running, *, waiting: real(self, now, slots, 0, waiting=waiting)
    )


def nothing_is_stopped(m: pytest.MonkeyPatch) -> None:
    m.setattr(Lanes, "surplus", lambda *a: 0)


def presence_is_forever(m: pytest.MonkeyPatch) -> None:
    m.setattr(Presence, "until", lambda self, part=1.0: 10**9)


def presence_ends_at_once(m: pytest.MonkeyPatch) -> None:
    m.setattr(Presence, "until", lambda self, part=1.0: self._last)


def pauses_are_taken_for_gaps(m: pytest.MonkeyPatch) -> None:
    m.setattr(presence, "MOST_MS", 20_000)


def interactive_always_goes_first(m: pytest.MonkeyPatch) -> None:
    m.setattr(Lanes, "_owed", lambda self, name: False)


def credit_is_saved_while_idle(m: pytest.MonkeyPatch) -> None:
    real = Credit.advance
    m.setattr(
        Credit, "advance", lambda self, now, slots, running, *, waiting: real(self, now, slots, running, waiting=True)
    )
    m.setitem(module.SAVED_MS, "batch", 10**9)


def saves_up(lanes: Lanes) -> bool:
    """Whether a lane that was idle takes more than its slots for long when it comes back."""
    engine = Engine(lanes, {"batch"}, TOOK, burst(0, 60_000, 50)).run(1_000)
    engine.others.clear()
    engine.run(40_000)
    lanes.arrive("batch", 40_000)
    engine.others.add("batch")
    engine.run(60_000)
    return engine.part("batch", 40_000, 60_000) > 1.5 * SHARES["batch"]


@pytest.mark.parametrize(
    ("plant", "seen"),
    [
        (debt_is_endless, starves),
        (debt_is_forgiven, is_disturbed),
        (harvest_is_free, is_disturbed),
        (nothing_is_stopped, is_disturbed),
        (presence_is_forever, idles),
        (presence_ends_at_once, is_disturbed),
        (pauses_are_taken_for_gaps, idles),
        (interactive_always_goes_first, starves),
        (credit_is_saved_while_idle, saves_up),
    ],
)
def test_planted_faults_are_seen(monkeypatch: pytest.MonkeyPatch, plant: Any, seen: Any) -> None:
    assert not seen(Lanes(4))
    plant(monkeypatch)
    assert seen(Lanes(4))


def simulate(slots: int, waiting: set[str], took_ms: dict[str, int], until_ms: int) -> Counter[str]:
    """Slot time by lane when every lane in `waiting` is never empty."""
    lanes, running, used, now = Lanes(slots), [], Counter(), 0
    while now < until_ms:
        for lane in waiting:
            lanes.arrive(lane, now)
        while (lane := lanes.choose(waiting, now)) is not None:
            heapq.heappush(running, (now + took_ms[lane], lane, now, lanes.start(lane, now)))
        now, lane, began, charge = heapq.heappop(running)
        lanes.finish(lane, charge, now - began, now)
        used[lane] += now - began
    return used


def test_a_saturated_pool_is_shared_by_slot_time() -> None:
    took = {"interactive": 100, "standard": 300, "batch": 1_000}
    for slots in (1, 4, 16):
        used = simulate(slots, set(SHARES), took, 1_000_000)
        for lane, share in SHARES.items():
            assert abs(used[lane] / sum(used.values()) - share) < 0.05, (slots, used)


def test_standard_and_batch_share_what_is_left_by_slot_time() -> None:
    used = simulate(4, {"standard", "batch"}, {"standard": 300, "batch": 1_000}, 1_000_000)
    assert abs(used["standard"] / sum(used.values()) - 2 / 3) < 0.05


def test_an_idle_lane_leaves_its_share_to_the_others() -> None:
    used = simulate(8, {"batch"}, {"batch": 500}, 100_000)
    assert used["batch"] >= 8 * 99_000


def test_the_toy_of_the_design_keeps_both() -> None:
    """One server, 90% interactive load, 2,000 batch items: batch gets its share, interactive waits bounded."""
    rng = random.Random(3)
    arrivals, now = [], 0.0
    while now < 1_000_000:
        now += rng.expovariate(1 / 1_000)
        arrivals.append(int(now))
    engine = Engine(Lanes(1), {"batch"}, dict.fromkeys(SHARES, 900), arrivals).run(1_000_000)
    assert engine.part("batch", 0, 1_000_000) >= 0.09
    assert sorted(engine.waits)[len(engine.waits) // 2] < 60_000


def test_in_a_gap_one_stopped_line_goes_on_at_once_and_a_new_one_begins_after_a_while() -> None:
    lanes = Lanes(4)
    for n in range(20):
        lanes.arrive("interactive", 1_000 * n)
        lanes.finish("interactive", lanes.start("interactive", 1_000 * n), 100, 1_000 * n + 100)
    for name in ("standard", "batch"):
        lanes._lanes[name].credit.level_ms = -1e6
    now = 19_100 + LEAST_MS
    assert lanes.choose(["batch"], now - 1, resumes=True) is None
    assert lanes.again_ms(["batch"], now - 1) == 1
    assert lanes.choose(["batch"], now) is None
    assert lanes.choose(["batch"], now, resumes=True) == "batch"
    assert lanes.choose(["standard"], now, resumes=True) is None
    assert lanes.choose(["batch"], 19_100 + 449) is None and lanes.choose(["batch"], 19_100 + 450) == "batch"
    lanes.start("batch", now)
    assert lanes.choose(["batch"], now, resumes=True) is None and lanes.surplus(["batch"], now) == 0
    assert lanes.surplus(["batch", "interactive"], now + 1) == 1
    assert lanes.choose(["batch"], 20_000 + 100) == "batch"


def test_strict_is_interactive_first_and_stops_nothing() -> None:
    lanes = Lanes(2, "strict")
    lanes.arrive("interactive", 0)
    assert lanes.choose(["batch"], 1) == "batch"
    lanes.start("batch", 1)
    assert lanes.choose(["batch", "standard", "interactive"], 2) == "interactive"
    assert lanes.surplus(["interactive"], 2) == 0 and lanes.again_ms(["batch"], 2) is None


def test_the_hold_off_is_as_long_as_the_gaps_of_a_burst() -> None:
    held = Presence()

    def come(now: int) -> int:
        held.arrive(now, running=False)
        held.finish(now + 100, running=False)
        return held.until() - (now + 100)

    assert come(0) == LEAST_MS
    assert {come(400 * n) for n in range(2, 30)} <= {300, 700}
    for n in range(40):
        last = come(1_000_000 + 10_000 * n)
    assert last == LEAST_MS  # They come one by one now: nothing is gained by waiting.
    for n in range(64):
        last = come(2_000_000 + 130 * n)
    assert last == LEAST_MS


@given(st.lists(st.tuples(st.integers(0, 20_000), st.booleans()), max_size=80))
def test_the_hold_off_is_bounded(gaps: list[tuple[int, bool]]) -> None:
    held, now = Presence(), 0
    for gap, running in gaps:
        now += gap
        held.arrive(now, running=running)
        held.finish(now, running=running)
        assert LEAST_MS <= held.until() - now <= MOST_MS


def test_what_cannot_be_stopped_leaves_a_reserve_that_follows_the_callers() -> None:
    lanes = Lanes(16, stops=False)
    for now in range(0, 60_000, 100):  # 10 a second, 400 ms each: four in service, and two deviations more
        lanes.arrive("interactive", now)
        lanes.finish("interactive", lanes.start("interactive", now), 400, now)
    assert 6 <= lanes.reserve.slots(16, 60_000) <= 9
    lanes.arrive("interactive", 60_000)
    taken = 0
    while lanes.choose(["batch"], 60_000 + LEAST_MS) == "batch":
        lanes.start("batch", 60_000 + LEAST_MS)
        taken += 1
    assert 7 <= taken <= 10 and lanes.choose(["batch", "interactive"], 60_100) == "interactive"
    assert lanes.again_ms(["batch"], 60_100) is not None
    assert lanes.reserve.slots(16, 240_000) == 0


def test_the_reserve_grows_while_first_tokens_are_late_and_shrinks_in_quiet() -> None:
    reserve = Reserve()

    def tokens(waited_ms: float, beside: bool, start: int, count: int) -> int:
        for n in range(count):
            reserve.arrive(start + 100 * n)
            reserve.finish(100)
            reserve.first_token(waited_ms, start + 100 * n, beside=beside)
        return reserve.slots(16, start + 100 * count)

    floor = tokens(50, True, 0, 900)
    raised = tokens(200, True, 90_000, 100)
    assert raised > floor
    assert tokens(50, True, 100_000, 2_000) == floor


@given(st.integers(1, 64), st.lists(st.tuples(st.integers(0, 5_000), st.floats(0, 60_000), st.booleans()), max_size=60))
def test_the_reserve_leaves_a_slot(slots: int, events: list[tuple[int, float, bool]]) -> None:
    reserve, now = Reserve(), 0
    for gap, took, beside in events:
        now += gap
        reserve.arrive(now)
        reserve.finish(took)
        reserve.first_token(took, now, beside=beside)
        assert 0 <= reserve.slots(slots, now) <= slots - 1
    assert reserve.slots(slots, now + 3_600_000) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_in_any_load_batch_is_owed_within_its_horizon_and_looks_again_in_time(slots: int, seed: int) -> None:
    rng = random.Random(seed)
    lanes = Lanes(slots)
    harvest = rng.randrange(0, 60_000, STEP)
    gap = rng.choice([20, 80, 300])
    engine = Engine(lanes, {"batch"}, TOOK, burst(harvest, 120_000, gap)).run(harvest + 10)
    end = harvest + HORIZON_MS["batch"] + 30_000
    while len(engine.used) * STEP < end:
        now = len(engine.used) * STEP
        engine.step(now)
        again = lanes.again_ms(engine.waiting(), now)
        assert again is None or again >= 1
    assert engine.part("batch", end - 30_000, end) >= SHARES["batch"] / 3


@given(st.integers(1, 9), st.lists(st.tuples(st.sampled_from(sorted(SHARES)), st.integers(1, 500)), max_size=60))
def test_never_more_than_the_slots_and_always_the_same(slots: int, events: list[tuple[str, int]]) -> None:
    def play() -> list[str | None]:
        lanes, out, held, now = Lanes(slots), [], [], 0
        for lane, took in events:
            now += took
            lanes.arrive(lane, now)
            chosen = lanes.choose([lane, "batch"], now)
            out.append(chosen)
            if chosen:
                held.append((chosen, lanes.start(chosen, now)))
                assert lanes.running <= slots
            elif held:
                name, charge = held.pop(0)
                lanes.finish(name, charge, took, now)
        return out

    assert play() == play()
