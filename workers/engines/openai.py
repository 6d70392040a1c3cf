"""The engine on any OpenAI-compatible server. Only the request's `model` is set, and all of the answer passes.

The upstream's key leaves this process only in the Authorization header: it is replaced wherever an answer, an error or
a log line repeats it (`secret`, carried out by workers/screen.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any
from typing import Final as Constant

import aiohttp
import orjson

from workers.engines import CHAT, COMPLETIONS, Final, Job, Piece, Setting
from workers.engines.echo import text_of
from workers.outcome import MAX_BODY_BYTES, Counts, Fault, Refusal, invalid, unavailable
from workers.screen import hide

log = logging.getLogger(__name__)

CONNECT_S: Constant = 5.0
CONNECT_TRIES: Constant = 2
# Statuses of a 4xx that are not the caller's fault: our credentials, a slow or busy upstream.
OURS: Constant = frozenset({401, 403, 407, 408, 425, 429})


class OpenAI:
    """The engine of one pool. The key is read from the process' environment at opening."""

    kind = "openai"
    precision = ""

    def __init__(self, setting: Setting, env: Mapping[str, str] = os.environ) -> None:
        pool = setting.pool
        self._name, self._model, self._base = setting.name, pool.model, pool.base_url.rstrip("/")
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
        try:
            async with await self._post(job) as response:
                if response.status >= 400:
                    raise await self._refusal(response)
                if response.content_type != "text/event-stream":
                    yield self._whole(await _read(response), job)
                    return
                stream = _Stream(job)
                async for data in _events(response):
                    piece = stream.take(data)
                    if piece is not None:
                        yield piece
                yield stream.end(self._name)
        except (aiohttp.ClientError, ConnectionError, orjson.JSONDecodeError) as error:
            raise self._broken(error) from None

    async def _post(self, job: Job) -> aiohttp.ClientResponse:
        assert self._session is not None
        body = {**job.body, "model": self._model or job.model}
        if job.stream:
            body["stream"] = True
            body["stream_options"] = {**(job.body.get("stream_options") or {}), "include_usage": True}
        elif body.get("stream"):
            body["stream"] = False
        limit = job.output_limit()
        if limit and job.endpoint in (CHAT, COMPLETIONS):
            name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
            body[name] = limit
        for left in range(CONNECT_TRIES - 1, -1, -1):
            try:
                url = self._base + job.endpoint.removeprefix("/v1")
                return await self._session.post(url, data=orjson.dumps(body), allow_redirects=False)
            except aiohttp.ClientConnectorError as error:
                if not left:
                    raise self._broken(error) from None
                await asyncio.sleep(0.05)
        raise AssertionError("unreachable")

    def _broken(self, error: Exception) -> Fault:
        log.warning("pool %s: %s", self._name, hide(repr(error), self.secret))
        return unavailable("The upstream did not give an answer.")

    async def _refusal(self, response: aiohttp.ClientResponse) -> Fault:
        raw = hide((await _read(response)).decode(errors="replace"), self.secret)
        log.warning("pool %s: upstream answered %d: %s", self._name, response.status, raw[:500])
        if response.status >= 500 or response.status in OURS:
            return unavailable(f"The upstream answered {response.status}.")
        try:
            body = hide(orjson.loads(raw), self.secret)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            return invalid(
                raw[:1000] or f"The upstream answered {response.status}.", "upstream_refused", response.status
            )
        refusal = Refusal("invalid", response.status, "upstream refused", "upstream_refused", orjson.dumps(body))
        return Fault(refusal)

    def _whole(self, raw: bytes, job: Job) -> Final:
        body = orjson.loads(raw)
        if not isinstance(body, dict) or not isinstance(body.get("choices", body.get("data")), list):
            log.warning("pool %s: an answer without choices: %s", self._name, hide(repr(raw[:200]), self.secret))
            raise unavailable("The upstream's answer is not one.")
        usage = body.get("usage")
        if not isinstance(usage, dict):
            log.warning("pool %s: no usage; counting bytes as the upper bound", self._name)
            return Final(body, bound(job, sum(map(text_bytes, body.get("choices") or ()))))
        return Final(body, counts_of(usage))


