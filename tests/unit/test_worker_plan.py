"""From what workers tell to how many there shall be."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streams.planner import Due, Fleet, Plan
from workers import census
from workers.plan import look, table
from workers.reading import DueReading, LaneReading, PoolReading, Reading

BATCH = LaneReading(
    backlog=102, unread=90, waiting=10, busy=2, oldest_ms=9_000, tokens=10_000, due=(DueReading(100_000, 10_000),)
)
IDLE = {name: LaneReading() for name in ("interactive", "standard", "batch")}


def reading(worker: str, *, rate: float = 100.0, slots: int = 4, reserved: int = 0, **lanes: LaneReading) -> Reading:
    return Reading(worker, 1, {"p": PoolReading(slots, rate, reserved, {**IDLE, **lanes})})


def test_workers_add_up() -> None:
    told = census.pools(
        [reading("a", batch=BATCH, reserved=1), reading("b", rate=300.0, batch=BATCH), reading("c", slots=0)]
    )
    lanes = census.lanes(told["p"])
    assert (lanes["batch"].waiting, lanes["batch"].tokens, lanes["batch"].busy) == (200, 20_000, 4)
    assert (lanes["batch"].oldest_age_ms, lanes["batch"].due) == (9_000, (Due(100_000, 10_000),) * 2)
    assert (lanes["interactive"].reserved, lanes["batch"].reserved) == (1, 0)
    assert census.fleet(told["p"], 0, 9) == Fleet(2, 4, 200.0, 0, 9)


def test_a_deadline_at_risk_asks_for_workers_and_says_so() -> None:
    outlook, _ = look({"a:1": reading("a", batch=BATCH), "b:1": reading("b")}, {}, 0, 10, 0)
    pool = outlook.pools["p"]
    # 10,000 tokens in four fifths of 100 s: 125/s, where one worker gives 100.
    assert (pool.running, pool.need, [d.why for d in pool.demands]) == (2, 1.25, ["deadline"])
    assert pool.workers == 2
    out = io.StringIO()
    Console(file=out, width=120).print(table(outlook))
    assert "batch: a deadline in 100 s (1.25)" in out.getvalue()


def test_nothing_to_do_ends_at_zero_but_not_while_somebody_is_silent() -> None:
    outlook, plans = look({"a:1": reading("a")}, {}, 0, 10, 0)
    assert outlook.pools["p"].workers == 0
    before = {"p": Plan(2)}
    kept, _ = look({"a:1": reading("a"), "b:1": None}, before, 0, 10, 0)
    assert (kept.pools["p"].workers, kept.silent) == (2, ["b:1"])
    assert look({"a:1": None}, before, 0, 10, 0)[1] == before
    assert plans["p"].workers == 0


def test_what_lies_in_the_log_wakes_a_pool_that_nobody_serves_and_no_other() -> None:
    waits = {("p", "batch"): 500, ("q", "interactive"): 1, ("r", "batch"): 0}
    outlook, _ = look({"a:1": reading("a")}, {}, 0, 10, 0, waits)
    assert {name: pool.workers for name, pool in outlook.pools.items()} == {"p": 0, "q": 1, "r": 0}
    asleep, _ = look({"a:1": reading("a", slots=0)}, {}, 0, 10, 0, waits)
    assert asleep.pools["p"].workers == 1


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 5))
def test_a_larger_backlog_never_plans_fewer(tokens: int, more: int, slots: int) -> None:
    def planned(total: int) -> int:
        lane = LaneReading(backlog=5, waiting=5, tokens=total, due=(DueReading(60_000, total),))
        return look({"a:1": reading("a", slots=slots, batch=lane)}, {}, 0, 50, 0)[0].pools["p"].workers

    assert 1 <= planned(tokens) <= planned(tokens + more)
