"""The llama engine without the platform: `python -m tests.bench.engine POOL CONTEXT` (a pool as JSON, tokens).

It prints `ready`, then for every body of a chat call on stdin (JSON, a line each) a line [input_tokens, output_tokens]
when it is answered. It ends at the end of stdin. The caller sees to it that no more than the pool's slots run at once.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from typing import Any

import msgspec
import orjson

from schemas.config import Pool
from workers.engines import CHAT, Final, Job, Setting
from workers.engines.llama import Llama


async def answer(engine: Llama, body: dict[str, Any]) -> None:
    """Run one job and tell what it took."""
    job = Job(uuid.uuid4().hex, CHAT, body["model"], body, False, 0, 0)
    async for part in engine.generate(job):
        if isinstance(part, Final):
            print(orjson.dumps(part.counts[:2]).decode(), flush=True)


async def serve(pool: Pool, context_tokens: int) -> None:
    """Answer what comes on stdin."""
    engine = Llama(Setting("alone", pool, context_tokens))
    await engine.warm()
    print("ready", flush=True)
    try:
        async with asyncio.TaskGroup() as tasks:
            while line := await asyncio.to_thread(sys.stdin.readline):
                tasks.create_task(answer(engine, orjson.loads(line)))
    finally:
        await engine.close()


if __name__ == "__main__":
    asyncio.run(serve(msgspec.json.decode(sys.argv[1], type=Pool), int(sys.argv[2])))
