"""Interactive bursts and pauses beside three batches on the real model: what each sees of the other.

Four arrangements of one pool, in turns: interactive calls alone; unprotected (one queue, first come first
served); strict priority (interactive goes first, nothing is reserved or preempted); and Millrace's. After
that, the batches alone. The load is that of llm-d-batch-gateway#491, made smaller for two cores. Times are the
caller's: from when a call was due to its first token on the wire, and from token to token.

The configuration is changed for the time of the benchmark (tenants of its own, the pool's `protection`) and put back.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ingest.publication import Publication
from schemas.config import ConfigDocument, Principal, Protection, Tenant, hash_key
from tests.bench.backlog import Backlog, Made
from tests.bench.driver import Stack, percentile, say
from tests.bench.interval import Ratio, ratio
from tests.bench.report import Result, Row, Unmeasured
from tests.bench.visits import Visit, Visitors

MODEL: Final = "smollm2-135m"
BATCHES: Final = 3
PER_SECOND: Final = 5.0
TOKENS: Final = 8
BURST_S: Final = 25.0
PAUSE_S: Final = 16.0
# Bursts in each block, and turns of all blocks: so many times 25 s x 5/s interactive calls for each arrangement.
BURSTS: Final = 2
TURNS: Final = int(os.environ.get("MILLRACE_BENCH_TURNS", "5"))
LINES: Final = 600
LINE_TOKENS: Final = 48
LIVE_S: Final = 10.0
SETTLE_S: Final = 5.0
LIMIT_S: Final = 3_600.0
TTFT, TPOT = "first token", "time per token"
ARRANGEMENTS: Final[dict[str, tuple[Protection, bool]]] = {
    "alone": ("full", False),
    "unprotected": ("none", True),
    "strict priority": ("strict", True),
    "Millrace": ("full", True),
}
TARGET: Final = 1.25
BATCH_TARGET: Final = 0.9
WORSE: Final = 10.0


@dataclass
class Found:
    """What one arrangement saw: calls by burst, and the batches' tokens and seconds in pauses and in all."""

    bursts: list[list[Visit]] = field(default_factory=list)
    pause_tokens: int = 0
    pause_s: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    def values(self, what: str) -> list[list[float]]:
        """TTFT or TPOT in ms, by burst."""
        return [[v.ttft_ms if what == TTFT else v.tpot_ms for v in burst] for burst in self.bursts]

    def p(self, what: str, share: float) -> float:
        """A percentile of all bursts together."""
        return percentile([value for burst in self.values(what) for value in burst], share)


def name_of(number: int) -> str:
    """A tenant of the benchmark; 0 is the one with interactive calls. Its key is `mr-` and its name."""
    return f"millrace-wave-{number}"


def arranged(document: ConfigDocument, pool: str, protection: Protection) -> ConfigDocument:
    """`document` with the benchmark's tenants, without limits or moderation, and the pool so protected."""
    names = [name_of(i) for i in range(BATCHES + 1)]
    keys = {hash_key(f"mr-{name}"): Principal(name, "bench", ("client",)) for name in names}
    return msgspec.structs.replace(
        document,
        version=f"waves-{protection}",
        keys=document.keys | keys,
        tenants=tuple(sorted({*document.tenants, *names})),
        settings=document.settings | {name: Tenant() for name in names},
        pools=document.pools | {pool: msgspec.structs.replace(document.pools[pool], protection=protection)},
    )


def publish(stack: Stack, document: ConfigDocument) -> None:
    """Make it live."""
    with Publication(stack.addresses.kafka, stack.codec, "bench") as publication:
        publication.publish(document)


@contextmanager
def tenants(stack: Stack, pool: str) -> Iterator[None]:
    """The benchmark's tenants for a while."""
    publish(stack, arranged(stack.document, pool, "full"))
    try:
        yield
    finally:
        publish(stack, stack.document)


async def measure(stack: Stack) -> Result:
    """All blocks, in turns. Raises Unmeasured."""
    model = stack.document.models.get(MODEL)
    if model is None or not model.route:
        raise Unmeasured(f"the live configuration has no model {MODEL}")
    pool, draw = model.route[0], random.Random(1)
    with tenants(stack, pool):
        visitors = Visitors(stack.url, f"mr-{name_of(0)}", MODEL, TOKENS)
        backlog = Backlog(stack, [f"mr-{name_of(i + 1)}" for i in range(BATCHES)], MODEL, LINES, LINE_TOKENS)
        made = Made(stack, frozenset(name_of(i + 1) for i in range(BATCHES)))
        try:
            found = await _turns(stack, pool, visitors, backlog, made, draw)
        finally:
            made.close()
            await visitors.close()
    return result(found, visitors.failures.note)


