"""A receiver of webhooks that a test tells how to behave. It verifies with the unmodified `openai` package."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import openai

HANG_S = 30.0


class Got(NamedTuple):
    """A call that came in: where, what the SDK made of it (None if it refused it), and how it was answered."""

    path: str
    event: Any
    event_id: str
    at: float
    status: int
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Listens on `port` (0 for any). `answers` says by path what to answer: a status, "hang", or "slow"."""

    def __init__(self, secret: str, port: int = 0) -> None:
        self.got: list[Got] = []
        self.answers: dict[str, int | str] = {}
        self.open: Counter[str] = Counter()
        self.most_open: Counter[str] = Counter()
        self.closing = threading.Event()
        self.secret = secret
        self._client = openai.OpenAI(api_key="unused", base_url="http://127.0.0.1:9")
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.take(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def take(self, request: BaseHTTPRequestHandler) -> None:
        path, at = request.path, time.time()
        body = request.rfile.read(int(request.headers["content-length"]))
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            event: Any = self._client.webhooks.unwrap(body, headers, secret=self.secret)
        except openai.InvalidWebhookSignatureError:
            event = None
        answer = self.answers.get(path, 204)
        self.open[path] += 1
        self.most_open[path] = max(self.most_open[path], self.open[path])
        status = answer if isinstance(answer, int) else 0
        self.got.append(Got(path, event, headers["webhook-id"], at, status, headers, body))
        if answer == "slow":
            self.closing.wait(1)
        elif answer == "hang":
            self.closing.wait(HANG_S)
        self.open[path] -= 1
        with contextlib.suppress(OSError):
            request.send_response(status or 200)
            if 300 <= status < 400:
                request.send_header("location", self.url("/elsewhere"))
            request.send_header("content-length", "0")
            request.end_headers()

    def ids(self, path: str, status: int | None = None) -> list[str]:
        """Ids of the events that came to a path, in order."""
        return [g.event_id for g in list(self.got) if g.path == path and status in (None, g.status)]

    def close(self) -> None:
        """Stop listening: from now on connections are refused."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
