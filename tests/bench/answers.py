"""A large state: what an open request and a kept answer take, and whether checkpoints of many answers delay anyone."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Final

from infra.local.rest import Rest
from infra.local.settings import Settings
from tests.bench import admission, log
from tests.bench.driver import Stack, say
from tests.bench.report import Result, Row, Unmeasured

# A million takes about ten minutes to make: MILLRACE_BENCH_ANSWERS=1000000 make bench.
ANSWERS: Final = int(os.environ.get("MILLRACE_BENCH_ANSWERS", "50000"))
CHUNK: Final = 25_000
OPEN: Final = 20_000
PER_SECOND: Final = 500
# Checkpoints come every five seconds: four of them at least fall into it.
SECONDS: Final = 24
TARGETS_MS: Final = {0.99: 200.0}
CHECKPOINT_S: Final = 60.0
LIMIT_S: Final = 240.0 + ANSWERS / 500


async def measure(stack: Stack) -> Result:
    """Fill the cache, then time requests beside it. Raises Unmeasured."""
    return await asyncio.to_thread(drive, stack)


def drive(stack: Stack) -> Result:
    """The same, without an event loop."""
    with admission.tenant(stack):
        run = admission.Drive(stack)
        try:
            per_open = _open_requests(stack, run)
            before = state_bytes()
            for done in range(0, ANSWERS, CHUNK):
                say(f"answers: {done:,} of {ANSWERS:,} are kept")
                run.run(admission.records(stack, min(CHUNK, ANSWERS - done)), min(CHUNK, ANSWERS - done))
            after = state_bytes()
        finally:
            run.close()
        steady = log.Steady(stack)
        try:
            say(f"answers: {PER_SECOND}/s for {SECONDS} s, across checkpoints")
            took = steady.run(SECONDS, PER_SECOND)
        finally:
            steady.close()
    size = f"{after['state_size'] / 2**20:.0f} MiB of state, a checkpoint took {after['end_to_end_duration']} ms"
    per_answer = (after["state_size"] - before["state_size"]) / ANSWERS
    rows = [
        *log.rows(took, f"with {ANSWERS:,} answers kept", TARGETS_MS),
        Row("state of an answer kept: request, answer, its place", per_answer, "bytes", note=size),
        Row("state of an open request", per_open, "bytes", note=f"{OPEN:,} open at once"),
    ]
    return Result(rows, {"ms": log.shares(took), "checkpoint": after})


def _open_requests(stack: Stack, run: admission.Drive) -> float:
    """Bytes of state that one open request takes: many are opened, and finished after a checkpoint."""
    now_ms = time.time_ns() // 1_000_000
    pairs = [admission.pair(now_ms) for _ in range(OPEN)]
    before = state_bytes()
    run.write([stack.codec.encode("Request", request) for request, _ in pairs])
    run.flush()
    opened = state_bytes()
    run.run([stack.codec.encode("Completion", completion) for _, completion in pairs], OPEN)
    return float(opened["state_size"] - before["state_size"]) / OPEN


def state_bytes() -> dict[str, Any]:
    """Flink's own account of a checkpoint that began after this call. Raises Unmeasured."""
    rest, began_ms = Rest(Settings.read(os.environ).url("FLINK")), time.time() * 1000
    end = time.monotonic() + CHECKPOINT_S
    while time.monotonic() < end:
        last = rest.last_checkpoint(admission.SLOT_THREAD)
        if last and last["trigger_timestamp"] > began_ms:
            return {k: last[k] for k in ("id", "state_size", "checkpointed_size", "end_to_end_duration")}
        time.sleep(0.5)
    raise Unmeasured(f"no checkpoint of admission was completed within {CHECKPOINT_S:.0f} s")
