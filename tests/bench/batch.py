"""Throughput of a batch on the real model through the platform, against the same engines fed directly."""

from __future__ import annotations

import asyncio
import io
import time
import uuid
from collections.abc import Awaitable
from typing import Any, Final

import orjson
from openai import OpenAI

from schemas.config import Pool
from tests.bench.alone import Engines, Run
from tests.bench.driver import LETTERS, WORDS, Stack, say, services
from tests.bench.report import Result, Row, Unmeasured
from workers.station import settings

MODEL: Final = "smollm2-135m"
# Enough that beginning and end, a second together, are a small part.
LINES: Final = 256
MAX_TOKENS: Final = 32
TURNS: Final = 2
# No turn begins after half of this: the second is left out on a machine so busy that one took long.
BUDGET_S: Final = 240.0
LIMIT_S: Final = 480.0
BATCH_S: Final = 180.0
POLL_S: Final = 0.2
TARGET: Final = 0.97
ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})


async def measure(stack: Stack) -> Result:
    """The same unique prompts on both sides, in turns. Raises Unmeasured."""
    pool, context_tokens = _pool(stack)
    workers = sum(name.startswith("worker") for name in services(stack))
    engines = Engines(pool, context_tokens, max(1, workers))
    sides: dict[str, list[Run]] = {"alone": [], "platform": []}
    try:
        say(f"batch: loading {workers} engines to compare with")
        await engines.start()
        await engines.run(bodies(pool.concurrency))
        await asyncio.to_thread(run_batch, stack, bodies(pool.concurrency))
        began = time.monotonic()
        while not sides["platform"] or time.monotonic() - began < BUDGET_S / 2:
            prompts = bodies(LINES)
            await _turn("alone", sides["alone"], engines.run(prompts))
            await _turn("platform", sides["platform"], asyncio.to_thread(run_batch, stack, prompts))
            if len(sides["platform"]) == TURNS:
                break
    finally:
        await engines.close()
    return result(sides, pool.concurrency, workers)


async def _turn(side: str, done: list[Run], run: Awaitable[Run]) -> None:
    say(f"batch: {LINES} lines, {side}, turn {len(done) + 1} of at most {TURNS}")
    done.append(await run)
    say(f"batch: {done[-1].tokens} tokens in {done[-1].seconds:.1f} s")


def _pool(stack: Stack) -> tuple[Pool, int]:
    model = stack.document.models.get(MODEL)
    if model is None or not model.route:
        raise Unmeasured(f"the live configuration has no model {MODEL}")
    setting = settings(stack.document)[model.route[0]]
    if setting.pool.engine != "llama":
        raise Unmeasured(f"{MODEL} does not run on the llama engine here")
    return setting.pool, setting.context_tokens


def bodies(count: int) -> list[dict[str, Any]]:
    """Bodies of chat calls that nobody has made before."""
    run = uuid.uuid4().hex[:8].translate(LETTERS)
    return [
        {
            "model": MODEL,
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
            "messages": [{"role": "user", "content": f"Ticket {run}-{i}: {WORDS}? Write a long and friendly answer."}],
        }
        for i in range(count)
    ]


def run_batch(stack: Stack, prompts: list[dict[str, Any]]) -> Run:
    """Seconds are from the creation of the batch to its end. Raises Unmeasured."""
    client = OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0, timeout=30)
    url = "/v1/chat/completions"
    lines = [{"custom_id": str(i), "method": "POST", "url": url, "body": body} for i, body in enumerate(prompts)]
    data = b"\n".join(orjson.dumps(line) for line in lines)
    file = client.files.create(file=("bench.jsonl", io.BytesIO(data)), purpose="batch")
    began = time.monotonic()
    batch = client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h")  # type: ignore[arg-type]
    while batch.status not in ENDED:
        if time.monotonic() - began > BATCH_S:
            client.batches.cancel(batch.id)
            raise Unmeasured(f"a batch of {len(prompts)} lines did not end within {BATCH_S:.0f} s")
        time.sleep(POLL_S)
        batch = client.batches.retrieve(batch.id)
    seconds = time.monotonic() - began
    output = client.files.content(batch.output_file_id).text.splitlines() if batch.output_file_id else []
    if batch.status != "completed" or len(output) != len(prompts):
        raise Unmeasured(f"{batch.id} is {batch.status} with {len(output)} answers to {len(prompts)} lines")
    usages = [orjson.loads(line)["response"]["body"]["usage"] for line in output]
    return Run(sum(usage["completion_tokens"] for usage in usages), round(seconds, 2))


def result(sides: dict[str, list[Run]], slots: int, workers: int) -> Result:
    """The row from all turns."""
    speeds = {side: sum(r.tokens for r in runs) / sum(r.seconds for r in runs) for side, runs in sides.items()}
    note = (
        f"{speeds['platform']:.0f} tokens/s through the platform, {speeds['alone']:.0f} by {workers} engine processes "
        f"fed directly; {slots} slots in all, {LINES} lines of ≤ {MAX_TOKENS} tokens, creation to completion"
    )
    ratio = speeds["platform"] / speeds["alone"]
    row = Row("batch on llama, share of the engine's own speed", ratio, "", TARGET, ">=", note)
    turns = {side: [run._asdict() for run in runs] for side, runs in sides.items()}
    return Result([row], {"turns": turns, "tokens_per_s": {side: round(speed, 1) for side, speed in speeds.items()}})
