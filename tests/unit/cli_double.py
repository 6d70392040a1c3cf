"""A double of the HTTP API for tests of the command line: files, uploads and batches in memory, faults on demand.

It answers what a test needs, in the API's shapes; that these are the real ones is what tests/e2e/test_2_cli.py shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import httpx

KEY = "mr-double"
BROKEN = httpx.ReadError("cut off")
AWAY = httpx.ConnectError("refused")


def batch(number: int, **more: Any) -> dict[str, Any]:
    """A batch as the API shows it."""
    blank = dict.fromkeys(
        ("errors", "output_file_id", "error_file_id", "in_progress_at", "finalizing_at", "completed_at", "failed_at")
    )
    return {
        "id": f"batch_{number:032x}",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-in",
        "completion_window": "24h",
        "created_at": 1_700_000_000,
        "expires_at": 1_700_086_400,
        "model": "echo",
        "status": "validating",
        **blank,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
        "metadata": None,
        "millrace": None,
        **more,
    }


class FakeApi(httpx.BaseTransport):
    """The double. `faults` are raised, or answered, one before each of the next requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Exception | httpx.Response | None] = []
        self.files: dict[str, tuple[str, bytes]] = {}
        self.batches: dict[str, list[dict[str, Any]]] = {}
        self.orders: list[dict[str, Any]] = []
        self.parts: dict[str, bytes] = {}
        self.cost = 7
        self.used: list[int] = []
        self.stream: list[str] = []
        self.cuts: list[int] = []
        self._by_key: dict[str, dict[str, Any]] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        path = request.url.path.removeprefix("/v1")
        self.requests.append((request.method, path))
        data = request.read()
        if self.faults and (fault := self.faults.pop(0)) is not None:
            if isinstance(fault, Exception):
                raise fault
            return fault
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return refusal(401, "Incorrect API key provided: …", "invalid_api_key")
        for method, pattern, answer in self._routes():
            if request.method == method and (found := re.fullmatch(pattern, path)):
                return answer(request, data, *found.groups())
        return refusal(404, f"no {path}", "not_found")

    def _routes(self) -> Iterator[tuple[str, str, Callable[..., httpx.Response]]]:
        yield "POST", "/files", self._file
        yield "GET", "/files", self._list_files
        yield "GET", "/files/([^/]+)", self._show_file
        yield "GET", "/files/([^/]+)/content", self._content
        yield "POST", "/uploads", lambda _r, d: ok({"id": "upload_1", **json.loads(d)})
        yield "POST", "/uploads/upload_1/parts", self._part
        yield "POST", "/uploads/upload_1/complete", self._complete
        yield "POST", "/batches", self._create
        yield "GET", "/batches", self._list
        yield "GET", "/batches/([^/]+)", self._get
        yield "GET", "/batches/([^/]+)/content", lambda r, _d, _i: httpx.Response(200, stream=Cut(b"so far\n", 0, self))
        yield "POST", "/batches/([^/]+)/(cancel|pause|resume)", self._order
        yield "POST", "/batches/([^/]+)/retry", self._create
        yield "GET", "/usage", self._usage
        yield "POST", "/chat/completions", self._chat
        yield "GET", "/webhooks/deliveries", self._deliveries
        yield "POST", "/webhooks/deliveries/([^/]+)/redeliver", self._redeliver

    def _file(self, request: httpx.Request, data: bytes) -> httpx.Response:
        name, content = form(request, data)["file"]
        return ok(self._add(name, content))

    def _add(self, name: str, content: bytes) -> dict[str, Any]:
        file_id = f"file-{len(self.files):032x}"
        self.files[file_id] = name, content
        return self._shown(file_id)

    def _shown(self, file_id: str) -> dict[str, Any]:
        name, content = self.files[file_id]
        return {"id": file_id, "object": "file", "bytes": len(content), "filename": name, "purpose": "batch"} | {
            "created_at": 1_700_000_000
        }

    def _list_files(self, _request: httpx.Request, _data: bytes) -> httpx.Response:
        return ok({"data": [self._shown(f) for f in reversed(self.files)], "has_more": False, "last_id": None})

    def _show_file(self, _request: httpx.Request, _data: bytes, file_id: str) -> httpx.Response:
        return ok(self._shown(file_id)) if file_id in self.files else refusal(404, "No such File", "not_found")

    def _content(self, request: httpx.Request, _data: bytes, file_id: str) -> httpx.Response:
        start = int((request.headers.get("range") or "bytes=0-")[6:-1])
        return httpx.Response(206 if start else 200, stream=Cut(self.files[file_id][1], start, self))

    def _part(self, request: httpx.Request, data: bytes) -> httpx.Response:
        part_id = f"part_{len(self.parts)}"
        self.parts[part_id] = form(request, data)["data"][1]
        return ok({"id": part_id})

    def _complete(self, _request: httpx.Request, data: bytes) -> httpx.Response:
        whole = b"".join(self.parts[name] for name in json.loads(data)["part_ids"])
        return ok({"id": "upload_1", "status": "completed", "file": self._add("in parts", whole)})

    def _create(self, request: httpx.Request, data: bytes, *_: str) -> httpx.Response:
        key = request.headers["idempotency-key"]
        if key not in self._by_key:
            self.orders.append(json.loads(data or b"{}"))
            self._by_key[key] = batch(len(self.orders))
            self.batches.setdefault(self._by_key[key]["id"], [self._by_key[key]])
        return ok(self._by_key[key])

    def _list(self, request: httpx.Request, _data: bytes) -> httpx.Response:
        found = [looks[0] for looks in self.batches.values()]
        after = request.url.params.get("after")
        start = 1 + [b["id"] for b in found].index(after) if after else 0
        page = found[start : start + min(2, int(request.url.params["limit"]))]
        more = start + len(page) < len(found)
        return ok({"data": page, "has_more": more, "last_id": page[-1]["id"] if page else None})

    def _get(self, _request: httpx.Request, _data: bytes, batch_id: str) -> httpx.Response:
        """Each look sees the batch one step further."""
        if batch_id not in self.batches:
            return refusal(404, f"No batch found with id '{batch_id}'.", "not_found")
        looks = self.batches[batch_id]
        return ok(looks.pop(0) if len(looks) > 1 else looks[0])

    def _order(self, _request: httpx.Request, _data: bytes, batch_id: str, name: str) -> httpx.Response:
        found = self.batches[batch_id][0]
        if found["status"] == "completed":
            return refusal(409, f"The batch is completed: it is too late to {name} it.", f"batch_not_{name}able")
        return ok({**found, "status": "cancelling"} if name == "cancel" else found)

    def _usage(self, request: httpx.Request, _data: bytes) -> httpx.Response:
        sums = {"requests": self.used.pop(0) if self.used else 1_000_000, "input_tokens": 60, "output_tokens": 60}
        row = {"object": "usage", "tenant": "acme", **sums, "cost_micros": self.cost}
        if request.url.params.get("lanes"):
            row["lanes"] = {"interactive": {**sums, "cost_micros": 1}, "batch": {**sums, "cost_micros": 2}}
        total = {**sums, "cost_micros": self.cost}
        return ok({"object": "list", "data": [row], "total": total})

    def _deliveries(self, request: httpx.Request, _data: bytes) -> httpx.Response:
        self.orders.append(dict(request.url.params))
        row = {"event_id": "evt_1", "endpoint": "crm", "type": "batch.completed", "batch_id": "batch_1"}
        row |= {"status": "pending", "next_attempt_at": 1_700_000_000, "last_error": "503", "attempts": [{}, {}]}
        return ok({"data": [row], "has_more": False, "last_id": "evt_1/crm"})

    def _redeliver(self, request: httpx.Request, data: bytes, event_id: str) -> httpx.Response:
        self.orders.append(json.loads(data) | dict(request.url.params))
        return ok({"object": "webhook.redelivery", "event_id": event_id, "endpoints": ["crm"], "status": "pending"})

    def _chat(self, request: httpx.Request, data: bytes) -> httpx.Response:
        self.orders.append(json.loads(data))
        if self.orders[-1].get("stream"):
            return httpx.Response(200, content="".join(f"data: {x}\n\n" for x in self.stream).encode())
        message = {"role": "assistant", "content": self.orders[-1]["messages"][-1]["content"]}
        return ok({"id": "chatcmpl-1", "choices": [{"index": 0, "message": message}]})


class Cut(httpx.SyncByteStream):
    """Content from `start` on, that breaks off where the double's next cut says."""

    def __init__(self, content: bytes, start: int, api: FakeApi) -> None:
        self._content = content[start:]
        self._cut = api.cuts.pop(0) if api.cuts else None

    def __iter__(self) -> Iterator[bytes]:
        yield self._content[: self._cut]
        if self._cut is not None:
            raise BROKEN


def ok(value: Any) -> httpx.Response:
    """200."""
    return httpx.Response(200, json=value)


def refusal(status: int, message: str, code: str) -> httpx.Response:
    """An error in the API's shape."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return httpx.Response(status, json={"error": error})


def form(request: httpx.Request, data: bytes) -> dict[str, tuple[str, bytes]]:
    """Parts of a multipart body by name: file name and content."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    parts = BytesParser(policy=HTTP).parsebytes(head + data).iter_parts()
    return {
        str(p.get_param("name", header="content-disposition")): (p.get_filename() or "", p.get_payload(decode=True))
        for p in parts  # type: ignore[misc]
    }
