"""Prompts that begin alike: how much of them the workers had cached, and the time to the first token.

The same load twice, in turns: as callers send it, and with a `prompt_cache_key` of its own in each call, which leaves
the calls nothing in common, so that they spread as any others. Instructions are new in every turn.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass, field

from openai import AsyncOpenAI

from tests.bench.driver import LETTERS, Stack, percentile, say
from tests.bench.report import Result, Row, Unmeasured

MODEL = "smollm2-135m"
# Twice as many as the slots of an engine, each of which keeps one: half of them fit into each of two workers.
PREFIXES = 16
CALLS = 96
AT_ONCE = 4
TURNS = 2
MAX_TOKENS = 8
# Some 300 tokens.
SENTENCES = 12
# Affinity is worth its place if it saves a good part of what would be read again.
TARGET = 1.3


@dataclass
class Side:
    """What one way of sending has come to, over all turns."""

    prompt: int = 0
    cached: int = 0
    first_ms: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Cached prompt tokens of all prompt tokens."""
        return self.cached / self.prompt if self.prompt else 0.0


async def measure(stack: Stack) -> Result:
    """Both sides in turns. Raises Unmeasured."""
    model = stack.document.models.get(MODEL)
    if model is None or not model.route or stack.document.pools[model.route[0]].engine != "llama":
        raise Unmeasured(f"the live configuration has no model {MODEL} on the llama engine")
    sides = {"together": Side(), "spread": Side()}
    chance = random.Random(11)
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0, timeout=60) as client:
        for turn in range(TURNS):
            for name, side in sides.items():
                await run(client, side, chance, together=name == "together")
                say(f"prefix: turn {turn + 1} of {TURNS}, {name}: {side.share:.2f} cached so far")
    return result(sides)


def instructions() -> str:
    """A long beginning that nobody has used before."""
    run = uuid.uuid4().hex.translate(LETTERS)
    return " ".join(f"Rule {i} of {run[:8]}: answer kindly, briefly and only about parcels." for i in range(SENTENCES))


async def run(client: AsyncOpenAI, side: Side, chance: random.Random, *, together: bool) -> None:
    """CALLS calls, AT_ONCE at any time, each with one of PREFIXES beginnings."""
    systems = [instructions() for _ in range(PREFIXES)]
    places = asyncio.Semaphore(AT_ONCE)

    async def call(number: int, system: str) -> None:
        async with places:
            began, first = time.monotonic(), 0.0
            own = {} if together else {"prompt_cache_key": uuid.uuid4().hex}
            stream = await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "system", "content": system}, {"role": "user", "content": f"Question {number}?"}],
                max_tokens=MAX_TOKENS,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=own,
                extra_headers={"x-millrace-cache": "off"},
            )
            async for chunk in stream:
                if not first and chunk.choices and chunk.choices[0].delta.content:
                    first = time.monotonic()
                if chunk.usage is not None:
                    details = chunk.usage.prompt_tokens_details
                    side.prompt += chunk.usage.prompt_tokens
                    side.cached += (details.cached_tokens or 0) if details is not None else 0
            side.first_ms.append(((first or time.monotonic()) - began) * 1000)

    await asyncio.gather(*(call(n, chance.choice(systems)) for n in range(CALLS)))


def result(sides: dict[str, Side]) -> Result:
    """The rows from both sides."""
    together, spread = sides["together"], sides["spread"]
    if not spread.cached:
        raise Unmeasured("the engine reported no cached tokens")
    note = (
        f"{together.share:.2f} of the prompt tokens against {spread.share:.2f} spread; {PREFIXES} prefixes, 2 workers"
    )
    rows = [Row("prompt tokens cached with prefix affinity, times as many", together.share / spread.share, "",
                TARGET, ">=", note)]  # fmt: skip
    for p in (0.5, 0.95):
        mine, theirs = percentile(together.first_ms, p), percentile(spread.first_ms, p)
        note = f"{mine:.0f} ms against {theirs:.0f} ms; {AT_ONCE} calls at once"
        rows.append(
            Row(f"first token with prefix affinity, p{100 * p:.0f}, of spread", mine / theirs, "", 1.0, "<=", note)
        )
    details = {name: {"prompt": s.prompt, "cached": s.cached, "first_ms": s.first_ms} for name, s in sides.items()}
    return Result(rows, details)
