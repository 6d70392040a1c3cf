from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams import tally

SPAN = 12_000
times = st.lists(st.integers(0, 100_000), max_size=60)


@given(times)
def test_a_window_counts_what_is_within_it_to_a_slice(at: list[int]) -> None:
    t, seen = tally.empty(SPAN, 1), list[int]()
    for now in sorted(at):
        t = tally.add(t, (1,), now)
        seen.append(now)
        (count,) = tally.total(t, now)
        assert sum(x > now - SPAN + 1_000 for x in seen) <= count <= sum(x > now - SPAN for x in seen)


@given(times)
def test_it_never_grows_beyond_its_slices(at: list[int]) -> None:
    t = tally.empty(SPAN, 1)
    for now in at:  # in any order: partitions are read side by side
        t = tally.add(t, (1,), now)
        assert len(t.slices) <= tally.SLICES
    assert t.slices == tuple(sorted(t.slices))


def test_what_is_too_late_is_not_counted_and_time_forgets() -> None:
    t = tally.add(tally.empty(SPAN, 2), (1, 2), 50_000)
    assert tally.total(tally.add(t, (5, 5), 10_000), 50_000) == (1, 2)
    assert tally.total(tally.add(t, (5, 5), 49_000), 50_000) == (6, 7)
    assert tally.total(t, 61_999) == (1, 2)
    assert tally.total(t, 62_000) == (0, 0)
