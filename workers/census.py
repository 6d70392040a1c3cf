"""What all workers of a pool tell together, as the planner (streams/planner.py) wants it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schemas.topics import LANES
from streams.planner import Due, Fleet, Lane
from workers.reading import LaneReading, PoolReading, Reading


def pools(readings: Iterable[Reading]) -> dict[str, list[PoolReading]]:
    """What was read of each pool, by those workers that have slots in it or could have."""
    found: dict[str, list[PoolReading]] = {}
    for reading in readings:
        for name, pool in reading.pools.items():
            found.setdefault(name, []).append(pool)
    return found


def lanes(readings: Iterable[PoolReading], unattended: Mapping[str, int] | None = None) -> dict[str, Lane]:
    """All that waits and runs, by lane. `unattended` records of a lane count if no worker has slots."""
    many = list(readings)
    if unattended and not any(reading.slots for reading in many):
        return {name: Lane(waiting=unattended.get(name, 0)) for name in LANES}
    return {name: _lane([r.lanes[name] for r in many if name in r.lanes], _reserved(name, many)) for name in LANES}


def _reserved(lane: str, readings: list[PoolReading]) -> int:
    return sum(reading.reserved for reading in readings) if lane == "interactive" else 0


def _lane(readings: list[LaneReading], reserved: int) -> Lane:
    return Lane(
        waiting=sum(r.waiting + r.unread for r in readings),
        tokens=sum(r.tokens for r in readings),
        oldest_age_ms=max((r.oldest_ms for r in readings), default=0),
        due=tuple(Due(*due) for r in readings for due in r.due),
        busy=sum(r.busy for r in readings),
        reserved=reserved,
    )


def fleet(readings: Iterable[PoolReading], least: int, most: int) -> Fleet:
    """The workers that serve a pool. A pool's `slots` are shared by its workers, so each has its part of them."""
    serving = [reading for reading in readings if reading.slots]
    rates = [reading.tokens_per_s for reading in serving if reading.tokens_per_s]
    slots = max(1, round(sum(reading.slots for reading in serving) / max(1, len(serving))))
    return Fleet(len(serving), slots, sum(rates) / len(rates) if rates else 0.0, least, most)


def silent(readings: Mapping[str, Reading | None]) -> list[str]:
    """Addresses that did not answer."""
    return [address for address, reading in readings.items() if reading is None]
