"""/v1/batches, as OpenAI has it."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from typing import Any, Final

import msgspec
import orjson
from fastapi import APIRouter, Request
from msgspec.structs import replace
from starlette.responses import Response

from ingest import acceptance, batch_object, batch_orders, batch_uris, envelope, file_object, ids
from ingest.acceptance import Load, Window
from ingest.batch_document import Document, Kinds, Private
from ingest.batch_object import VALIDATING, Batch, Progress
from ingest.batch_orders import TooLate
from ingest.batch_store import BatchStore, Promise
from ingest.file_object import StoredFile
from ingest.file_store import FileStore
from ingest.files import answer, page, page_limit
from ingest.journal import JournalError
from ingest.receiving import blocking
from ingest.services import Services
from ingest.storage import Missing, Storage
from schemas import topics, uris
from schemas.config import Principal

log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 64 * 1024
MAX_KEY_BYTES: Final = 255
DEFAULT_LIST: Final = 20
MAX_LIST: Final = 100
WINDOW_FAULT: Final = "completion_window must be a number and s, m, h or d, of at most 7 days, such as 24h."


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a caller asks for when creating a batch, checked. `input_file_id` may be an s3:// URI."""

    input_file_id: str
    endpoint: str
    completion_window: str
    window_s: int
    metadata: dict[str, str] | None
    output_expiry_s: int
    output_uri: str = ""


def make_router(services: Services) -> APIRouter:
    """The routes of single batches and of their list; retries.py has one more."""
    router = APIRouter(prefix="/v1/batches")
    routes = Batches(services)
    router.add_api_route("", routes.create, methods=["POST"])
    router.add_api_route("", routes.list, methods=["GET"])
    router.add_api_route("/{batch_id}", routes.get, methods=["GET"])
    router.add_api_route("/{batch_id}/cancel", routes.cancel, methods=["POST"])
    router.add_api_route("/{batch_id}/pause", routes.pause, methods=["POST"])
    router.add_api_route("/{batch_id}/resume", routes.resume, methods=["POST"])
    return router


