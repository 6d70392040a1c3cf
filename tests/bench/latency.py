"""What the way through gateway, Kafka, Flink and a worker adds to a call of the same echo engine."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from tests.bench.driver import Caller, Load, Stack, end, percentile, say
from tests.bench.report import Result, Row, Unmeasured

PER_SECOND: Final = 100
# In turns, so that a moment when the machine is busy falls on both sides.
TURNS: Final = 2
TURN_S: Final = 10
START_S: Final = 30.0
TARGETS_MS: Final = {0.5: 30.0, 0.99: 120.0}


async def measure(stack: Stack) -> Result:
    """Both sides at the same rate, in turns. Raises Unmeasured."""
    return result(*await compare(stack))


async def compare(stack: Stack, turns: int = TURNS, per_second: int = PER_SECOND) -> tuple[Load, Load]:
    """The calls of both sides, direct and through the platform. Raises Unmeasured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.echo_server", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    callers: dict[str, Caller] = {}
    try:
        port = (await asyncio.wait_for(process.stdout.readline(), START_S)).decode().strip()
        if not port:
            raise Unmeasured("the echo server to compare with did not start")
        callers = {"direct": Caller(f"http://127.0.0.1:{port}", ""), "platform": Caller(stack.url, stack.key)}
        for caller in callers.values():
            await caller.load(2 * per_second, per_second)
        found = {side: Load() for side in callers}
        for turn in range(1, turns + 1):
            for side, caller in callers.items():
                say(f"latency: {per_second}/s for {TURN_S} s, {side}, turn {turn} of {turns}")
                load = await caller.load(per_second * TURN_S, per_second)
                found[side].latencies_ms += load.latencies_ms
                for reason, count in load.failures.items():
                    found[side].failures[reason] = found[side].failures.get(reason, 0) + count
    except TimeoutError:
        raise Unmeasured(f"the echo server to compare with did not start within {START_S:.0f} s") from None
    finally:
        for caller in callers.values():
            await caller.close()
        await end(process)
    return found["direct"], found["platform"]


def result(direct: Load, platform: Load, what: str = f"added latency at {PER_SECOND}/s") -> Result:
    """Rows from the calls of both sides."""
    rows = []
    for p, target in TARGETS_MS.items():
        ours, theirs = percentile(platform.latencies_ms, p), percentile(direct.latencies_ms, p)
        note = f"{ours:.1f} ms through the platform, {theirs:.1f} ms direct"
        if platform.note or direct.note:
            note += f"; platform: {platform.note or 'no failure'}; direct: {direct.note or 'no failure'}"
        rows.append(Row(f"{what}, p{p * 100:.0f}", ours - theirs, "ms", target, "<=", note))
    shares = (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
    details = {
        side: {
            "calls": len(load.latencies_ms),
            "failures": load.failures,
            "ms": {f"p{share * 100:g}": round(percentile(load.latencies_ms, share), 2) for share in shares},
        }
        for side, load in (("direct", direct), ("platform", platform))
    }
    return Result(rows, details)
