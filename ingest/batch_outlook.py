"""Why no line of a batch begins now, and when the batch will be done. Pure: facts in, words and moments out."""

from __future__ import annotations

from typing import Final, NamedTuple

from ingest.batch_object import PAUSED, Waiting
from schemas.limits import Limit
from streams import windows

# An answer within so long shows that lines begin; where they are rare, within the time of so many of them.
MOVING_MS: Final = 2_000
MOVING_LINES: Final = 4


class Facts(NamedTuple):
    """What the batcher knows of a batch that is validated and not at its end. Times in ms, `pace` in lines per second.

    `left` lines have no outcome, `unsent` of them were not sent, `parked` ones have been with admission for a while.
    `room` is how many lines the model's pools may still take, `ahead` how many lines of the tenant's own batches go
    first, `tenants` how many tenants share the pools, `capacity` what the pools were measured to do, 0 if unknown.
    `limits` are those that count its lines; `down` are the pools of its model if none of them answers.
    """

    left: int
    unsent: int
    open: int
    parked: int
    pace: float
    moved_ms: int
    paused: bool
    room: int
    ahead: int
    tenants: int
    capacity: float
    limits: tuple[Limit, ...]
    prepaid: bool
    tokens_a_line: float
    down: tuple[str, ...]


class Outlook(NamedTuple):
    """Why it waits, None while lines begin; and when it will be done (ms), None where nobody can know."""

    waiting: Waiting | None
    done_ms: int | None


def outlook(facts: Facts, now_ms: int) -> Outlook:
    """The outlook of a batch."""
    if facts.paused:
        return Outlook(PAUSED, None)
    if not facts.left:
        return Outlook(None, now_ms)
    if facts.pace and now_ms - facts.moved_ms < max(MOVING_MS, 1000 * MOVING_LINES / facts.pace):
        return Outlook(None, now_ms + int(1000 * facts.left / facts.pace))
    if facts.down:
        names = ", ".join(facts.down)
        return Outlook(
            Waiting("pool_unavailable", f"No pool of its model answers ({names}). They are tried again."), None
        )
    if facts.parked:
        return _parked(facts, now_ms)
    estimate = _estimate(facts, now_ms)
    if facts.unsent and facts.ahead:
        message = f"{facts.ahead} lines of your batches whose windows end earlier go first."
        return Outlook(Waiting("other_batches_first", message), estimate)
    if facts.unsent and facts.room <= 0:
        return Outlook(Waiting("capacity", "The pools of its model have as many lines as they can do soon."), estimate)
    if facts.open:
        message = f"{facts.open} lines wait for their turn in a pool, or run there: none was answered lately."
        return Outlook(Waiting("capacity", message), estimate)
    return Outlook(Waiting("admission", "Its next lines are on their way."), estimate)


def _parked(facts: Facts, now_ms: int) -> Outlook:
    """What lines wait for that admission keeps."""
    if not facts.limits and not facts.prepaid:
        message = "Admission has its lines and has not decided about them; it may be starting."
        return Outlook(Waiting("admission", message), _estimate(facts, now_ms))
    limits = suspected(facts.limits, facts.moved_ms, now_ms)
    names = [f"{x.max} {x.on}" + (f" per {x.per}" if x.per else " at once") for x in limits]
    if facts.prepaid:
        names.append("the prepaid balance")
    opens = [windows.end_of(x.per, now_ms) for x in limits if x.per is not None]
    until_ms = min(opens) if opens else None
    message = f"Its lines wait for quota: {' or '.join(names)}."
    if until_ms is None:
        return Outlook(Waiting("quota", message), None)
    done = max((_through(x, facts, now_ms) for x in limits if x.per is not None), default=None)
    waiting = Waiting("quota", message, until_ms // 1000)
    return Outlook(waiting, done if not facts.prepaid else None)


def suspected(limits: tuple[Limit, ...], moved_ms: int, now_ms: int) -> tuple[Limit, ...]:
    """Of the limits that count a batch's lines, those that may hold it back.

    A window that has begun since the last line was answered would have let lines through, unless others used it up
    at once: so the limits whose window is still the same are more likely, if there are any.
    """
    same = tuple(x for x in limits if x.per is None or windows.start_of(x.per, now_ms) <= moved_ms)
    return same or limits


def _through(limit: Limit, facts: Facts, now_ms: int) -> int:
    """When all lines are through a windowed limit, if the whole of each window is theirs."""
    assert limit.per is not None
    each = {"requests": 1.0, "total_tokens": facts.tokens_a_line}.get(limit.on, 0.0)
    opens = windows.end_of(limit.per, now_ms)
    in_a_window = limit.max / each if each else 0.0
    if in_a_window < 1:
        return opens
    more = max(0, -(-facts.left // int(in_a_window)) - 1)
    return opens + more * (windows.end_of(limit.per, opens) - opens)


def _estimate(facts: Facts, now_ms: int) -> int | None:
    """When it would be done at the measured capacity, shared with other tenants, after the own batches before it."""
    if not facts.capacity:
        return None
    return now_ms + int(1000 * (facts.ahead + facts.left) * max(1, facts.tenants) / facts.capacity)
