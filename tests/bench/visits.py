"""Interactive calls of the real model as their callers see them: streams, timed by the token."""

from __future__ import annotations

import asyncio
import random
from typing import Final, NamedTuple

import aiohttp
import orjson

from tests.bench.driver import CONNECTIONS, Load, prompt

TIMEOUT_S: Final = 60.0
DATA: Final = b"data: "


class Visit(NamedTuple):
    """One answered call: ms from when it was due to its first token, and ms per token after it."""

    ttft_ms: float
    tpot_ms: float


class Visitors:
    """Calls the model `model` at `url` with prompts nobody has sent before. Connections are kept."""

    def __init__(self, url: str, key: str, model: str, tokens: int) -> None:
        self._url, self._model, self._tokens = f"{url}/v1/chat/completions", model, tokens
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=60)
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout)
        self.failures = Load()

    async def burst(self, seconds: float, per_second: float, draw: random.Random) -> list[Visit]:
        """Calls at random moments (Poisson), whether earlier ones were answered or not; ends with the last answer."""
        loop = asyncio.get_running_loop()
        due, tasks = loop.time() + draw.expovariate(per_second), []
        end = loop.time() + seconds
        while due < end:
            await asyncio.sleep(due - loop.time())
            tasks.append(asyncio.create_task(self._visit(due)))
            due += draw.expovariate(per_second)
        return [visit for visit in await asyncio.gather(*tasks) if visit is not None]

    async def _visit(self, due: float) -> Visit | None:
        body = {"model": self._model, "temperature": 0, "max_tokens": self._tokens, "stream": True}
        body |= {"messages": [{"role": "user", "content": prompt("Say something nice:")}]}
        loop, times = asyncio.get_running_loop(), list[float]()
        try:
            async with self._session.post(self._url, data=orjson.dumps(body)) as response:
                if response.status != 200:
                    self.failures.fail(f"HTTP {response.status}")
                    return None
                async for line in response.content:
                    if line.startswith(DATA) and _tells(line[len(DATA) :].strip()):
                        times.append(loop.time())
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.fail(type(error).__name__)
            return None
        if len(times) < 2:
            self.failures.fail("fewer than two tokens")
            return None
        return Visit((times[0] - due) * 1000, (times[-1] - times[0]) * 1000 / (len(times) - 1))

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def _tells(data: bytes) -> bool:
    """Whether an event carries text."""
    if data == b"[DONE]":
        return False
    return any((choice.get("delta") or {}).get("content") for choice in orjson.loads(data).get("choices") or ())
