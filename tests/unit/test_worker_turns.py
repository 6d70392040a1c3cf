"""The order within the batch lane: earliest deadline first, and no tenant far ahead of another."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.buffer import Buffer
from workers.turns import IDLE, LEAD, Claim, Turns

Line = tuple[str, int, int]  # tenant, deadline, cost
LINES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(1, 400)), max_size=80)


def turns(lines: list[Line], lead: float = LEAD) -> Turns[Line]:
    """A queue with these in it."""
    held: Turns[Line] = Turns(lambda line: Claim(*line), lead)
    for line in lines:
        held.add(line)
    return held


def drained(held: Turns[Line]) -> list[Line]:
    return [held.take() for _ in range(len(held))]


def late(line: Line) -> float:
    return line[1] or float("inf")


@given(LINES, st.integers(0, 2_000))
def test_all_come_out_once_and_each_tenants_in_order_of_deadline(lines: list[Line], lead: int) -> None:
    out = drained(turns(lines, lead))
    assert Counter(out) == Counter(lines)
    for tenant in "abc":
        mine = [line for line in out if line[0] == tenant]
        assert mine == sorted((line for line in lines if line[0] == tenant), key=late)


@given(LINES)
def test_within_the_lead_deadlines_alone_decide(lines: list[Line]) -> None:
    out = [late(line) for line in drained(turns(lines, lead=10**9))]
    assert out == sorted(out)


@given(LINES, st.integers(0, 1_000))
def test_no_tenant_with_work_is_ever_further_behind_than_the_lead_and_one_line(lines: list[Line], lead: int) -> None:
    held, used, left = turns(lines, lead), Counter[str](), Counter(line[0] for line in lines)
    while len(held):
        tenant, _, cost = held.take()
        used[tenant] += cost
        left[tenant] -= 1
        waiting = [t for t in left if left[t]]
        assert all(used[tenant] - used[other] <= lead + 400 for other in waiting)


def test_a_million_urgent_lines_do_not_keep_a_hundred_waiting() -> None:
    held = turns([("large", 1, 20)] * 100_000)
    for _ in range(50_000):
        held.take()
    for _ in range(100):
        held.add(("small", 9, 20))
    order = [held.take()[0] for _ in range(300)]
    assert order.count("small") == 100
    # Its first waits for the lead, the others take every second turn.
    assert order.index("small") <= LEAD / 20 + 1


def test_a_tenant_with_long_lines_gets_fewer_turns() -> None:
    out = [line[0] for line in drained(turns([("long", 5, 900)] * 100 + [("short", 5, 100)] * 900))]
    assert 25 <= out[:300].count("long") <= 35


def test_an_idle_tenant_banks_no_credit() -> None:
    held = turns([("busy", 5, 10)] * 2_000)
    for _ in range(1_000):
        held.take()
    for _ in range(500):
        held.add(("idle", 5, 10))
    assert 200 <= sum(held.take()[0] == "idle" for _ in range(500)) <= 300


def test_who_goes_and_comes_back_is_not_served_anew() -> None:
    held = turns([("steady", 0, 10)] * 3_000)
    held.add(("comes", 1, 10))
    order = []
    for _ in range(1_000):
        line = held.take()
        order.append(line[0])
        if line[0] == "comes":
            held.add(("comes", 1, 10))
    assert order.count("comes") <= 1_000 / 2 + LEAD / 10 + 1


def test_tenants_that_are_gone_are_forgotten() -> None:
    held = turns([])
    for n in range(5 * IDLE):
        held.add((f"t{n}", 5, 10))
        held.take()
    assert len(held._used) <= IDLE + 1


def test_the_empty_queue_says_so() -> None:
    with pytest.raises(IndexError):
        turns([]).take()


@given(LINES)
def test_what_is_not_wanted_is_dropped_and_its_bytes_with_it(lines: list[Line]) -> None:
    buffer: Buffer[Line] = Buffer(Turns(lambda entry: Claim(*entry[0])), high=10**6, low=0, high_bytes=4_000)
    for line in lines:
        buffer.put(line, line[2])
    buffer.keep(lambda line: line[0] != "b")
    left = [line for line in lines if line[0] != "b"]
    assert len(buffer) == len(left) and Counter(buffer.take() for _ in left) == Counter(left)
    buffer.put(("a", 1, 1), 3_999)
    assert not buffer.paused