async def _turns(
    stack: Stack, pool: str, visitors: Visitors, backlog: Backlog, made: Made, draw: random.Random
) -> dict[str, Found]:
    found = {name: Found() for name in (*ARRANGEMENTS, "batch alone")}
    await _live(stack, visitors, draw)
    await visitors.burst(BURST_S, PER_SECOND, draw)  # What has just started is slower, and the first side would pay.
    for turn in range(1, TURNS + 1):
        say(f"waves: turn {turn} of {TURNS}")
        for name, (protection, beside) in ARRANGEMENTS.items():
            await asyncio.to_thread(publish, stack, arranged(stack.document, pool, protection))
            # A changed pool loads its engine anew; calls that wait for that are not the arrangement's.
            await visitors.burst(SETTLE_S, PER_SECOND, draw)
            if beside and not backlog.running:
                await asyncio.to_thread(backlog.start)
            for _ in range(BURSTS):
                await _wave(found[name], visitors, made, draw, begin_ms=_now())
            say(f"waves: {name}: {_line(found[name])}")
        await _pause(found["batch alone"], made, PAUSE_S * BURSTS)
        say(f"waves: batches alone: {_speed(found['batch alone']):.0f} tokens/s")
        await asyncio.to_thread(backlog.stop)
    return found


async def _live(stack: Stack, visitors: Visitors, draw: random.Random) -> None:
    """Wait until the gateway knows the tenants, and the engines have answered once."""
    end = time.monotonic() + LIVE_S
    while time.monotonic() < end:
        if await visitors.burst(1.0, PER_SECOND, draw):
            visitors.failures.failures.clear()
            return
    raise Unmeasured(f"the benchmark's tenants were not let in within {LIVE_S:.0f} s: {visitors.failures.note}")


async def _wave(found: Found, visitors: Visitors, made: Made, draw: random.Random, begin_ms: int) -> None:
    """A burst and the pause after it."""
    found.bursts.append(await visitors.burst(BURST_S, PER_SECOND, draw))
    burst_end = _now()
    await _pause(found, made, PAUSE_S)
    found.tokens += made.between(begin_ms, burst_end)
    found.seconds += (burst_end - begin_ms) / 1000


async def _pause(found: Found, made: Made, seconds: float) -> None:
    begin = _now()
    await asyncio.sleep(seconds)
    end = _now()
    found.pause_tokens += made.between(begin, end)
    found.pause_s += (end - begin) / 1000
    found.tokens += made.between(begin, end)
    found.seconds += (end - begin) / 1000


def _now() -> int:
    return time.time_ns() // 1_000_000


def _line(found: Found) -> str:
    parts = [f"{what} p50 {found.p(what, 0.5):.0f}, p99 {found.p(what, 0.99):.0f} ms" for what in (TTFT, TPOT)]
    return f"{'; '.join(parts)}; batch {_speed(found):.0f} tokens/s in pauses"


def _speed(found: Found) -> float:
    return found.pause_tokens / found.pause_s if found.pause_s else 0.0


def result(found: dict[str, Found], failures: str) -> Result:
    """Rows: ours against alone, the others beside it for comparison, and the batches in the pauses."""
    alone, rows = found["alone"], list[Row]()
    details: dict[str, Any] = {"failures": failures}
    for name in ("unprotected", "strict priority", "Millrace"):
        for what in (TTFT, TPOT):
            compared = ratio(found[name].values(what), alone.values(what), 0.99)
            rows.append(_row(name, what, compared, found))
            details[f"{name}, {what}"] = compared._asdict()
    speeds = {name: round(_speed(f), 1) for name, f in found.items() if f.pause_tokens}
    by_itself = _speed(found["batch alone"])
    note = ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items()) + " tokens/s"
    share = _speed(found["Millrace"]) / by_itself if by_itself else None
    rows.append(Row("batch in the pauses, share of its speed alone", share, "", BATCH_TARGET, ">=", note))
    for name, f in found.items():
        details[name] = {
            "samples": sum(len(burst) for burst in f.bursts),
            "batch_tokens_per_s": {"pauses": round(_speed(f), 1), "all": round(f.tokens / (f.seconds or 1), 1)},
            "ms": {what: {f"p{s * 100:g}": round(f.p(what, s), 1) for s in (0.5, 0.9, 0.99)} for what in (TTFT, TPOT)}
            if f.bursts
            else {},
        }
    return Result(rows, details)


def _row(name: str, what: str, compared: Ratio, found: dict[str, Found]) -> Row:
    ours, alone = found[name], found["alone"]
    times = [f"p50 {f.p(what, 0.5):.0f} and p99 {f.p(what, 0.99):.0f} ms" for f in (ours, alone)]
    samples = sum(len(burst) for burst in ours.bursts)
    note = f"95% {compared.low:.2f} to {compared.high:.2f}; {times[0]}, alone {times[1]}; {samples:,} calls"
    title = f"interactive {what} p99 over alone, {name}"
    if name == "Millrace":
        return Row(title, compared.value, "", TARGET, "<=", note)
    if name == "unprotected" and what == TTFT:  # The load must be one that needs protection.
        return Row(title, compared.value, "", WORSE, ">=", note)
    return Row(title, compared.value, note=note)
