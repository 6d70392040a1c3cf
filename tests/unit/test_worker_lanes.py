"""Lane scheduling, simulated: shares are kept, nothing starves, the reserve stands."""

from __future__ import annotations

import heapq
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from workers.lanes import RECENT_MS, SHARES, Lanes


def simulate(slots: int, waiting: set[str], took_ms: dict[str, int], until_ms: int) -> Counter[str]:
    """Slot time by lane when every lane in `waiting` is never empty."""
    lanes, running, used, now = Lanes(slots), [], Counter(), 0
    while now < until_ms:
        for lane in waiting:
            lanes.arrive(lane, now)
        while (lane := lanes.choose(waiting, now)) is not None:
            heapq.heappush(running, (now + took_ms[lane], lane, now, lanes.start(lane)))
        now, lane, began, charge = heapq.heappop(running)
        lanes.finish(lane, charge, now - began)
        used[lane] += now - began
    return used


def test_a_saturated_pool_is_shared_by_slot_time() -> None:
    took = {"interactive": 100, "standard": 300, "batch": 1_000}
    for slots in (1, 4, 16):
        used = simulate(slots, set(SHARES), took, 1_000_000)
        for lane, share in SHARES.items():
            assert abs(used[lane] / sum(used.values()) - share) < 0.05, (slots, used)


def test_an_idle_lane_leaves_its_share_to_the_others() -> None:
    used = simulate(8, {"batch"}, {"batch": 500}, 100_000)
    assert used["batch"] >= 8 * 99_000


def test_the_toy_of_the_design_keeps_both() -> None:
    """One server, 90% interactive load, 2,000 batch items: batch gets its share, interactive waits bounded."""
    rng, lanes = random.Random(3), Lanes(1)
    arrivals, now = [], 0.0
    while now < 1_000_000:
        now += rng.expovariate(1 / 1_000)
        arrivals.append(int(now))
    queue, waits, batch, served, now_ms = [], [], 2_000, 0, 0
    while arrivals or queue:
        while arrivals and arrivals[0] <= now_ms:
            queue.append(arrivals.pop(0))
            lanes.arrive("interactive", now_ms)
        waiting = [lane for lane, n in (("interactive", len(queue)), ("batch", batch)) if n]
        lane = lanes.choose(waiting, now_ms)
        if lane is None:
            now_ms = arrivals[0]
            continue
        took = 900
        if lane == "interactive":
            waits.append(now_ms - queue.pop(0))
        else:
            batch, served = batch - 1, served + (now_ms < 1_000_000)
        charge = lanes.start(lane)
        now_ms += took
        lanes.finish(lane, charge, took)
    assert served >= 100
    assert sorted(waits)[len(waits) // 2] < 60_000


def test_batch_leaves_the_last_slots_while_interactive_is_present() -> None:
    lanes = Lanes(4)
    lanes.arrive("interactive", 0)
    taken = 0
    while lanes.choose(["batch"], 1) == "batch":
        lanes.start("batch")
        taken += 1
    assert taken == 3 and lanes.choose(["batch", "interactive"], 1) == "interactive"
    assert lanes.choose(["batch"], RECENT_MS + 1) == "batch"


def test_a_busy_interactive_lane_cannot_shut_batch_out() -> None:
    lanes = Lanes(4)
    lanes.arrive("interactive", 0)
    for _ in range(3):
        lanes.start("interactive")
    assert lanes.choose(["batch"], 1) == "batch"


def test_a_lane_that_was_idle_banks_no_credit() -> None:
    lanes = Lanes(1)
    for now in range(0, 100_000, 100):
        assert lanes.choose(["interactive"], now) == "interactive"
        lanes.finish("interactive", lanes.start("interactive"), 100)
    first = []
    for now in range(100_000, 110_000, 100):
        lane = lanes.choose(["interactive", "batch"], now)
        first.append(lane)
        lanes.finish(lane, lanes.start(lane), 100)
    assert first[:20].count("batch") <= 4


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
                held.append((chosen, lanes.start(chosen)))
                assert lanes.running <= slots
            elif held:
                name, charge = held.pop(0)
                lanes.finish(name, charge, took)
        return out

    assert play() == play()
