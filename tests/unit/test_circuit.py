from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import circuit
from streams.circuit import (
    CALM_MS,
    FIRST_PAUSE_MS,
    IN_A_ROW,
    MAX_PAUSE_MS,
    MIN_ATTEMPTS,
    WINDOW_MS,
    Circuit,
    adopt,
    advance,
    decide,
    result_of,
)  # fmt: skip
from streams.steering import code_of
from workers import outcome
from workers.outcome import Refusal

T = 1_000_000
results = st.sampled_from(["good", "bad", "neither"])
# What ended when, after how long.
histories = st.lists(st.tuples(results, st.integers(0, 20_000), st.integers(0, 30_000)), max_size=80)


def run(c: Circuit, results: str, at_ms: int = T, *, apart_ms: int = 1) -> Circuit:
    """The circuit after attempts that took no time: + is good, - is bad, . is neither."""
    for i, sign in enumerate(results):
        now = at_ms + i * apart_ms
        c, _ = decide(c, {"+": "good", "-": "bad", ".": "neither"}[sign], now, now)
    return c


def opened(at_ms: int = T) -> Circuit:
    return run(Circuit(), "-" * IN_A_ROW, at_ms)


def on_trial(c: Circuit) -> Circuit:
    after, change = advance(c, c.due)
    assert change == "tried"
    return after


@pytest.mark.parametrize(
    ("history", "phase"),
    [
        ("-" * 4, "closed"),
        ("-" * 5, "open"),
        ("----+----", "closed"),
        ("----.-", "open"),  # a caller's mistake in between says nothing
        ("." * 100, "closed"),
        ("+" * 100, "closed"),
        ("-+" * 9, "closed"),  # half of them, but too few to say so
        ("+-" * 10, "open"),
        ("++-" * 40, "closed"),
        ("--+" * 7, "open"),
    ],
)
def test_a_circuit_opens_on_a_row_or_a_share(history: str, phase: str) -> None:
    assert run(Circuit(), history).phase == phase


