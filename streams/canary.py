"""Whether a canary stays: its errors and its times over the last while, against the limits in its configuration. Pure.

The clock is the broker's. An attempt is counted, not a request: one that another pool saved is a fault all the same.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from schemas.config import Canary
from streams import tally
from streams.tally import Tally

Side = Literal["canary", "stable"]
# How an attempt ended for the model that was asked: `cut` is one that was ended from outside.
End = Literal["good", "bad", "cut", "neither"]

# Where the stable side breaks the limit too, a common cause is likely, and taking the canary back would change nothing.
# It goes only if it is worse by three standard errors of the difference of two shares, once in 700 trials by chance.
SIGMAS: Final = 3

# Errors that no model is to blame for: the rules for its answer could not be had, its worker ended.
BLAMELESS: Final = frozenset({"moderation_unavailable", "interrupted"})
NOTHING: Final = (0, 0, 0, 0)


class Keep(NamedTuple):
    """The canary stays."""


class RollBack(NamedTuple):
    """The canary goes, and why."""

    why: str


Verdict = Keep | RollBack


class Watch(NamedTuple):
    """What is known of a canary and of the shares beside it: attempts bad, ended, slow, timed.

    Attempts that began before `since` (ms UTC) were not begun under this configuration.
    """

    limits: Canary
    since: int
    canary: Tally
    stable: Tally


def watch(limits: Canary, since_ms: int) -> Watch:
    """A canary of which nothing is known yet."""
    nothing = tally.empty(limits.window_ms, len(NOTHING))
    return Watch(limits, since_ms, nothing, nothing)


def end_of(outcome: str, code: str) -> End:
    """How an attempt ended. `outcome` as in Completion, `code` that of its error body or ''."""
    if outcome in ("ok", "blocked"):
        return "good"
    if outcome in ("cancelled", "expired"):
        return "cut"
    if outcome in ("unavailable", "failed", "interrupted") and code not in BLAMELESS:
        return "bad"
    return "neither"


def decide(w: Watch, side: Side, end: End, took_ms: int, now_ms: int) -> tuple[Watch, Verdict]:
    """What is known after an attempt of one side that took `took_ms` and ended at `now_ms`, and whether it stays."""
    if now_ms - took_ms < w.since:
        return w, Keep()
    counts = _counts(w.limits, end, took_ms)
    if counts == NOTHING:
        return w, Keep()
    if side == "stable":
        return w._replace(stable=tally.add(w.stable, counts, now_ms)), Keep()
    w = w._replace(canary=tally.add(w.canary, counts, now_ms))
    return w, _judge(w, now_ms)


def _counts(limits: Canary, end: End, took_ms: int) -> tuple[int, ...]:
    """Bad, ended, slow, timed. Of an attempt that was cut short only this is known: it took at least so long."""
    slow = bool(limits.max_ms) and took_ms > limits.max_ms
    if end == "good":
        return (0, 1, int(slow), 1)
    if end == "bad":
        return (1, 1, 0, 0)
    return (0, 0, 1, 1) if end == "cut" and slow else NOTHING


def _judge(w: Watch, now_ms: int) -> Verdict:
    limits = w.limits
    bad, ended, slow, timed = tally.total(w.canary, now_ms)
    stable = tally.total(w.stable, now_ms)
    seconds = limits.window_ms // 1000
    if _exceeds(bad, ended, stable[0], stable[1], limits.max_error_percent, limits.min_requests):
        what = f"{bad} of {ended} attempts of {limits.model} failed within {seconds} s"
        return RollBack(f"{what}, more than {limits.max_error_percent}%")
    # The nearest-rank percentile is above the limit if and only if more than the rest of 100% took longer.
    if _exceeds(slow, timed, stable[2], stable[3], 100 - limits.percentile, limits.min_requests):
        what = f"{slow} of {timed} attempts of {limits.model} within {seconds} s took longer than {limits.max_ms} ms"
        return RollBack(f"{what}, more than {100 - limits.percentile}%")
    return Keep()


def _exceeds(hits: int, of: int, stable_hits: int, stable_of: int, percent: int, least: int) -> bool:
    """Whether more than `percent` of the canary's attempts are hits, and those of the stable side do not explain it."""
    if of < least or hits * 100 <= percent * of:
        return False
    if stable_of < least or stable_hits * 100 <= percent * stable_of:
        return True
    # Two-proportion z-test on the pooled share, squared so that all stays in integers.
    difference = hits * stable_of - stable_hits * of
    both, all_ = hits + stable_hits, of + stable_of
    return difference > 0 and difference**2 * all_ > SIGMAS**2 * both * (all_ - both) * of * stable_of
