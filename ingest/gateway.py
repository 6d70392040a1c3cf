"""The HTTP gateway: OpenAI's API on one side, the journal on the other. `python -m ingest.gateway`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
import uuid
from contextlib import nullcontext
from typing import Any, Final

import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest import batch_content, batches, body, envelope, files, metrics, models, retries, uploads, usage, webhooks
from ingest.calls import Calls
from ingest.enquiries import Enquiries
from ingest.envelope import ApiError
from ingest.follower import Follower
from ingest.journal import Journal
from ingest.replies import Replies
from ingest.services import Services
from ingest.waiting import Waiting
from schemas import registry, topics
from schemas.addresses import Addresses
from schemas.wire import Codec

log = logging.getLogger(__name__)

DRAIN_S: Final = 8.0
RETRY_S: Final = 1.0
ALWAYS_OPEN: Final = ("/healthz", "/metrics")


class Gateway:
    """The ASGI application: real-time calls go straight to `Calls`, all else through FastAPI."""

    def __init__(self, services: Services, replies: Replies, waiting: Waiting) -> None:
        self.calls = Calls(services, replies, waiting)
        self._services = services
        self._replies = replies
        self._api = self._routes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] == "http" and scope["path"] in body.ENDPOINTS:
            await self.calls(scope, receive, send)
        elif scope["type"] == "http":
            await self._plain(scope, receive, send)
        else:
            raise RuntimeError(f"the gateway does not speak {scope['type']}")

    async def _plain(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every answer carries x-request-id and x-millrace-cache, whoever made it."""
        request_id = str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = request_id
        stamp = [(b"x-request-id", request_id.encode()), (b"x-millrace-cache", b"none")]

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *stamp]
            await send(message)

        app: ASGIApp = self._api
        if self.calls.draining and scope["path"] not in ALWAYS_OPEN:
            app = envelope.unavailable("The gateway is shutting down.", "shutting_down").response()
        await app(scope, receive, stamped)

    def _routes(self) -> FastAPI:
        api = FastAPI(title="Millrace", openapi_url=None, docs_url=None, redoc_url=None)
        api.add_exception_handler(ApiError, _on_error)
        api.add_exception_handler(HTTPException, _on_http)
        api.add_exception_handler(RequestValidationError, _on_invalid)
        api.add_exception_handler(Exception, _on_fault)
        for module in (models, usage, files, uploads, batch_content, batches, retries, webhooks):
            api.include_router(module.make_router(self._services))
        api.add_api_route("/metrics", metrics.route, methods=["GET"])
        api.add_api_route("/healthz", self._health, methods=["GET"])
        return api

    async def _health(self) -> Response:
        """200 when calls can be taken: a configuration is known and Kafka answers."""
        self._services.config()
        if self.calls.draining or not self._replies.ready:
            raise envelope.unavailable("The gateway is starting or stopping.", "starting")
        if not await self._services.journal.reachable(topics.JOURNAL):
            raise envelope.unavailable("Kafka is not reachable.", "kafka_unreachable")
        return Response(b'{"status":"ok"}', media_type=envelope.JSON)


async def _on_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}: {error.detail}"
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    return ApiError(error.status_code, what, code=code, headers=error.headers).response()


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    return envelope.invalid(f"{param or 'The request'}: {first['msg']}", param).response()


async def _on_fault(request: Request, error: Exception) -> Response:
    log.error("%s %s failed: %r", request.method, request.url.path, error, exc_info=error)
    return ApiError(500, "The gateway failed on this request.", code="internal_error", type=envelope.SERVER).response()


class Server(uvicorn.Server):
    """uvicorn, except that the gateway ends by itself: it answers 503 for a while before it stops to listen."""

    def capture_signals(self) -> Any:
        """Leave signals alone."""
        return nullcontext()


async def serve(addresses: Addresses, codec: Codec) -> None:
    """Run until SIGTERM or SIGINT, then drain for at most eight seconds."""
    waiting = Waiting()
    journal = Journal(addresses.kafka, addresses.service, codec)
    follower = Follower(addresses.kafka, addresses.service, codec)
    replies = Replies(addresses.kafka, addresses.service, codec, waiting.deliver)
    services = Services(addresses, codec, journal, follower)
    services.enquiries = Enquiries(journal, replies.topic.name, waiting)
    gateway = Gateway(services, replies, waiting)
    metrics.watch(lambda: len(waiting), lambda: float(follower.current is not None))
    follower.start()
    replies.start()
    config = uvicorn.Config(
        gateway,
        host=addresses.http_host,
        port=addresses.http_port,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        backlog=4096,
    )
    server = Server(config)
    _settle_garbage()
    ending = asyncio.ensure_future(_stop(server, gateway.calls, waiting))
    try:
        await server.serve()
    finally:
        ending.cancel()
        await journal.close()
        await asyncio.gather(asyncio.to_thread(replies.stop), asyncio.to_thread(follower.stop))


async def _stop(server: Server, calls: Calls, waiting: Waiting) -> None:
    """Wait for a signal; then take no more calls, wait for those in flight, end the rest."""
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    await signalled.wait()
    calls.draining = True
    log.info("stopping; %d calls are in flight", len(waiting))
    end = time.monotonic() + DRAIN_S
    while len(waiting) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    calls.end_all()
    server.should_exit = True


def _settle_garbage() -> None:
    """What start-up made stays for ever: keep the collector from walking it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def connect(url: str) -> Codec:
    """A codec from the registry, asking until it answers."""
    while True:
        try:
            return registry.connect(url)
        except Exception as error:  # requests', httpx's and the registry's own errors, by version
            log.warning("the schema registry does not answer yet: %s", error)
            time.sleep(RETRY_S)


def main() -> None:
    """Entry point of the process."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    addresses = Addresses.of(os.environ)
    uvloop.run(serve(addresses, connect(addresses.registry)))


if __name__ == "__main__":
    main()
