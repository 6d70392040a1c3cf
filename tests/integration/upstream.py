"""An OpenAI-compatible server that misbehaves as the requested model says."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import orjson
from aiohttp import web

KEY = "sk-upstream-0123456789"
ANSWER = {
    "id": "up-1",
    "object": "chat.completion",
    "created": 17,
    "model": "upstream-model",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            },
            "logprobs": {"content": [{"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}]},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
    "service_tier": "odd",
}


def chunk(delta: dict[str, Any], finish: str | None = None, **top: Any) -> bytes:
    """One event of a stream."""
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "up-2", "object": "chat.completion.chunk", "created": 17, "model": "upstream-model"}
    return b"data: " + orjson.dumps({**head, "choices": choices, **top}) + b"\n\n"


class Upstream:
    """Listens on `url` in a thread; `requests` are the bodies it got."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.dropped = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._loop.run_forever()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/{rest:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self._ready.set()

    def stop(self) -> None:
        """End the server."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        case = body["messages"][-1]["content"] if "messages" in body else "embed"
        if body.get("stream"):
            return await self._stream(request, case, key)
        if case == "hang":
            try:
                await asyncio.sleep(30)
            finally:
                self.dropped.set()
        if case == "garbage":
            return web.Response(text="<html>oops</html>", content_type="text/html")
        if case == "truncated":
            response = web.StreamResponse(headers={"content-length": "1000", "content-type": "application/json"})
            await response.prepare(request)
            await response.write(b'{"choices"')
            assert request.transport is not None
            request.transport.abort()
            return response
        if case.isdigit():
            error = {"message": f"no, {key}", "type": "t", "param": None, "code": "c"}
            return web.json_response({"error": error}, status=int(case))
        if case == "leak":
            message = {"role": "assistant", "content": f"the key is {key}!"}
            return web.json_response({**ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        if case == "uncounted":
            return web.json_response({k: v for k, v in ANSWER.items() if k != "usage"})
        if case == "embed":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]
            return web.json_response({"object": "list", "data": data, "usage": {"prompt_tokens": 2, "total_tokens": 2}})
        return web.json_response(ANSWER)

    async def _stream(self, request: web.Request, case: str, key: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        if case == "silent":
            await asyncio.sleep(30)
        pieces = ["the ", "key ", "is ", *key, " ok"] if case == "leak" else ["one ", "two ", "three"]
        try:
            for piece in pieces:
                await response.write(chunk({"role": "assistant", "content": piece}))
            if case == "endless":
                while True:
                    await response.write(chunk({"content": "x "}))
                    await asyncio.sleep(0.02)
        except ConnectionError:
            self.dropped.set()
            return response
        if case == "broken":
            assert request.transport is not None
            await asyncio.sleep(0.2)
            request.transport.abort()
            return response
        if case == "unfinished":
            return response
        await response.write(chunk({}, "stop"))
        if case != "uncounted":
            usage = (
                b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}\n\n'
            )
            await response.write(usage)
        await response.write(b"data: [DONE]\n\n")
        return response
