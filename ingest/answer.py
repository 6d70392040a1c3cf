"""One HTTP answer of a call, whole or streamed, in plain ASGI."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Final

from starlette.types import Message, Send

from ingest import metrics
from ingest.envelope import SERVER, ApiError

SEND_TIMEOUT_S: Final = 60.0


class Answer:
    """Writes one HTTP answer and counts it."""

    def __init__(self, send: Send, path: str, began: float) -> None:
        self._send = send
        self._operation = path.removeprefix("/v1/").replace("/", ".")
        self._began = began
        self._begun = False
        self.request_id = ""

    async def error(self, error: ApiError) -> None:
        """An error of the gateway's own."""
        await self.whole(error.status, "none", error.body(), error.headers)

    async def fault(self) -> None:
        """An error that we did not foresee; nothing, if the answer has already begun."""
        if not self._begun:
            await self.error(ApiError(500, "The gateway failed on this call.", code="internal_error", type=SERVER))

    async def whole(self, status: int, cache: str, body: bytes, headers: Mapping[str, str]) -> None:
        """A complete answer."""
        head = self._headers(b"application/json", cache, headers)
        head.append((b"content-length", b"%d" % len(body)))
        await self._start(status, head)
        await self._write(body, more=False)
        metrics.answered(self._operation, status, cache, time.perf_counter() - self._began)

    async def begin(self, cache: str) -> None:
        """The head of a streamed answer."""
        metrics.first_token(time.perf_counter() - self._began)
        head = self._headers(b"text/event-stream; charset=utf-8", cache, {"cache-control": "no-cache"})
        await self._start(200, head)

    async def events(self, data: bytes) -> None:
        """Some events of a streamed answer."""
        await self._write(data, more=True)

    async def end(self, cache: str) -> None:
        """The end of a streamed answer."""
        await self._write(b"", more=False)
        metrics.answered(self._operation, 200, cache, time.perf_counter() - self._began)

    def _headers(self, kind: bytes, cache: str, extra: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        request_id = self.request_id or str(uuid.uuid4())
        head = [
            (b"content-type", kind),
            (b"x-request-id", request_id.encode()),
            (b"x-millrace-cache", cache.encode()),
        ]
        head += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in extra.items()]
        return head

    async def _start(self, status: int, head: list[tuple[bytes, bytes]]) -> None:
        self._begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": head})

    async def _write(self, data: bytes, more: bool) -> None:
        message: Message = {"type": "http.response.body", "body": data, "more_body": more}
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await self._send(message)
