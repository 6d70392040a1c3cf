"""CPU time of every process of the stack per real-time echo call, with what the stack uses when idle taken off."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.bench import meter
from tests.bench.driver import Caller, Stack, say
from tests.bench.report import Result, Row

CALLS: Final = 2_000
PER_SECOND: Final = 100
# The JVMs compile for half a minute after a start.
WARM: Final = 3_000
# Checkpoints every five seconds and what they cause belong to the calls before them, so measuring goes on for a while.
TAIL_S: Final = 5.0
TARGET_MS: Final = 4.0


async def measure(stack: Stack) -> Result:
    """Idle, then the load, for equally long. Raises Unmeasured."""
    caller = Caller(stack.url, stack.key)
    try:
        await caller.load(WARM, PER_SECOND)
        await asyncio.sleep(TAIL_S)
        seconds = CALLS / PER_SECOND + TAIL_S
        say(f"cpu: {seconds:.0f} s idle")
        start = meter.sample(stack)
        await asyncio.sleep(seconds)
        middle = meter.sample(stack)
        say(f"cpu: {CALLS} calls at {PER_SECOND}/s")
        load = await caller.load(CALLS, PER_SECOND)
        await asyncio.sleep(max(0.0, TAIL_S))
        idle, busy = meter.spent(start, middle), meter.spent(middle, meter.sample(stack))
    finally:
        await caller.close()
    return result(idle, busy, len(load.latencies_ms), load.note)


def result(idle: meter.Spent, busy: meter.Spent, answered: int, failures: str) -> Result:
    """Rows from what was used in both intervals; `answered` calls share it."""
    if not answered:
        return Result([Row("CPU of all processes per echo call", None, target=TARGET_MS, note=failures)])
    scale = busy.seconds / idle.seconds
    net = {name: (busy.services[name] - seconds * scale) * 1000 / answered for name, seconds in idle.services.items()}
    gross = {name: seconds * 1000 / answered for name, seconds in busy.services.items()}
    total, whole = sum(net.values()), sum(gross.values())
    parts = sorted(net, key=net.__getitem__, reverse=True)
    breakdown = ", ".join(f"{name} {net[name]:.2f}" for name in parts if net[name] >= 0.01)
    idle_cores = idle.total / idle.seconds
    notes = [f"idle stack ({idle_cores:.2f} cores) taken off; with it {whole:.2f} ms", breakdown, failures]
    row = Row("CPU of all processes per echo call", total, "ms", TARGET_MS, "<=", "; ".join(n for n in notes if n))
    details = {
        "net_ms_by_process": {name: round(net[name], 3) for name in parts},
        "gross_ms_by_process": {name: round(gross[name], 3) for name in parts},
        "idle_cores": round(idle_cores, 3),
        "answered": answered,
    }
    return Result([row], details)
