"""Engines fed directly: as many processes as the stack has workers, each with its share of the pool's slots."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from schemas.config import Pool
from tests.bench.driver import end
from tests.bench.report import Unmeasured

START_S: Final = 60.0
RUN_S: Final = 180.0


class Run(NamedTuple):
    """Output tokens of many calls together, and how long they took."""

    tokens: int
    seconds: float


def shares(slots: int, processes: int) -> list[int]:
    """`slots` dealt out to `processes`, as evenly as can be; processes without a slot are left out."""
    each, rest = divmod(slots, processes)
    return [n for n in (each + (1 if i < rest else 0) for i in range(processes)) if n]


class Engines:
    """The processes. `start` before `run`, `close` at the end."""

    def __init__(self, pool: Pool, context_tokens: int, processes: int) -> None:
        self._pools = [msgspec.structs.replace(pool, concurrency=n) for n in shares(pool.concurrency, processes)]
        self._context = context_tokens
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        """Load the model in each. Raises Unmeasured."""
        for pool in self._pools:
            command = [sys.executable, "-m", "tests.bench.engine", msgspec.json.encode(pool).decode()]
            pipe = asyncio.subprocess.PIPE
            self._processes.append(
                await asyncio.create_subprocess_exec(*command, str(self._context), stdin=pipe, stdout=pipe)
            )
        for process in self._processes:
            assert process.stdout is not None
            try:
                line = await asyncio.wait_for(process.stdout.readline(), START_S)
            except TimeoutError:
                line = b""
            if line.strip() != b"ready":
                raise Unmeasured("the engine to compare with did not start")

    async def run(self, bodies: Sequence[dict[str, Any]]) -> Run:
        """Answer all of them, every slot always busy. Raises Unmeasured."""
        waiting = list(reversed(bodies))
        began = time.monotonic()
        pairs = zip(self._processes, self._pools, strict=True)
        try:
            async with asyncio.timeout(RUN_S), asyncio.TaskGroup() as group:
                work = [group.create_task(self._feed(p, pool.concurrency, waiting)) for p, pool in pairs]
        except ExceptionGroup as errors:
            raise Unmeasured(f"the engine to compare with failed: {errors.exceptions[0]}") from None
        except TimeoutError:
            raise Unmeasured(f"the engine alone did not answer within {RUN_S:.0f} s") from None
        return Run(sum(task.result() for task in work), round(time.monotonic() - began, 2))

    async def _feed(self, process: asyncio.subprocess.Process, slots: int, waiting: list[dict[str, Any]]) -> int:
        assert process.stdin is not None and process.stdout is not None
        running, tokens = 0, 0
        while waiting or running:
            while waiting and running < slots:
                process.stdin.write(orjson.dumps(waiting.pop()) + b"\n")
                running += 1
            await process.stdin.drain()
            line = await process.stdout.readline()
            if not line:
                raise EOFError("it died")
            tokens += orjson.loads(line)[1]
            running -= 1
        return tokens

    async def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            await end(process)
