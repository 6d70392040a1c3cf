"""A web shop: an API of tickets with a cursor, and callbacks for answers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Shop:
    """`failures` are calls by method that are answered with 503 first; `cursors` and `posted` are what it was asked."""

    def __init__(self) -> None:
        self.failures = {"GET": 0, "POST": 0}
        self.cursors: list[str] = []
        self.posted: list[tuple[str, dict[str, str], bytes]] = []
        self._tickets: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, *tickets: dict[str, Any]) -> None:
        """New tickets."""
        self._tickets += tickets

    def close(self) -> None:
        """Close it."""
        self._server.shutdown()
        self._server.server_close()

    def _status(self, method: str, path: str) -> int:
        if self.failures[method] > 0 and not path.endswith("/gone"):
            self.failures[method] -= 1
            return 503
        return 410 if path.endswith("/gone") else 200

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cursor = parse_qs(urlsplit(self.path).query)["after"][0]
                status = shop._status(self.command, self.path)
                if status == 200:
                    shop.cursors.append(cursor)
                after = [ticket for ticket in shop._tickets if ticket["id"] > int(cursor)]
                self._answer(status, json.dumps({"data": {"tickets": after[:2]}}).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = shop._status(self.command, self.path)
                if status == 200:
                    shop.posted.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self._answer(status, b"{}")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        return Handler
