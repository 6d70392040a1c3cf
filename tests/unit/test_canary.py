from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import Canary
from streams import canary
from streams.canary import Keep, RollBack, Verdict, decide, end_of

T = 10_000_000
LIMITS = Canary(model="c", max_error_percent=10, max_ms=500, percentile=90, min_requests=10)


def run(
    side: canary.Side, ends: str, w: canary.Watch | None = None, *, at_ms: int = T, apart_ms: int = 10,
    limits: Canary = LIMITS,
) -> tuple[canary.Watch, Verdict]:  # fmt: skip
    """After requests of one side: + good, - failed, o saved, s good but slow, x cut short late, c soon, . neither."""
    w, verdict = w or canary.watch(limits, 0), Keep()
    words = {
        "+": ("good", 100),
        "-": ("failed", 5),
        "o": ("saved", 9_999),
        "s": ("good", 501),
        "x": ("cut", 501),
        "c": ("cut", 10),
    }
    for i, sign in enumerate(ends):
        end, took = words.get(sign, ("neither", 9_999))
        w, said = decide(w, side, end, took, at_ms + i * apart_ms)
        verdict = said if isinstance(said, RollBack) else verdict
    return w, verdict


@pytest.mark.parametrize(
    ("ends", "kept"),
    [
        ("-" * 9, True),  # too few
        ("-" * 10, False),
        ("+" * 9 + "-", True),  # a tenth is allowed
        ("+" * 8 + "--", False),
        ("+" * 90 + "-" * 10, True),
        ("+" * 90 + "-" * 11, False),
        ("." * 99 + "c" * 99, True),  # callers who left tell nothing
        ("." * 9 + "-", True),
        ("s" * 9, True),
        ("s" * 10, False),
        ("+" * 9 + "s", True),  # one in ten may take longer than the ninetieth percentile allows
        ("+" * 8 + "ss", False),
        ("+" * 8 + "xx", False),  # callers who left because it was too slow
        ("+" * 80 + "s" * 8, True),
        ("+" * 9 + "o", True),
        ("+" * 8 + "oo", False),
        ("+" * 8 + "o-", False),
    ],
)
def test_a_canary_goes_when_it_fails_too_often_or_is_too_slow(ends: str, kept: bool) -> None:
    assert isinstance(run("canary", ends)[1], Keep) == kept


def test_it_says_why() -> None:
    _, failing = run("canary", "+" * 8 + "--")
    assert failing == RollBack("2 of 10 requests of c within 60 s failed, more than 10%")
    _, saved = run("canary", "+" * 8 + "o-")
    assert saved == RollBack("2 of 10 requests of c within 60 s failed or went to another pool, more than 10%")
    _, slow = run("canary", "+" * 8 + "ss")
    assert slow == RollBack("2 of 10 requests of c within 60 s took longer than 500 ms, more than 10%")


def test_no_bound_on_time_unless_one_is_given() -> None:
    assert isinstance(run("canary", "s" * 100, limits=Canary(model="c"))[1], Keep)


def test_what_is_past_the_window_or_before_the_configuration_does_not_count() -> None:
    w, _ = run("canary", "-" * 9)
    assert isinstance(run("canary", "-", w, at_ms=T + 70_000)[1], Keep)
    assert isinstance(run("canary", "-", w, at_ms=T + 50_000)[1], RollBack)
    began_before = canary.watch(LIMITS, T + 95)
    assert isinstance(run("canary", "-" * 19, began_before)[1], Keep)
    assert isinstance(run("canary", "-" * 20, began_before)[1], RollBack)


@pytest.mark.parametrize(
    ("stable", "ends", "kept"),
    [
        ("+" * 50, "-" * 10, False),
        ("-" * 50, "-" * 50, True),  # all is down, and the canary no worse
        ("-+" * 50, "-+" * 10, True),
        ("-+" * 50, "-" * 30, False),  # worse than the rest of a bad lot
        ("-" * 9, "-" * 10, False),  # too few beside it to excuse it
        ("+" * 90 + "-" * 10, "-" * 10, False),  # those beside it are within the limit
        ("ss" * 50, "ss" * 10, True),
        ("s+" * 50, "s" * 30, False),
        ("o" * 50, "o" * 50, True),  # they share a dead pool, and the next one of their routes
        ("o" * 50, "-" * 10, False),  # the others are saved, the canary is not
        ("+" * 50, "o" * 10, False),
    ],
)
def test_a_common_cause_takes_nothing_back(stable: str, ends: str, kept: bool) -> None:
    w, verdict = run("stable", stable)
    assert verdict == Keep(), "the stable side is never judged"
    assert isinstance(run("canary", ends, w, at_ms=T + 1_100)[1], Keep) == kept


ends = st.lists(st.tuples(st.sampled_from("+-osxc."), st.booleans()), max_size=60)


@given(ends, st.integers(1, 30), st.integers(0, 100), st.integers(1, 100))
def test_the_verdict_is_that_of_exact_arithmetic(
    history: list[tuple[str, bool]], least: int, percent: int, percentile: int
) -> None:
    limits = Canary(model="c", max_error_percent=percent, max_ms=500, percentile=percentile, min_requests=least)
    w, seen = canary.watch(limits, 0), {"canary": "", "stable": ""}
    for i, (sign, is_canary) in enumerate(history):
        side: canary.Side = "canary" if is_canary else "stable"
        seen[side] += sign
        w, verdict = run(side, sign, w, at_ms=T + i)
        errors = any(exceeds(seen, hits, "+-os", least, percent) for hits in ("-", "-o"))
        goes = errors or exceeds(seen, "sx", "+sx", least, 100 - percentile)
        if is_canary and sign in "+-osx":
            assert isinstance(verdict, RollBack) == goes
        else:
            assert verdict == Keep()
        assert len(w.canary.slices) <= 12


def exceeds(seen: dict[str, str], hits: str, of: str, least: int, percent: int) -> bool:
    h, n = (sum(map(seen["canary"].count, signs)) for signs in (hits, of))
    h0, n0 = (sum(map(seen["stable"].count, signs)) for signs in (hits, of))
    if n < least or Fraction(h, n) <= Fraction(percent, 100):
        return False
    if n0 < least or Fraction(h0, n0) <= Fraction(percent, 100):
        return True
    p = Fraction(h + h0, n + n0)
    variance = p * (1 - p) * (Fraction(1, n) + Fraction(1, n0))
    d = Fraction(h, n) - Fraction(h0, n0)
    return d > 0 and d * d > 9 * variance


@pytest.mark.parametrize(
    ("outcome", "code", "expected"),
    [
        ("ok", "", ("good", "saved")),
        ("blocked", "content_blocked", ("good", "saved")),
        ("unavailable", "pool_busy", ("neither", "failed")),
        ("unavailable", "pool_timeout", ("neither", "failed")),
        ("failed", "answer_too_large", ("failed", "failed")),
        ("failed", "moderation_unavailable", ("neither", "neither")),
        ("interrupted", "pool_unavailable", ("failed", "failed")),
        ("interrupted", "interrupted", ("neither", "neither")),  # the worker's end
        ("invalid", "upstream_refused", ("neither", "neither")),
        ("cancelled", "request_cancelled", ("cut", "cut")),
        ("expired", "request_timeout", ("cut", "cut")),
    ],
)
def test_what_the_end_of_an_attempt_means_at_the_first_and_at_the_last_pool(
    outcome: str, code: str, expected: tuple[str, str]
) -> None:
    assert (end_of(outcome, code, 0, 2), end_of(outcome, code, 1, 2)) == expected
