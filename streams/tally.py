"""Counts of the last while: a sliding window of constant size. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

# A window slides by one twelfth of itself: five seconds in a minute.
SLICES: Final = 12


class Tally(NamedTuple):
    """Counts per slice of time, oldest first. Slices are aligned to the clock; `span_ms` is the whole window."""

    span_ms: int
    width: int
    slices: tuple[tuple[int, tuple[int, ...]], ...] = ()


def empty(span_ms: int, width: int) -> Tally:
    """A window of `span_ms` that counts `width` different things."""
    return Tally(span_ms, width)


def add(tally: Tally, counts: tuple[int, ...], at_ms: int) -> Tally:
    """The window with `counts` added at `at_ms`; what is older than the window is forgotten, that record included."""
    assert len(counts) == tally.width, "a window counts always the same things"
    number = _slice(tally, at_ms)
    newest = max(number, tally.slices[-1][0]) if tally.slices else number
    kept = {n: c for n, c in tally.slices if n > newest - SLICES}
    if number > newest - SLICES:
        before = kept.get(number)
        kept[number] = counts if before is None else tuple(map(int.__add__, before, counts))
    return tally._replace(slices=tuple(sorted(kept.items())))


def total(tally: Tally, now_ms: int) -> tuple[int, ...]:
    """The counts of the window that ends at `now_ms`."""
    oldest = _slice(tally, now_ms) - SLICES
    columns = [c for n, c in tally.slices if n > oldest]
    return tuple(map(sum, zip(*columns, strict=True))) if columns else (0,) * tally.width


def _slice(tally: Tally, at_ms: int) -> int:
    return at_ms * SLICES // tally.span_ms