class Batches:
    """The handlers. A batch of another tenant does not exist."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def _store(self) -> tuple[BatchStore, FileStore]:
        storage = Storage(self._services.s3, self._services.addresses.bucket)
        return BatchStore(storage), FileStore(storage)

    async def create(self, request: Request) -> Response:
        """POST /v1/batches. With an Idempotency-Key a repeat answers with the batch that was made first."""
        principal = await self._services.caller(request)
        order = read_order(await read_body(request))
        now_ms = time.time_ns() // 1_000_000
        store, file_store = self._store()
        promise = await promised(request, store, principal.tenant, digest(order), now_ms)
        try:
            batch = await blocking(store.get, principal.tenant, promise.batch_id)
        except Missing:
            # Also for a key that was used before: what was refused then is looked at anew.
            await batch_uris.check_output(self._services, principal.tenant, order.output_uri)
            load = await self._load(file_store, principal.tenant, order.input_file_id, now_ms // 1000)
            batch = await make(self._services, store, principal, document(order, principal, promise), load)
        await command(self._services, principal.tenant, batch.id, "start", now_ms)
        return answer(batch)

    async def list(self, request: Request) -> Response:
        """GET /v1/batches, newest first."""
        principal = await self._services.caller(request)
        limit = page_limit(request.query_params.get("limit"), DEFAULT_LIST, MAX_LIST)
        after = request.query_params.get("after", "")
        if after and not ids.is_id(ids.BATCH, after):
            raise envelope.invalid("after must be the id of a batch.", "after")
        store, _ = self._store()
        return answer(page(await blocking(store.list, principal.tenant, after, limit + 1), limit))

    async def get(self, request: Request, batch_id: str) -> Response:
        """GET /v1/batches/{batch_id}"""
        principal = await self._services.caller(request)
        store, _ = self._store()
        try:
            return answer(await blocking(store.get, principal.tenant, batch_id))
        except Missing as error:
            raise no_batch(batch_id) from error

    async def cancel(self, request: Request, batch_id: str) -> Response:
        """POST /v1/batches/{batch_id}/cancel. 409 once there is nothing left to cancel."""
        return await self._order(request, batch_id, "cancel", batch_orders.cancel, "batch_not_cancellable")

    async def pause(self, request: Request, batch_id: str) -> Response:
        """POST /v1/batches/{batch_id}/pause, an extension. 409 once there is no line left to hold back."""
        return await self._order(request, batch_id, "pause", batch_orders.pause, "batch_not_pausable")

    async def resume(self, request: Request, batch_id: str) -> Response:
        """POST /v1/batches/{batch_id}/resume, an extension. 409 once there is no line left to let go."""
        return await self._order(request, batch_id, "resume", batch_orders.resume, "batch_not_resumable")

    async def _order(
        self, request: Request, batch_id: str, name: str, order: batch_orders.Order, code: str
    ) -> Response:
        """Store an order, then tell the batcher. Repeating it changes nothing."""
        principal = await self._services.caller(request)
        store, _ = self._store()
        now_ms = time.time_ns() // 1_000_000
        try:
            batch = (await blocking(store.order, principal.tenant, batch_id, order, now_ms)).batch
        except Missing as error:
            raise no_batch(batch_id) from error
        except TooLate as error:
            raise envelope.conflict(f"The batch is {error.batch.status}: it is too late to {name} it.", code) from error
        await command(self._services, principal.tenant, batch_id, name, now_ms)
        return answer(batch)

    async def _load(self, store: FileStore, tenant: str, name: str, now_s: int) -> Load:
        """What the input asks for. Raises ApiError where it cannot be one."""
        storage = Storage(self._services.s3, self._services.addresses.bucket)
        if uris.is_uri(name):
            size, lines = await batch_uris.check_input(self._services, tenant, name), None
        else:
            file = await self._file(store, tenant, name, now_s)
            size, lines = file.bytes, file.lines
        return await blocking(acceptance.load_of_input, storage, tenant, name, size, lines)

    async def _file(self, store: FileStore, tenant: str, file_id: str, now_s: int) -> StoredFile:
        try:
            file = await blocking(store.get, tenant, file_id, now_s)
        except Missing as error:
            raise envelope.not_found(f"No such File object: {file_id}", "input_file_id") from error
        if file.purpose != "batch":
            raise envelope.invalid("The input file must have been uploaded for purpose 'batch'.", "input_file_id")
        return file


async def make(services: Services, store: BatchStore, principal: Principal, new: Document, load: Load) -> Batch:
    """Store a new batch if it fits. Raises ApiError (400, 429, 503)."""
    private = new.private
    window = Window(new.batch.id, private.created_ms, private.deadline_ms)
    done_ms = await acceptance.accept(services, principal, load, window)
    shown = new.batch
    if done_ms is not None and shown.millrace is not None:
        shown = replace(shown, millrace=replace(shown.millrace, estimated_completion_at=done_ms // 1000))
    return await blocking(store.create, Document(shown, replace(private, enqueued=load.tokens)))


async def promised(request: Request, store: BatchStore, tenant: str, asked: str, now_ms: int) -> Promise:
    """The id of the batch that is to be made; the same again for a repeat under an Idempotency-Key.

    `asked` is a hash of what is asked for. Raises ApiError (400, 503).
    """
    mine = Promise(ids.newest_first(ids.BATCH, now_ms, os.urandom(16)), now_ms, asked)
    if (key := request.headers.get("idempotency-key")) is None:
        return mine
    if not 0 < len(key) <= MAX_KEY_BYTES:
        raise envelope.invalid(f"Idempotency-Key must have 1 to {MAX_KEY_BYTES} characters.")
    promise = await blocking(store.promise, tenant, key, mine)
    if promise.asked != asked:
        raise envelope.invalid("This Idempotency-Key was used for another request.", code="idempotency_error")
    return promise


async def command(services: Services, tenant: str, batch_id: str, name: str, now_ms: int) -> None:
    """Wake the batcher. If that fails it finds the batch by itself, a little later."""
    record = {"tenant": tenant, "batch_id": batch_id, "command": name, "at": now_ms}
    try:
        await services.journal.append(topics.BATCH_COMMANDS, batch_id, "BatchCommand", record)
    except JournalError as error:
        log.warning("%s of %s was stored, but not announced: %s", name, batch_id, error)


def no_batch(batch_id: str) -> envelope.ApiError:
    """404."""
    return envelope.not_found(f"No batch found with id '{batch_id}'.", "batch_id")


async def read_body(request: Request, otherwise: bytes = b"") -> Any:
    """The JSON body, that of `otherwise` if it is empty. Raises ApiError (400, 413)."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise envelope.too_large(MAX_BODY_BYTES)
    try:
        return orjson.loads(data or otherwise)
    except orjson.JSONDecodeError as error:
        raise envelope.invalid(f"The body is not valid JSON: {error}") from error


