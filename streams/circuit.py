"""Whether a pool is worth trying: its circuit opens when the pool fails, and is tried again after a pause. Pure.

The clock is the broker's. A circuit is `closed` (the pool is used), `open` (requests go to the next pool of their
route) or `trial` (the pool is used again, and the first attempt that began since then decides).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from streams import tally
from streams.tally import Tally

Phase = Literal["closed", "open", "trial"]
# What became of a circuit: nothing, it opened, it is tried, it closed. Others are told of opening and of trial only.
Change = Literal["none", "opened", "tried", "closed"]
Result = Literal["good", "bad", "neither"]

# Five in a row: where one in ten fails, which is not worth leaving a pool for, chance does it once in 100,000 attempts.
IN_A_ROW: Final = 5
# Or half of those in the last half minute, once twenty have ended: a pool that fails now and then never reaches this,
# and one that is half broken does within a second or so of load.
WINDOW_MS: Final = 30_000
MIN_ATTEMPTS: Final = 20
BAD_PERCENT: Final = 50
# A restart of a server takes some seconds; an outage that goes on costs a few slow requests a minute.
FIRST_PAUSE_MS: Final = 5_000
MAX_PAUSE_MS: Final = 60_000
# A circuit that opens again this soon after it closed goes on with the longer pauses it had come to.
CALM_MS: Final = 60_000

# Codes of errors that are the pool's own, whatever the outcome is called: after a first streamed token, an attempt that
# its upstream broke off is `interrupted`, as is one that its worker's end cut short, which says nothing of the pool.
BLAMED: Final = frozenset({"pool_unavailable", "pool_timeout", "internal_error"})
# Too much work is not a fault: such a request has gone to the next pool by itself, and the pool goes on answering.
BUSY: Final = "pool_busy"
# Admission waited in vain for a worker to begin: a fault where the pool gave no sign of life all the while, else it had
# too much to do.
SILENT: Final = "pool_silent"


class Circuit(NamedTuple):
    """The circuit of one pool. Times in ms UTC, `pause_ms` the last pause, 0 before the first.

    Attempts that began before `heard_from` say nothing of the pool as it is now.
    """

    phase: Phase = "closed"
    since: int = 0
    pause_ms: int = 0
    heard_from: int = 0
    row: int = 0
    seen: Tally = tally.empty(WINDOW_MS, 2)

    @property
    def due(self) -> int:
        """When time alone changes it; 0 for never."""
        return self.since + self.pause_ms if self.phase == "open" else 0


def result_of(outcome: str, code: str) -> Result:
    """What the end of an attempt says of its pool. `outcome` as in Completion, `code` that of its error body or ''.

    A caller's mistake, departure or deadline, and rules that could not be had, say nothing.
    """
    if outcome in ("ok", "blocked"):
        return "good"
    if outcome == "unavailable":
        return "neither" if code == BUSY else "bad"
    if outcome in ("failed", "interrupted"):
        return "bad" if code in BLAMED else "neither"
    return "neither"


def decide(circuit: Circuit, result: Result, began_ms: int, now_ms: int) -> tuple[Circuit, Change]:
    """The circuit after an attempt that lasted from `began_ms` to `now_ms`, and what changed.

    An open circuit listens to nobody: what still ends was begun before, or had no other pool to go to.
    """
    if result == "neither" or circuit.phase == "open" or began_ms < circuit.heard_from:
        return circuit, "none"
    if circuit.phase == "trial":
        if result == "bad":
            return _opened(circuit, now_ms), "opened"
        return Circuit("closed", now_ms, circuit.pause_ms, circuit.heard_from), "closed"
    bad = result == "bad"
    seen = tally.add(circuit.seen, (int(bad), 1), now_ms)
    circuit = circuit._replace(row=circuit.row + 1 if bad else 0, seen=seen)
    failed, ended = tally.total(seen, now_ms)
    if bad and (circuit.row >= IN_A_ROW or (ended >= MIN_ATTEMPTS and failed * 100 >= BAD_PERCENT * ended)):
        return _opened(circuit, now_ms), "opened"
    return circuit, "none"


def advance(circuit: Circuit, now_ms: int) -> tuple[Circuit, Change]:
    """The circuit when it is `now_ms`: after its pause, an open one is tried."""
    return (circuit, "none") if not circuit.due or now_ms < circuit.due else retry(circuit, now_ms)


def retry(circuit: Circuit, now_ms: int) -> tuple[Circuit, Change]:
    """The circuit when there is reason to try its pool now."""
    return (
        (Circuit("trial", now_ms, circuit.pause_ms, now_ms), "tried") if circuit.phase == "open" else (circuit, "none")
    )


def adopt(circuit: Circuit, *, is_open: bool, at_ms: int) -> Circuit:
    """The circuit after somebody else (another controller, or one before this) told all of it at `at_ms`.

    So whoever reads the journal comes to know of every open circuit, and closes it in the end.
    """
    if at_ms <= circuit.since or is_open == (circuit.phase == "open"):
        return circuit
    if is_open:
        return _opened(circuit, at_ms)
    return retry(circuit, at_ms)[0]


def _opened(circuit: Circuit, now_ms: int) -> Circuit:
    calm = circuit.phase == "closed" and now_ms - circuit.since >= CALM_MS
    longer = FIRST_PAUSE_MS if calm or not circuit.pause_ms else min(2 * circuit.pause_ms, MAX_PAUSE_MS)
    return Circuit("open", now_ms, longer)