def test_a_share_is_of_the_last_while() -> None:
    assert run(Circuit(), "+-" * 10, apart_ms=1_000).phase == "open"
    assert run(Circuit(), "+-" * 10, apart_ms=WINDOW_MS // (MIN_ATTEMPTS - 2)).phase == "closed"
    # Failures that came after a long time of health are not thinned out by it.
    well = run(Circuit(), "+" * 2_000)
    assert run(well, "+-" * 10, T + 2 * WINDOW_MS).phase == "open"


def test_after_a_pause_it_is_tried_and_the_first_attempt_decides() -> None:
    c = opened()
    assert c.due == c.since + FIRST_PAUSE_MS
    assert advance(c, c.due - 1) == (c, "none")
    c = on_trial(c)
    now = c.since + 10
    assert decide(c, "neither", now, now) == (c, "none")
    closed, change = decide(c, "good", c.since, now)
    assert (closed.phase, change) == ("closed", "closed")
    again, change = decide(c, "bad", c.since, now)
    assert (again.phase, again.pause_ms, change) == ("open", 2 * FIRST_PAUSE_MS, "opened")


@pytest.mark.parametrize("result", ["good", "bad"])
def test_an_attempt_begun_before_the_trial_decides_nothing(result: circuit.Result) -> None:
    c = on_trial(opened())
    assert decide(c, result, c.since - 1, c.since + 50_000) == (c, "none")
    closed, _ = decide(c, "good", c.since, c.since + 1)
    for i in range(10):  # the last of the outage, timed out by now
        assert decide(closed, "bad", c.since - 1, c.since + 2 + i) == (closed, "none")


def test_pauses_double_to_a_bound_and_are_forgotten_after_a_calm() -> None:
    c, pauses = opened(), []
    for _ in range(6):
        pauses.append(c.pause_ms)
        c = on_trial(c)
        c, _ = decide(c, "bad", c.since, c.since + 1)
    assert pauses == [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]
    c = on_trial(c)
    closed, _ = decide(c, "good", c.since, c.since)
    soon = opened_again(closed, closed.since + CALM_MS - 100)
    assert soon.pause_ms == MAX_PAUSE_MS
    assert opened_again(closed, closed.since + CALM_MS).pause_ms == FIRST_PAUSE_MS


def opened_again(c: Circuit, at_ms: int) -> Circuit:
    after = run(c, "-" * IN_A_ROW, at_ms)
    assert after.phase == "open"
    return after


def test_an_open_circuit_listens_to_nobody() -> None:
    c = opened()
    assert run(c, "+-+.-++", c.since + 1) == c


@given(histories)
def test_callers_mistakes_change_nothing(history: list[tuple[circuit.Result, int, int]]) -> None:
    with_them = without = Circuit()
    now = T
    for result, wait, took in history:
        now += wait
        with_them, without = advance(with_them, now)[0], advance(without, now)[0]
        with_them, change = decide(with_them, "neither", now - took, now)
        assert change == "none"
        with_them, _ = decide(with_them, result, now - took, now)
        without, _ = decide(without, result, now - took, now)
        assert with_them == without


@given(histories)
def test_a_circuit_opens_only_on_a_failure_and_closes_only_on_a_success(history: list[tuple]) -> None:
    c, now = Circuit(), T
    for result, wait, took in history:
        now += wait
        c, change = advance(c, now)
        assert change in ("none", "tried")
        assert (change == "tried") <= (c.heard_from == now)
        before = c
        c, change = decide(c, result, now - took, now)
        assert (change == "opened") <= (result == "bad" and before.phase != "open")
        assert (change == "closed") <= (result == "good" and before.phase == "trial")
        assert FIRST_PAUSE_MS <= c.pause_ms <= MAX_PAUSE_MS or (c.phase == "closed" and not c.pause_ms)
        assert len(c.seen.slices) <= 12
        assert c.phase != "open" or c.due <= now + MAX_PAUSE_MS


@given(st.integers(0, 200), st.integers(0, 2_000))
def test_a_dead_pool_is_always_found_out(good: int, apart_ms: int) -> None:
    c = run(Circuit(), "+" * good)
    assert run(c, "-" * IN_A_ROW, T + good + 1, apart_ms=apart_ms).phase == "open"


def test_what_another_said_is_taken_over_and_ones_own_words_are_known() -> None:
    mine = opened()
    assert adopt(mine, is_open=True, at_ms=mine.since) == mine
    assert adopt(mine, is_open=True, at_ms=mine.since + 3) == mine
    assert adopt(mine, is_open=False, at_ms=mine.since - 1) == mine  # older than what is known
    tried = adopt(mine, is_open=False, at_ms=mine.since + 9)
    assert (tried.phase, tried.heard_from) == ("trial", mine.since + 9)
    theirs = adopt(Circuit(), is_open=True, at_ms=T)
    assert (theirs.phase, theirs.due) == ("open", T + FIRST_PAUSE_MS)  # and so it will be tried, whoever dies
    assert adopt(tried, is_open=False, at_ms=T + 50_000) == tried


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (outcome.unavailable("x").refusal, "bad"),
        (Refusal("unavailable", 503, "x", "pool_timeout"), "bad"),
        (outcome.before({"deadline": 0, "start_by": 1}, 2, None), "neither"),  # busy
        (outcome.before({"deadline": 1, "start_by": 1}, 2, None), "neither"),  # expired
        (Refusal("failed", 500, "x", "internal_error"), "bad"),
        (Refusal("failed", 502, "x", "answer_too_large"), "neither"),
        (Refusal("failed", 500, "x", "moderation_unavailable"), "neither"),
        (outcome.invalid("x", "context_length_exceeded").refusal, "neither"),
        (outcome.stopped("cancelled"), "neither"),
        (outcome.stopped("expired"), "neither"),
        (outcome.stopped("interrupted"), "neither"),  # a worker's end
    ],
)
def test_each_end_that_a_worker_writes_has_its_meaning(refusal: Refusal, expected: str) -> None:
    for streamed in (False, True):
        ending = outcome.refused(refusal, streamed=streamed)
        assert result_of(ending.outcome, code_of(ending.body)) == expected
    assert result_of("ok", "") == result_of("blocked", "") == "good"
