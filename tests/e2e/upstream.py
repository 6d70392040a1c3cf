"""An OpenAI-compatible server that a test can kill: `python -m tests.e2e.upstream`. It repeats, slowly, and tells keys.

Like the engine `echo` it answers with the last user message, one word at a time. It puts the key it was called with
into the headers of every answer; the first word of the message may ask it to misbehave further:
"leak" tells the key whole and, in a stream, letter by letter; "cut" breaks off in the middle of it; "page" answers with
a page of HTML; a status from 300 to 599 answers with an error of that status.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from aiohttp import web

FIRST_S = 0.2
WORD_S = 0.06
TELLTALE = "the key of this server is"


class Server:
    """What it was asked: requests that were begun, that are running, and that told the key."""

    def __init__(self) -> None:
        self.counts = {"begun": 0, "running": 0, "told": 0}

    async def counted(self, request: web.Request) -> web.Response:
        return web.json_response(self.counts)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.counts["begun"] += 1
        self.counts["running"] += 1
        try:
            return await self._answer(request)
        finally:
            self.counts["running"] -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.counts["told"] += bool(key)
        headers = {"x-key": key, "x-request-id": f"req-{key}", "set-cookie": f"key={key}"}
        text = body["messages"][-1]["content"]
        case = text.partition(" ")[0]
        if case.isdigit():
            error = {"message": f"{TELLTALE} {key}", "type": key, "param": key, "code": f"code-{key}"}
            location = {"location": f"http://127.0.0.1:1/{key}"}
            return web.json_response({"error": error}, status=int(case), headers={**headers, **location})
        if case == "page":
            return web.Response(text=f"<html>{TELLTALE} {key}</html>", content_type="text/html", headers=headers)
        words = [f"{word} " for word in text.split(" ")]
        words[-1] = words[-1][:-1]
        if case == "leak":
            words = [f"{TELLTALE} ", *key, f" {key}", " again"]
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": len(words)}
        usage["total_tokens"] = sum(usage.values())
        if case == "cut":
            return await self._cut(request, headers, f'{{"choices": [{{"message": {{"content": "{TELLTALE} {key}')
        if body.get("stream"):
            return await self._stream(request, headers, words, usage)
        await asyncio.sleep(FIRST_S + WORD_S * len(words))
        message = {"role": "assistant", "content": "".join(words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {"id": f"up-{key}", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
        return web.json_response(whole, headers=headers)

    async def _cut(self, request: web.Request, headers: dict[str, str], text: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={**headers, "content-type": "application/json", "content-length": "9999"})
        await response.prepare(request)
        await response.write(text.encode())
        assert request.transport is not None
        request.transport.abort()
        return response

    async def _stream(
        self, request: web.Request, headers: dict[str, str], words: list[str], usage: dict[str, int]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={**headers, "content-type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(FIRST_S)
        for word in words:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            await response.write(event({"choices": [choice]}))
            await asyncio.sleep(WORD_S)
        await response.write(event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        await response.write(event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")
        return response


def event(data: dict[str, Any]) -> bytes:
    head = {"id": "up", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**head, **data}).encode() + b"\n\n"


async def serve() -> None:
    """Listen on a free port, print it, and go on until killed."""
    server = Server()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.answer)
    app.router.add_get("/counts", server.counted)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


class Upstream:
    """The server in a process of its own."""

    def __init__(self) -> None:
        line = [sys.executable, "-m", "tests.e2e.upstream"]
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(line, cwd=root, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.base = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    @property
    def url(self) -> str:
        """What `base_url` of a pool says."""
        return f"{self.base}/v1"

    def counts(self) -> dict[str, int]:
        """Requests begun, running, and those that were told the key."""
        with urllib.request.urlopen(f"{self.base}/counts", timeout=10) as answer:
            return dict(json.load(answer))

    def kill(self) -> None:
        """Let it die at once; harmless where it is dead."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(10)


if __name__ == "__main__":
    asyncio.run(serve())