class _Stream:
    """What has come of a streamed answer."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._usage: dict[str, Any] | None = None
        self._chunks = 0
        self._bytes = 0
        self._open: dict[int, bool] = {}
        self._done = False

    def take(self, data: bytes) -> Piece | None:
        if data == b"[DONE]":
            self._done = True
            return None
        chunk = orjson.loads(data)
        if not isinstance(chunk, dict) or "error" in chunk:
            raise unavailable("The upstream broke off with an error.", self._counts())
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        choices = [c for c in chunk.get("choices") or () if isinstance(c, dict)]
        for choice in choices:
            index = choice.get("index", 0)
            self._open[index] = self._open.get(index, True) and not choice.get("finish_reason")
        size = sum(map(text_bytes, choices))
        self._bytes += size
        self._chunks += size > 0
        return Piece({**chunk, "choices": choices}, self._counts())

    def _counts(self) -> Counts:
        # Until the upstream says more, a chunk is a token: the best that is known of an answer cut short.
        return counts_of(self._usage) if self._usage else Counts(0, self._chunks)

    def end(self, pool: str) -> Final:
        if not self._open or (not self._done and any(self._open.values())):
            raise unavailable("The upstream's answer broke off.", self._counts())
        if self._usage is None:
            log.warning("pool %s: no usage; counting bytes as the upper bound", pool)
            counts = bound(self._job, self._bytes)
            return Final({"usage": usage_of(counts)}, counts)
        return Final({"usage": self._usage}, counts_of(self._usage))


def text_bytes(value: Any) -> int:
    """UTF-8 bytes of all generated text in a choice: no token is shorter than a byte."""
    if isinstance(value, str):
        return len(value.encode(errors="replace"))
    if isinstance(value, dict):
        skipped = ("role", "finish_reason", "logprobs", "id", "type", "index")
        return sum(text_bytes(v) for k, v in value.items() if k not in skipped)
    return sum(map(text_bytes, value)) if isinstance(value, list) else 0


def bound(job: Job, answer_bytes: int) -> Counts:
    """Upper bounds of tokens, where the upstream does not count: bytes, 16 per message, and the output limit."""
    messages = job.body.get("messages") or [{"content": job.body.get("prompt") or job.body.get("input")}]
    asked = sum(len(text_of(m.get("content")).encode()) + 16 for m in messages if isinstance(m, dict))
    return Counts(asked, min(answer_bytes, job.output_limit() or answer_bytes))


def counts_of(usage: Mapping[str, Any]) -> Counts:
    """Counts of OpenAI's usage object; what is missing or null is 0."""

    def number(holder: Any, name: str) -> int:
        value = holder.get(name) if isinstance(holder, dict) else None
        return value if isinstance(value, int) and value > 0 else 0

    return Counts(
        number(usage, "prompt_tokens"),
        number(usage, "completion_tokens"),
        number(usage.get("prompt_tokens_details"), "cached_tokens"),
        number(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def usage_of(counts: Counts) -> dict[str, int]:
    """OpenAI's usage object."""
    asked, answered = counts.input_tokens, counts.output_tokens
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


async def _read(response: aiohttp.ClientResponse) -> bytes:
    raw = bytearray()
    async for part in response.content.iter_any():
        raw += part
        if len(raw) > MAX_BODY_BYTES:
            raise unavailable("The upstream's answer is too large.")
    return bytes(raw)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The `data` of server-sent events, one line each as OpenAI writes them."""
    rest, total = b"", 0
    async for part in response.content.iter_any():
        total += len(part)
        *lines, rest = (rest + part).split(b"\n")
        if total > 4 * MAX_BODY_BYTES or len(rest) > MAX_BODY_BYTES:
            raise unavailable("The upstream's answer is too large.")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    if rest.startswith(b"data:"):
        yield rest[5:].strip()
