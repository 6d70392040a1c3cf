"""The engine on any OpenAI-compatible server. Only the request's `model` is set, and all of the answer passes.

The upstream's key leaves this process only in the Authorization header: it is replaced wherever an answer, an error or
a log line repeats it (`secret`, carried out by workers/screen.py). Tried again here is a connection that could not be
made or was stale, and an upstream that asks for a moment. Whose fault the rest is, workers/engines/upstream.py says.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final as Constant

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError

from workers.engines import CHAT, COMPLETIONS, Final, Job, Piece, Setting
from workers.engines import upstream as read
from workers.outcome import MAX_BODY_BYTES, Fault, unavailable
from workers.screen import hide

log = logging.getLogger(__name__)

CONNECT_S: Constant = 5.0
TRIES: Constant = 2
PAUSE_S: Constant = 0.05
# A kept connection that the server had closed fails at once; what fails later may have been begun there.
STALE_S: Constant = 0.1
# An upstream that is busy or over its rate is waited for this long in the slot; else the next pool is faster.
BUSY: Constant = frozenset({429, 503})
RETRY_AFTER_S: Constant = 2.0
# One event holds a few tokens with their log probabilities. The whole stream repeats its head with every token.
MAX_LINE_BYTES: Constant = 1024 * 1024
MAX_STREAM_BYTES: Constant = 4 * MAX_BODY_BYTES
DONE: Constant = b"[DONE]"
# The connection is kept if the end of the response follows the end of the stream within this.
END_S: Constant = 0.1
# How an engine is told a request's lane. vLLM (--scheduling-policy priority) serves the lower number first, SGLang
# (--enable-priority-scheduling) the higher; SGLang preempts only for a difference above 10.
PRIORITIES: Constant = {
    "vllm": {"interactive": 0, "standard": 100, "batch": 200},
    "sglang": {"interactive": 200, "standard": 100, "batch": 0},
}
# What aiohttp and the parsers raise for an upstream that is gone or talks nonsense.
NONSENSE: Constant = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)


class OpenAI:
    """The engine of one pool. The key is read from the process' environment at opening."""

    kind = "openai"
    precision = ""

    def __init__(self, setting: Setting, env: Mapping[str, str] = os.environ) -> None:
        pool = setting.pool
        self._name, self._model, self._base = setting.name, pool.model, pool.base_url.rstrip("/")
        self._priorities = PRIORITIES.get(pool.priority, {})
        self.secret = env.get(pool.api_key_env, "") if pool.api_key_env else ""
        if pool.api_key_env and not self.secret:
            log.warning("pool %s: %s is not set; calling without a key", self._name, pool.api_key_env)
        self.model_version = pool.model
        self.precision = pool.precision
        self._session: aiohttp.ClientSession | None = None

    async def warm(self) -> None:
        """Open the connection pool."""
        if self._session is None:
            headers = {"content-type": "application/json"}
            if self.secret:
                headers["authorization"] = f"Bearer {self.secret}"
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
            self._session = aiohttp.ClientSession(
                headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0), trust_env=False
            )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def generate(self, job: Job) -> AsyncIterator[Piece | Final]:
        """The upstream's chunks, then the end; or its whole answer. Raises Fault."""
        await self.warm()
        stream = read.Stream(job)
        try:
            async with await self._post(job) as response:
                if response.status != 200:
                    raise await self._refusal(response)
                if response.content_type != "text/event-stream":
                    yield self._said(read.whole(await _read(response), job))
                    return
                async for data in _events(response):
                    if data == DONE:
                        stream.done = True
                    else:
                        yield stream.take(data)
                yield self._said(stream.end())
        except Fault as fault:
            raise self._hidden(fault) from None
        except NONSENSE as error:
            log.warning("pool %s: %s", self._name, hide(repr(error)[:500], self.secret))
            raise unavailable("The upstream did not give an answer.", stream.counts()) from None

    async def _post(self, job: Job) -> aiohttp.ClientResponse:
        """The response, of which only the head has come. Raises what aiohttp does."""
        assert self._session is not None
        url, data = self._base + job.endpoint.removeprefix("/v1"), self._request(job)
        for left in range(TRIES - 1, -1, -1):
            began = time.monotonic()
            try:
                response = await self._session.post(url, data=data, allow_redirects=False)
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                unmade = isinstance(error, aiohttp.ClientConnectorError)
                if not left or not (unmade or time.monotonic() - began < STALE_S):
                    raise
                await asyncio.sleep(PAUSE_S)
                continue
            pause = _retry_after_s(response)
            if not left or pause is None:
                return response
            response.close()
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _request(self, job: Job) -> bytes:
        body = {**job.body, "model": self._model or job.model}
        # The key's policy has chosen the lane, and admission the price: no caller goes ahead of them, or asks for more.
        body.pop("priority", None)
        body.pop("service_tier", None)
        if job.lane in self._priorities:
            body["priority"] = self._priorities[job.lane]
        if job.stream:
            body["stream"] = True
            body["stream_options"] = {**(job.body.get("stream_options") or {}), "include_usage": True}
        elif body.get("stream"):
            body["stream"] = False
        limit = job.output_limit()
        if limit and job.endpoint in (CHAT, COMPLETIONS):
            name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
            body[name] = limit
        return orjson.dumps(body)

    async def _refusal(self, response: aiohttp.ClientResponse) -> Fault:
        raw = hide((await _read(response)).decode(errors="replace"), self.secret)
        log.warning("pool %s: upstream answered %d: %s", self._name, response.status, raw[:500])
        return read.refusal(response.status, raw)

    def _hidden(self, fault: Fault) -> Fault:
        """An upstream's words may repeat the key with escapes that the raw text did not show."""
        if self.secret and fault.refusal.body:
            body = orjson.dumps(hide(orjson.loads(fault.refusal.body), self.secret))
            return Fault(fault.refusal._replace(body=body), fault.counts)
        return fault

    def _said(self, end: tuple[Final, bool]) -> Final:
        final, estimated = end
        if estimated:
            log.warning("pool %s: no usage; counting bytes as the upper bound", self._name)
        return final


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """How long a busy upstream asks to wait, if that is a number and short."""
    try:
        pause = float(response.headers["retry-after"]) if response.status in BUSY else -1.0
    except (KeyError, ValueError):
        return None
    return pause if 0 <= pause <= RETRY_AFTER_S else None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    raw = bytearray()
    async for part in response.content.iter_any():
        raw += part
        if len(raw) > MAX_BODY_BYTES:
            raise unavailable("The upstream's answer is too large.")
    return bytes(raw)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The `data` of server-sent events, one line each as OpenAI writes them, to [DONE] or the end."""
    rest, total = bytearray(), 0
    async for part in response.content.iter_any():
        total += len(part)
        rest += part
        if b"\n" in part:
            *lines, tail = bytes(rest).split(b"\n")
            rest = bytearray(tail)
            for line in lines:
                if data := _data(line):
                    if data == DONE:
                        await _finish(response)
                    yield data
                    if data == DONE:
                        return
        if total > MAX_STREAM_BYTES or len(rest) > MAX_LINE_BYTES:
            raise ValueError("the stream is too large")
    if data := _data(bytes(rest)):
        yield data


def _data(line: bytes) -> bytes:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError("a line is too large")
    return line[5:].strip() if line.startswith(b"data:") else b""


async def _finish(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(END_S):
            async for _ in response.content.iter_any():
                pass
    except TimeoutError:
        log.debug("an upstream keeps its stream open after its end")
