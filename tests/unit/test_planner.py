"""How many workers: tables of cases, and what must hold for all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.planner import UTILISATION, WINDOW_MS, Demand, Due, Fleet, Lane, Plan, demands, need, plan

FLEET = Fleet(workers=4, slots=8, tokens_per_s=100)
DUES = st.lists(st.builds(Due, st.integers(-10_000, 10**7), st.integers(0, 10**6)), max_size=5).map(tuple)
LANE = st.builds(
    Lane,
    waiting=st.integers(0, 10**6),
    tokens=st.integers(0, 10**8),
    oldest_age_ms=st.integers(0, 10**6),
    due=DUES,
    busy=st.integers(0, 500),
    reserved=st.integers(0, 100),
)
LANES = st.dictionaries(st.sampled_from(["interactive", "standard", "batch"]), LANE)
FLEETS = st.builds(
    Fleet,
    workers=st.integers(0, 50),
    slots=st.integers(1, 64),
    tokens_per_s=st.sampled_from([0.0, 1.0, 100.0, 5_000.0]),
    least=st.integers(0, 2),
    most=st.integers(3, 40),
)


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [
        ({}, 0),
        # 200 tokens that have waited half of their second: 400/s, four workers.
        ({"interactive": Lane(waiting=2, tokens=200, oldest_age_ms=500)}, 4),
        # The target is missed: a tenth of it is left.
        ({"interactive": Lane(waiting=1, tokens=20, oldest_age_ms=60_000)}, 2),
        ({"standard": Lane(waiting=9, tokens=3_000, oldest_age_ms=0)}, 1),
        # 32 slots in use at 80% of 8: five workers keep up with them.
        ({"interactive": Lane(busy=32)}, 5),
        # Batch fills what there is, and asks for no more than its deadline does.
        ({"batch": Lane(busy=500)}, 0),
        ({"batch": Lane(waiting=10, tokens=720_000)}, 2),
        # A million tokens in 10,000 s: 125/s at four fifths of the time.
        ({"batch": Lane(waiting=9, tokens=10**6, due=(Due(10**7, 10**6),))}, 2.777),
        # The nearer deadline is the steeper one, whatever the order; the later one counts all that is due before it.
        ({"batch": Lane(waiting=2, due=(Due(10**6, 60_000), Due(10**5, 20_000)))}, 2.5),
        ({"batch": Lane(waiting=2, due=(Due(10**6, 300_000), Due(10**5, 20_000)))}, 4),
        # Past its deadline: a second, not infinity.
        ({"batch": Lane(waiting=1, tokens=500, due=(Due(-5_000, 500),))}, 5),
    ],
)
def test_need(lanes: dict[str, Lane], expected: float) -> None:
    assert need(lanes, FLEET) == pytest.approx(expected, abs=0.01)


def test_before_anything_was_measured_each_piece_wants_a_slot() -> None:
    unknown = replace(FLEET, tokens_per_s=0)
    assert need({"batch": Lane(waiting=20, tokens=10**9), "standard": Lane(waiting=4)}, unknown) == 3


@given(LANES, FLEETS, st.sampled_from(["interactive", "standard", "batch"]), LANE)
def test_more_work_never_needs_fewer_workers(lanes: dict[str, Lane], fleet: Fleet, name: str, more: Lane) -> None:
    lane = lanes.get(name, Lane())
    grown = Lane(
        lane.waiting + more.waiting,
        lane.tokens + more.tokens,
        lane.oldest_age_ms + more.oldest_age_ms,
        lane.due + more.due,
        lane.busy + more.busy,
        lane.reserved + more.reserved,
    )
    larger = {**lanes, name: grown}
    assert need(larger, fleet) >= need(lanes, fleet) - 1e-6
    assert plan(Plan(0), larger, fleet, 0).workers >= plan(Plan(0), lanes, fleet, 0).workers


@given(LANES, LANES, FLEETS)
def test_a_step_is_bounded_and_work_is_never_left_alone(
    first: dict[str, Lane], lanes: dict[str, Lane], fleet: Fleet
) -> None:
    before = plan(Plan(0), first, fleet, 0)
    for now_ms in (1, WINDOW_MS + 2):
        workers = plan(before, lanes, fleet, now_ms).workers
        assert workers <= fleet.most or workers < fleet.workers
        if fleet.workers <= fleet.most:
            assert workers <= max(2 * fleet.workers, 1, fleet.least)
        if fleet.workers >= fleet.least:
            assert workers >= min(fleet.workers // 2, fleet.most)
        if any(lane.waiting or lane.busy for lane in lanes.values()):
            assert workers >= 1


@given(LANES, FLEETS)
def test_what_does_not_change_settles_and_stays(lanes: dict[str, Lane], fleet: Fleet) -> None:
    before, seen = Plan(0), []
    for at in range(30):
        before = plan(before, lanes, fleet, at * WINDOW_MS // 4)
        fleet = replace(fleet, workers=before.workers)
        seen.append(before.workers)
    assert len(set(seen[20:])) == 1
    exact = min(max(need(lanes, fleet), fleet.least), fleet.most)
    assert exact / 1.1 - 1 <= seen[-1] <= exact / 0.9 + 1


def test_up_at_once_and_down_only_after_the_window() -> None:
    busy, calm = {"interactive": Lane(busy=100)}, {"interactive": Lane(busy=10)}
    up = plan(Plan(4), busy, FLEET, 0)
    assert up.workers == 8
    up = plan(up, busy, replace(FLEET, workers=8), 10_000)
    assert up.workers == 16
    fleet = replace(FLEET, workers=16)
    for now_ms in range(20_000, 10_000 + WINDOW_MS, 10_000):
        up = plan(up, calm, fleet, now_ms)
        assert up.workers == 16
    assert len(up.recent) <= 2 + WINDOW_MS // 10_000
    assert plan(up, calm, fleet, 10_001 + WINDOW_MS).workers == 8


def test_a_need_that_comes_and_goes_does_not_move_the_fleet() -> None:
    before, workers = Plan(8), 8
    for n in range(100):
        lanes = {"interactive": Lane(busy=50 if n % 2 else 10)}
        before = plan(before, lanes, replace(FLEET, workers=workers), n * 30_000)
        workers = before.workers
    assert workers == 8


@pytest.mark.parametrize(("busy", "expected"), [(66, 10), (68, 10), (72, 12), (60, 10), (56, 10), (40, 7)])
def test_less_than_a_tenth_is_let_be(busy: int, expected: int) -> None:
    assert plan(Plan(10), {"standard": Lane(busy=busy)}, replace(FLEET, workers=10), 0).workers == expected


def test_an_empty_pool_goes_to_its_least_and_wakes_for_one_piece() -> None:
    assert plan(Plan(1), {}, replace(FLEET, workers=1), 0).workers == 0
    assert plan(Plan(1), {}, replace(FLEET, workers=1, least=1), 0).workers == 1
    assert plan(Plan(0), {"batch": Lane(waiting=1, tokens=1)}, replace(FLEET, workers=0), 0).workers == 1


@given(LANES, FLEETS)
def test_the_reasons_add_up_to_the_need(lanes: dict[str, Lane], fleet: Fleet) -> None:
    assert sum(d.workers for d in demands(lanes, fleet)) == need(lanes, fleet)
    assert all(d.workers > 0 and d.lane in lanes for d in demands(lanes, fleet))


def test_the_reason_names_the_lane_and_the_steepest_deadline() -> None:
    lanes = {
        "interactive": Lane(busy=8, reserved=10),
        "standard": Lane(waiting=1, tokens=3_000, oldest_age_ms=10_000),
        "batch": Lane(waiting=2, tokens=80_000, due=(Due(10**6, 60_000), Due(10**5, 20_000))),
    }
    assert demands(lanes, FLEET) == (
        Demand("interactive", "running", 10 / (8 * UTILISATION)),
        Demand("standard", "waiting", 1.5, 20_000),
        Demand("batch", "deadline", 2.5, 100_000),
    )


@given(LANES, FLEETS, st.lists(st.integers(1, WINDOW_MS), max_size=20))
def test_the_fleet_settles_at_no_less_than_the_reserve_needs(
    lanes: dict[str, Lane], fleet: Fleet, pauses: list[int]
) -> None:
    """Whatever the other lanes do, from any size: it may take steps to get there, but never goes below once there."""
    reserve = Lane(reserved=fleet.slots)
    before, now_ms, there = Plan(fleet.workers), 0, False
    for number, pause_ms in enumerate([*pauses, *[WINDOW_MS] * 8]):
        now_ms += pause_ms
        found = {**(lanes if number % 2 else {}), "interactive": reserve}
        before = plan(before, found, fleet, now_ms)
        fleet = replace(fleet, workers=before.workers)
        floor = min(2, fleet.most)  # One worker's slots, at four fifths: two workers.
        assert before.workers >= floor or not there
        there = there or before.workers >= floor
    assert there


@given(LANES, FLEETS)
def test_nothing_goes_to_zero_while_something_waits_or_runs_and_all_does_when_nothing_did(
    lanes: dict[str, Lane], fleet: Fleet
) -> None:
    fleet = replace(fleet, least=0)
    before, now_ms = Plan(fleet.workers), 0
    for _ in range(8):
        before = plan(before, lanes, fleet, now_ms)
        fleet, now_ms = replace(fleet, workers=before.workers), now_ms + WINDOW_MS + 1
        if any(lane.waiting or lane.busy for lane in lanes.values()):
            assert before.workers >= 1
    for _ in range(12):
        before = plan(before, {}, fleet, now_ms)
        fleet, now_ms = replace(fleet, workers=before.workers), now_ms + WINDOW_MS + 1
    assert before.workers == 0
