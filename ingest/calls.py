"""Calls for an answer: /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/responses, /v1/moderations.

Plain ASGI: this is the way of every real-time call, and a framework would cost more than all we do here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send

from ingest import envelope, metrics, responses
from ingest.answer import Answer
from ingest.envelope import ApiError
from ingest.journal import JournalError
from ingest.order import Order, Repeats, read_order
from ingest.replies import Replies
from ingest.responses import ResponseStream
from ingest.services import Services, may_call
from ingest.streaming import Stream
from ingest.waiting import GONE, Call, Gone, Reply, Waiting
from schemas import topics
from streams.responses import RESPONSES

log = logging.getLogger(__name__)

# Admission answers at the deadline; this is for the way back. After it nothing will come.
GRACE_MS: Final = 5_000


class Calls:
    """The ASGI application of these endpoints."""

    def __init__(self, services: Services, replies: Replies, waiting: Waiting) -> None:
        self._services = services
        self._replies = replies
        self._waiting = waiting
        self._repeats = Repeats()
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        began = time.perf_counter()
        answer = Answer(send, scope["path"], began)
        try:
            order = await self._order(scope, receive)
        except ApiError as error:
            await answer.error(error)
            return
        except ConnectionError:
            return
        answer.request_id = order.request_id
        call = Call(order.principal.tenant, order.request_id, order.body.stream, order.body.patient)
        self._waiting.enter(call)
        timer = self._expire(call, order)
        watcher = asyncio.create_task(_watch(receive, call))
        try:
            self._queue(order, call)
            await (_stream(call, answer, order) if call.stream else _whole(call, answer, order))
        except (TimeoutError, OSError):  # the caller does not read, or the connection broke
            call.finish(GONE)
        except Exception:
            log.exception("request %s failed in the gateway", order.request_id)
            await answer.fault()
        finally:
            timer.cancel()
            watcher.cancel()
            self._waiting.leave(call)
            self._left(call, order)

    def end_all(self) -> None:
        """End what still waits: this process stops."""
        self._waiting.end_all(envelope.unavailable("The gateway is shutting down.", "shutting_down"))

    async def _order(self, scope: Scope, receive: Receive) -> Order:
        if scope["method"] != "POST":
            raise ApiError(405, "Only POST is allowed here.", code="method_not_allowed", headers={"allow": "POST"})
        self._check_open()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        principal = may_call(self._services.principal(authorization))
        order = await read_order(scope, receive, headers, principal, self._repeats)
        self._check_open()  # much may have come while the body was read
        if order.body.patient and not self._waiting.has_patient_room():
            raise envelope.no_flex()
        return order

    def _check_open(self) -> None:
        if self.draining:
            raise envelope.unavailable("The gateway is shutting down.", "shutting_down")
        self._services.config()
        if not self._replies.ready:
            raise envelope.unavailable("The gateway is starting: Kafka is not reachable yet.", "starting")
        if not self._waiting.has_room():
            raise envelope.unavailable("Too many calls are waiting.", "overloaded")

    def _queue(self, order: Order, call: Call) -> None:
        record = {
            "tenant": order.principal.tenant,
            "request_id": order.request_id,
            "key_id": order.principal.name,
            "endpoint": order.endpoint,
            "model": order.body.model,
            "body": order.raw,
            "lane": "batch" if order.body.patient else "interactive",
            "received_at": order.received_at,
            "deadline": order.deadline,
            "reply_to": self._replies.topic.name,
            "stream": order.body.stream,
            "cache": order.cache,
            "repeatable": order.repeatable,
            "source": "http",
        }
        try:
            self._services.journal.post(topics.JOURNAL, order.principal.tenant, "Request", record, call.refused)
        except JournalError as error:
            call.refused(str(error))

    def _expire(self, call: Call, order: Order) -> asyncio.TimerHandle:
        timeout_ms = order.deadline - order.received_at
        late = envelope.timed_out(f"There was no answer within {timeout_ms} ms.")
        return asyncio.get_running_loop().call_later((timeout_ms + GRACE_MS) / 1000, call.finish, late)

    def _left(self, call: Call, order: Order) -> None:
        """Cancel what nobody waits for. A repeatable request goes on: its caller may come again for the answer."""
        if call.end is GONE:
            metrics.hung_up()
        abandoned = call.end is GONE or (self.draining and isinstance(call.end, ApiError))
        if not abandoned or order.repeatable:
            return
        record = {
            "tenant": order.principal.tenant,
            "request_id": order.request_id,
            "reason": "cancelled",
            "key_id": order.principal.name,
            "model": order.body.model,
            "received_at": order.received_at,
        }
        try:
            self._services.journal.post(topics.JOURNAL, order.principal.tenant, "Cancellation", record, _ignore)
        except JournalError:
            pass  # the request then runs to its end or its deadline


async def _whole(call: Call, answer: Answer, order: Order) -> None:
    await call.ready()
    end = call.end
    if isinstance(end, ApiError):
        await answer.error(end)
    elif isinstance(end, dict):
        body = end["body"]
        if order.endpoint == RESPONSES and end["http_status"] < 400:
            body = responses.whole(body, order.request_id, _asked(order))
        elif order.body.served and end["http_status"] < 400:
            body = orjson.dumps({**orjson.loads(body), "service_tier": order.body.served})
        await answer.whole(end["http_status"], end["cache"], body, end["headers"])


def _new_stream(order: Order) -> Stream:
    if order.endpoint == RESPONSES:
        return ResponseStream(order.request_id, _asked(order))
    return Stream(order.body.include_usage, order.body.served)


def _asked(order: Order) -> dict[str, Any]:
    """The body of a call, as its answer repeats it: with the tier that it was served at."""
    asked: dict[str, Any] = orjson.loads(order.raw)
    return asked | ({"service_tier": order.body.served} if order.body.served else {})


async def _stream(call: Call, answer: Answer, order: Order) -> None:
    stream = _new_stream(order)
    cache = ""
    while not stream.ended:
        await call.ready()
        if call.end is GONE:
            return
        if not cache and not call.chunks and not _speaks(call.end):
            await _whole(call, answer, order)
            return
        data = _events(stream, call)
        if data and not cache:
            cache = call.end["cache"] if isinstance(call.end, dict) else "miss"
            await answer.begin(cache)
        if data:
            await answer.events(data)
    await answer.end(cache)


def _speaks(end: Reply | ApiError | Gone | None) -> bool:
    """Whether a reply has something to show in a stream, rather than an error with a status of its own."""
    return isinstance(end, dict) and end["http_status"] < 400 and end["status"] in ("completed", "blocked")


def _events(stream: Stream, call: Call) -> bytes:
    """All that can be shown now, as one piece."""
    out = []
    while call.chunks and not stream.ended:
        out.append(stream.chunk(call.chunks.popleft()))
    if call.end is not None and not stream.ended:
        if isinstance(call.end, ApiError):
            out.append(stream.fail(call.end.message, call.end.code))
        elif isinstance(call.end, dict):
            out.append(stream.reply(call.end))
    return b"".join(out)


async def _watch(receive: Receive, call: Call) -> None:
    """End the call when its connection closes."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.finish(GONE)


def _ignore(_reason: Any) -> None:
    """A cancellation that was lost costs only the work it would have saved."""
