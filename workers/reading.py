"""What a worker looks like at a moment: what waits in each lane, how urgent it is, and what the slots give. Pure.

It is served as JSON for the planner and, with the counters, as Prometheus' text (workers/endpoint.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from schemas.topics import LANES
from workers.item import Item
from workers.partitions import Partitions, Place, pool_and_lane
from workers.station import Station

# Deadlines are told in at most so many groups; a group is due when its first is.
GROUPS: Final = 32


class DueReading(NamedTuple):
    """So many tokens (estimated) are due within `slack_ms`; negative when that is past."""

    slack_ms: int
    tokens: int


class LaneReading(msgspec.Struct, frozen=True):
    """One lane of a pool in one worker.

    `backlog`: records of its partitions that are not finished: unread, waiting and running. `unread`: those of them
    that this worker has not read yet. `waiting`: read, and without a slot. `oldest_ms` and `slack_ms` (None without a
    deadline) are of what waits; `at_risk` of it is not done in time if the lane's work goes by deadline at the
    measured rate. `tokens` are estimated for all that is unread or waits.
    """

    backlog: int = 0
    unread: int = 0
    waiting: int = 0
    busy: int = 0
    oldest_ms: int = 0
    slack_ms: int | None = None
    at_risk: int = 0
    tokens: int = 0
    due: tuple[DueReading, ...] = ()


class PoolReading(msgspec.Struct, frozen=True):
    """A pool in one worker. `tokens_per_s` with all slots busy; 0 while unknown. `reserved` are for interactive."""

    slots: int
    tokens_per_s: float
    reserved: int
    lanes: dict[str, LaneReading]


class Reading(msgspec.Struct, frozen=True):
    """One worker at `at_ms` (UTC)."""

    worker: str
    at_ms: int
    pools: dict[str, PoolReading]


def take(
    worker: str,
    stations: Mapping[str, Station],
    items: Iterable[Item],
    partitions: Partitions,
    ends: Mapping[Place, int],
    now_ms: int,
) -> Reading:
    """Read everything. `items` are all open ones; `ends` are the log's ends of our partitions, as far as known."""
    waiting: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        if item.task is None:
            waiting.setdefault((item.work["pool"], item.work["lane"]), []).append(item)
    backlog: dict[tuple[str, str], tuple[int, int]] = {}
    for place in partitions:
        mark, key = partitions.get(place), pool_and_lane(place[0])
        if mark is not None:
            before, end = backlog.get(key, (0, 0)), ends.get(place, 0)
            backlog[key] = (before[0] + mark.unfinished(end), before[1] + mark.unread(end))
    pools = {}
    for name, station in stations.items():
        rate = station.signals.tokens_per_s(station.lanes.slots)
        lanes = {
            lane: _lane(station, lane, rate, waiting.get((name, lane), []), *backlog.get((name, lane), (0, 0)), now_ms)
            for lane in LANES
        }
        pools[name] = PoolReading(station.lanes.slots, rate, station.lanes.reserved(now_ms), lanes)
    return Reading(worker, now_ms, pools)


def _lane(
    station: Station, lane: str, rate: float, items: list[Item], backlog: int, unread: int, now_ms: int
) -> LaneReading:
    each = station.signals.tokens_each(lane)
    slacks = sorted(item.work["deadline"] - now_ms for item in items if item.work["deadline"])
    oldest = min((item.work["admitted_at"] for item in items), default=now_ms)
    return LaneReading(
        backlog=backlog,
        unread=unread,
        waiting=len(items),
        busy=station.lanes.busy(lane),
        oldest_ms=max(0, now_ms - oldest),
        slack_ms=slacks[0] if slacks else None,
        at_risk=at_risk(slacks, each, rate),
        tokens=round(each * (len(items) + unread)),
        due=groups(slacks, each, unread),
    )


def at_risk(slacks_ms: list[int], tokens_each: float, tokens_per_s: float) -> int:
    """How many of these, in order of deadline, end too late at this rate; while it is unknown, those that are past."""
    each_ms = tokens_each / tokens_per_s * 1_000 if tokens_per_s else 0.0
    return sum(slack < each_ms * place for place, slack in enumerate(slacks_ms, start=1))


def groups(slacks_ms: list[int], tokens_each: float, unread: int) -> tuple[DueReading, ...]:
    """Deadlines with the tokens due until then. What is unread is taken to be due with the last of what was read."""
    size = max(1, -(-len(slacks_ms) // GROUPS))
    found = [
        DueReading(slacks_ms[at], round(tokens_each * len(slacks_ms[at : at + size])))
        for at in range(0, len(slacks_ms), size)
    ]
    if found and unread:
        found.append(DueReading(slacks_ms[-1], round(tokens_each * unread)))
    return tuple(found)
