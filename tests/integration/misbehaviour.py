"""An OpenAI-compatible server on a bare socket: what it does wrong is named by the last message of the call.

Every byte is its own, so it can say what no HTTP library would: nothing at all, half a chunk, a line without an end.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable

import orjson

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Act = Callable[["Misbehaving", Reader, Writer], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"content-type: application/json\r\n"
EVENTS = OK + b"content-type: text/event-stream\r\nconnection: close\r\n\r\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
GOOD = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}]}


def reply(body: object, head: bytes = OK, kind: bytes = JSON) -> bytes:
    """A whole response; `body` is bytes, or made into JSON."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return head + kind + b"content-length: %d\r\n\r\n" % len(raw) + raw


def event(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n"


def word(text: str, finish: str | None = None, **rest: object) -> bytes:
    """A chunk with a piece of the answer."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **rest})


def error(status: int, reason: str, code: str, extra: bytes = b"") -> bytes:
    """A refusal in OpenAI's shape."""
    head = b"HTTP/1.1 %d X\r\n" % status + extra
    return reply({"error": {"message": reason, "type": "t", "param": None, "code": code}}, head)


SAYS: dict[str, bytes] = {
    "good": reply({**GOOD, "usage": USAGE}),
    "not json": reply(b"<oops"),
    "another shape": reply({"choices": {"0": "x"}}),
    "a list": reply([1, 2]),
    "no choices": reply({"choices": []}),
    "wrong types": reply({"choices": [{"index": "a", "message": 7}]}),
    "deep": reply(b'{"choices":[{"message":' + b"[" * 700 + b"]" * 700 + b"}]}"),
    "odd usage": reply({**GOOD, "usage": {"prompt_tokens": -4, "completion_tokens": 1e40}}),
    "not http": b"SSH-2.0-OpenSSH_9.6\r\n",
    "long header": OK + b"x: " + b"y" * 100_000 + b"\r\n\r\n",
    "short body": OK + JSON + b'content-length: 99\r\n\r\n{"choices"',
    "nothing": b"",
    "page": reply(b"<html>It works!</html>", kind=b"content-type: text/html\r\n"),
    "plain events": reply(word("one"), kind=b"content-type: text/plain\r\n"),
    "not loaded": error(404, "The model does not exist.", "model_not_found"),
    "too long": error(400, "4097 tokens are too many.", "context_length_exceeded"),
    "detail": reply({"detail": "bad field"}, b"HTTP/1.1 422 X\r\n"),
    "no credit": error(402, "Insufficient Balance", "x"),
    "busy for an hour": error(429, "slow down", "rate_limit", b"retry-after: 3600\r\n"),
    "broken": error(500, "CUDA error", "x"),
    "error in 200": reply({"error": {"message": "overloaded", "code": 503}}),
    "stream: not json": EVENTS + event(b"{nonsense"),
    "stream: wrong types": EVENTS + event({"choices": [{"index": 0, "delta": "x"}]}),
    "stream: odd logprobs": EVENTS + event({"choices": [{"index": 0, "text": "x", "logprobs": {"content": 1}}]}),
    "stream: cut": EVENTS + word("one ") + word("two"),
    "stream: empty": EVENTS,
    "stream: only done": EVENTS + event(b"[DONE]"),
    "stream: error": EVENTS + event({"error": {"message": "too long", "code": 400, "type": "BadRequestError"}}),
    "stream: late error": EVENTS + word("one ") + event({"error": {"message": "CUDA error"}}),
    "stream: late garbage": EVENTS + word("one ") + event(b"[]"),
    "stream: no usage": EVENTS + word("one ") + word("two", "stop") + event(b"[DONE]"),
    "stream: huge line": EVENTS + b"data: " + b"x" * (2 << 20) + b"\n\n",
    "stream: endless line": EVENTS + b"data: " + b"x" * (2 << 20),
}


async def _silent(server: Misbehaving, reader: Reader, writer: Writer) -> None:
    await server.wait(reader, writer)


async def _silent_midway(server: Misbehaving, reader: Reader, writer: Writer) -> None:
    writer.write(EVENTS + word("one "))
    await server.wait(reader, writer)


async def _only_a_role(server: Misbehaving, reader: Reader, writer: Writer) -> None:
    writer.write(EVENTS + event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}))
    await server.wait(reader, writer)


async def _open_after_the_end(server: Misbehaving, reader: Reader, writer: Writer) -> None:
    writer.write(EVENTS + word("fine", "stop") + event({"choices": [], "usage": USAGE}) + event(b"[DONE]"))
    await server.wait(reader, writer)


async def _busy_for_a_moment(server: Misbehaving, reader: Reader, writer: Writer) -> None:
    first = server.calls["busy for a moment"] == 1
    writer.write(error(429, "slow down", "x", b"retry-after: 0.2\r\n") if first else SAYS["good"])


async def _stale(server: Misbehaving, reader: Reader, writer: Writer) -> None:
    writer.write(b"" if server.calls["stale"] == 1 else SAYS["good"])


DOES: dict[str, Act] = {
    "hang": _silent,
    "stream: hang": _silent,
    "stream: hang midway": _silent_midway,
    "stream: only a role": _only_a_role,
    "stream: open after the end": _open_after_the_end,
    "busy for a moment": _busy_for_a_moment,
    "stale": _stale,
}


class Misbehaving:
    """Listens on `url` in a thread. `calls` counts them by case; `left` is set when a caller hangs up on a silence."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.left = threading.Event()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready.set()
        self._loop.run_forever()

    def stop(self) -> None:
        """End the server."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    async def wait(self, reader: Reader, writer: Writer) -> None:
        """Say nothing more until the caller hangs up."""
        await writer.drain()
        await reader.read()
        self.left.set()

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        body = orjson.loads(await reader.readexactly(length))
        case = body["messages"][-1]["content"]
        self.calls[case] += 1
        try:
            if case in DOES:
                await DOES[case](self, reader, writer)
            else:
                writer.write(SAYS[case])
                await writer.drain()
        except ConnectionError:
            self.left.set()
        writer.close()
