"""How many workers a pool needs. Pure: the clock is an argument, and so is what was decided before.

Need, in tokens a second, is summed over the lanes and divided by what a worker was measured to give:

- What runs for interactive and standard callers goes on: by Little's law (1961) their busy slots are their arrival rate
  times their time in service, so busy / (slots * UTILISATION) workers keep up with them. Batch takes any slot that is
  free, so its busy slots say nothing.
- What their lane keeps free for them (`reserved`) counts like what is busy: taking it away would make the next wait.
- What waits for them is to be done within the lane's TARGET, less the age of the oldest.
- What has a deadline is due by the demand criterion of earliest-deadline-first scheduling (Baruah, Rosier, Howell
  1990): for each deadline, all tokens due until then over the time left until then; the steepest of these counts.

The change follows Kubernetes' HorizontalPodAutoscaler: up at once, at most doubling; down only to the most that was
needed within a window, at most halving; and not at all for less than a tenth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal, NamedTuple

# Milliseconds within which what waits shall be done; batch without a deadline has an hour.
TARGET_MS: Final[Mapping[str, int]] = {"interactive": 1_000, "standard": 30_000, "batch": 3_600_000}
# Of a target that is all but missed, this part is still given: need stays finite.
LEAST: Final = 0.1
# Of the time until a deadline, this part is planned with; the rest is for estimates that were wrong.
SLACK_PART: Final = 0.8
LEAST_SLACK_MS: Final = 1_000
UTILISATION: Final = 0.8
TOLERANCE: Final = 0.1
WINDOW_MS: Final = 300_000


Why = Literal["running", "waiting", "deadline", "unmeasured"]


class Due(NamedTuple):
    """Tokens that must be done within `slack_ms` from now; negative when it is past."""

    slack_ms: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Lane:
    """What waits in one lane, and how many slots its work holds. `due` in any order; `tokens` are of all that waits.

    `reserved` slots are kept for the lane, those that it holds included.
    """

    waiting: int = 0
    tokens: int = 0
    oldest_age_ms: int = 0
    due: tuple[Due, ...] = ()
    busy: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class Fleet:
    """The pool's workers. `tokens_per_s` is what one was measured to give when full, 0 while unknown."""

    workers: int
    slots: int
    tokens_per_s: float
    least: int = 0
    most: int = 1_000


class Needed(NamedTuple):
    """That many were needed at a moment, ms UTC."""

    at_ms: int
    workers: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How many workers there shall be; `recent` is the memory that the next decision needs, falling in `workers`."""

    workers: int
    recent: tuple[Needed, ...] = ()


class Pace(NamedTuple):
    """A rate, and what sets it: `waiting` (the lane's target, within so many ms) or `deadline` (in so many)."""

    tokens_per_s: float
    why: Why
    within_ms: int


class Demand(NamedTuple):
    """Workers that a lane asks for, not rounded, and why."""

    lane: str
    why: Why
    workers: float
    within_ms: int = 0


def need(lanes: Mapping[str, Lane], fleet: Fleet) -> float:
    """Workers that would keep every target and deadline, not rounded. Grows with everything that waits or runs."""
    return sum(demand.workers for demand in demands(lanes, fleet))


def demands(lanes: Mapping[str, Lane], fleet: Fleet) -> tuple[Demand, ...]:
    """What each lane asks for, and why; their sum is the need."""
    found = []
    for name, lane in lanes.items():
        held = max(lane.busy, lane.reserved) if name != "batch" else 0
        if held:
            found.append(Demand(name, "running", held / (fleet.slots * UTILISATION)))
        if fleet.tokens_per_s > 0:
            pace = pace_of(name, lane)
            if pace.tokens_per_s:
                found.append(Demand(name, pace.why, pace.tokens_per_s / fleet.tokens_per_s, pace.within_ms))
        elif lane.waiting:  # Nothing is known but that each piece wants a slot.
            found.append(Demand(name, "unmeasured", lane.waiting / fleet.slots))
    return tuple(found)


def pace_of(name: str, lane: Lane) -> Pace:
    """The rate at which what waits in a lane keeps its target and its deadlines: the steepest of all."""
    target = TARGET_MS[name]
    within_ms = max(target - lane.oldest_age_ms, target * LEAST) if name != "batch" else target
    paces = [Pace(lane.tokens / within_ms * 1_000, "waiting", round(within_ms))]
    due = sorted(lane.due)
    for total, (slack_ms, _) in zip(accumulate(d.tokens for d in due), due, strict=True):
        paces.append(Pace(total / max(slack_ms * SLACK_PART, LEAST_SLACK_MS) * 1_000, "deadline", slack_ms))
    return max(paces, key=lambda pace: pace.tokens_per_s)


def plan(before: Plan, lanes: Mapping[str, Lane], fleet: Fleet, now_ms: int) -> Plan:
    """The next plan. At least one worker while anything waits or runs; between `least` and `most` of the fleet."""
    exact = need(lanes, fleet)
    work = any(lane.waiting or lane.busy for lane in lanes.values())
    wanted = min(max(math.ceil(exact - 1e-9), int(work), fleet.least), fleet.most)
    recent = _remember(before.recent, Needed(now_ms, wanted))
    now = fleet.workers
    if wanted > now and (now == 0 or exact > now * (1 + TOLERANCE)):
        return Plan(min(wanted, max(2 * now, 1)), recent)
    lasting = recent[0].workers
    if lasting < now and (lasting == 0 or lasting < now * (1 - TOLERANCE)):
        return Plan(max(lasting, now // 2), recent)
    return Plan(min(max(now, fleet.least, int(work)), fleet.most), recent)


def _remember(recent: tuple[Needed, ...], latest: Needed) -> tuple[Needed, ...]:
    """The most that was needed within the window stands first; what a later, greater need outdoes is forgotten."""
    young = [n for n in recent if latest.at_ms - n.at_ms <= WINDOW_MS and n.workers > latest.workers]
    return (*young, latest)
