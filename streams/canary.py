"""Whether a canary stays: its errors and its times over the last while, against the limits in its configuration. Pure.

The clock is the broker's. A request counts once, by the attempt that ended it. One that the first pool of the canary's
route did not answer (it failed, nobody started it, or its circuit is open) counts as a fault, though another pool
answered: otherwise a canary whose own pool is dead would look well for ever.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from schemas.config import Canary
from streams import tally
from streams.tally import Tally

Side = Literal["canary", "stable"]
# How an attempt ended a request: `saved` by a later pool of the route, or `cut` short from outside. One that did not
# end it, or whose end is not the model's doing, is `neither`.
End = Literal["good", "saved", "failed", "cut", "neither"]

# Where the stable side breaks the limit too, a common cause is likely, and taking the canary back would change nothing.
# It goes only if it is worse by three standard errors of the difference of two shares, once in 700 trials by chance.
SIGMAS: Final = 3

# Errors that no model is to blame for: the rules for its answer could not be had, its worker ended.
BLAMELESS: Final = frozenset({"moderation_unavailable", "interrupted"})
NOTHING: Final = (0, 0, 0, 0, 0)


class Keep(NamedTuple):
    """The canary stays."""


class RollBack(NamedTuple):
    """The canary goes, and why."""

    why: str


Verdict = Keep | RollBack


class Watch(NamedTuple):
    """What is known of a canary and of the shares beside it: requests failed, failed or saved, ended, slow, timed.

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


def end_of(outcome: str, code: str, step: int, steps: int) -> End:
    """How the attempt at pool number `step` of `steps` ended its request.

    `outcome` as in Completion, `code` that of its error body or ''.
    """
    if outcome in ("ok", "blocked"):
        return "saved" if step else "good"
    if outcome in ("cancelled", "expired"):
        return "cut"
    if outcome == "unavailable" and step + 1 < steps:
        return "neither"  # the next pool's answer will be counted
    if outcome in ("unavailable", "failed", "interrupted") and code not in BLAMELESS:
        return "failed"
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
    """Failed, faulty, ended, slow, timed.

    Of an attempt that was cut short only this is known: it took at least so long. Another pool's time says nothing.
    """
    slow = bool(limits.max_ms) and took_ms > limits.max_ms
    if end == "good":
        return (0, 0, 1, int(slow), 1)
    if end == "saved":
        return (0, 1, 1, 0, 0)
    if end == "failed":
        return (1, 1, 1, 0, 0)
    return (0, 0, 0, 1, 1) if end == "cut" and slow else NOTHING


def _judge(w: Watch, now_ms: int) -> Verdict:
    limits = w.limits
    failed, faulty, ended, slow, timed = tally.total(w.canary, now_ms)
    failed_0, faulty_0, ended_0, slow_0, timed_0 = tally.total(w.stable, now_ms)
    within = f"of {limits.model} within {limits.window_ms // 1000} s"
    least, errors = limits.min_requests, limits.max_error_percent
    if _exceeds(failed, ended, failed_0, ended_0, errors, least):
        return RollBack(f"{failed} of {ended} requests {within} failed, more than {errors}%")
    if _exceeds(faulty, ended, faulty_0, ended_0, errors, least):
        return RollBack(f"{faulty} of {ended} requests {within} failed or went to another pool, more than {errors}%")
    # The nearest-rank percentile is above the limit if and only if more than the rest of 100% took longer.
    late = 100 - limits.percentile
    if _exceeds(slow, timed, slow_0, timed_0, late, least):
        return RollBack(f"{slow} of {timed} requests {within} took longer than {limits.max_ms} ms, more than {late}%")
    return Keep()


def _exceeds(hits: int, of: int, stable_hits: int, stable_of: int, percent: int, least: int) -> bool:
    """Whether more than `percent` of the canary's requests are hits, and those of the stable side do not explain it."""
    if of < least or hits * 100 <= percent * of:
        return False
    if stable_of < least or stable_hits * 100 <= percent * stable_of:
        return True
    # Two-proportion z-test on the pooled share, squared so that all stays in integers.
    difference = hits * stable_of - stable_hits * of
    both, all_ = hits + stable_hits, of + stable_of
    return difference > 0 and difference**2 * all_ > SIGMAS**2 * both * (all_ - both) * of * stable_of