def read_order(value: Any) -> Order:
    """The order in a JSON body. Raises ApiError (400) with the parameter at fault."""
    if not isinstance(value, dict):
        raise envelope.invalid("The body must be a JSON object.")
    file_id, endpoint, window = (value.get(n) for n in ("input_file_id", "endpoint", "completion_window"))
    if not isinstance(file_id, str) or not file_id:
        raise envelope.invalid("input_file_id must be the id of a file.", "input_file_id")
    if endpoint not in batch_object.ENDPOINTS:
        raise envelope.invalid(f"endpoint must be one of {', '.join(batch_object.ENDPOINTS)}.", "endpoint")
    seconds = batch_object.window_s(window)
    if seconds is None:
        raise envelope.invalid(WINDOW_FAULT, "completion_window")
    if fault := batch_object.metadata_fault(value.get("metadata")):
        raise envelope.invalid(fault, "metadata")
    expiry_s = _output_expiry_s(value.get("output_expires_after"))
    output_uri = value.get("output_uri") or ""
    if not isinstance(output_uri, str):
        raise envelope.invalid("output_uri must be a text.", "output_uri")
    if output_uri and expiry_s:
        message = "What is written to output_uri is yours: it does not expire."
        raise envelope.invalid(message, "output_expires_after")
    return Order(file_id, endpoint, str(window), seconds, value.get("metadata"), expiry_s, output_uri)


def _output_expiry_s(value: Any) -> int:
    if value is None:
        return 0
    seconds = value.get("seconds") if isinstance(value, dict) else None
    if seconds is None or value.get("anchor") != "created_at" or not file_object.is_expiry(seconds):
        message = f"output_expires_after must have anchor created_at and seconds {file_object.EXPIRY_BOUNDS}."
        raise envelope.invalid(message, "output_expires_after")
    return int(seconds)


def digest(order: object) -> str:
    """A hash of what is asked for."""
    return hashlib.sha256(msgspec.json.encode(order, order="deterministic")).hexdigest()


def document(order: Order, principal: Principal, promise: Promise) -> Document:
    """The new batch."""
    created_s = promise.created_ms // 1000
    batch = Batch(
        id=promise.batch_id,
        endpoint=order.endpoint,
        input_file_id=order.input_file_id,
        completion_window=order.completion_window,
        created_at=created_s,
        expires_at=created_s + order.window_s,
        metadata=order.metadata,
        millrace=Progress(waiting=VALIDATING),
    )
    deadline_ms = promise.created_ms + 1000 * order.window_s
    private = Private(
        principal.tenant, principal.name, promise.created_ms, deadline_ms, order.output_expiry_s, kinds=Kinds()
    )
    return Document(batch, replace(private, output_uri=order.output_uri))
