"""POST /v1/batches/{id}/retry: a new batch of the lines that have no answer in an ended one. An extension."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from msgspec.structs import replace
from starlette.responses import Response

from ingest import acceptance, batch_gather, batch_object, batch_retry, batch_uris, batches, envelope
from ingest.batch_document import Document, Kind, Retried, Retry
from ingest.batch_object import VALIDATING, Progress
from ingest.batch_retry import Refused
from ingest.batch_store import BatchStore, Promise
from ingest.file_store import FileStore
from ingest.files import answer
from ingest.receiving import blocking
from ingest.services import Services
from ingest.storage import Missing, Storage
from schemas import uris
from schemas.config import Principal

# Retries of one batch that can have come to nothing before another one is made.
ATTEMPTS: Final = 8


class Ask(msgspec.Struct, frozen=True):
    """What a caller asks for, checked. None: all lines that have no answer, the window and metadata they had before."""

    batch_id: str
    only: tuple[Kind, ...] | None
    window: str | None
    metadata: dict[str, str] | None


def make_router(services: Services) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/v1/batches")
    router.add_api_route("/{batch_id}/retry", Retries(services).create, methods=["POST"])
    return router


class Retries:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def create(self, request: Request, batch_id: str) -> Response:
        """The new batch. 409 where there is nothing to retry, or another retry has it already.

        1. The lines are taken in the old batch's document. 2. The new batch, if it fits. A kill or a refusal after 1
        leaves lines that are taken by a batch that is not there: whoever asks next makes that one.
        """
        principal = await self._services.caller(request)
        ask = read_ask(batch_id, await batches.read_body(request, b"{}"))
        now_ms = time.time_ns() // 1_000_000
        storage = Storage(self._services.s3, self._services.addresses.bucket)
        store, tenant = BatchStore(storage), principal.tenant
        promise = await batches.promised(request, store, tenant, batches.digest(ask), now_ms)
        try:
            old = await blocking(store.document, tenant, batch_id)
            if promise.batch_id not in {r.batch_id for r in old.private.retries}:
                await _check_files(self._services, FileStore(storage), old, now_ms // 1000)
            taken = await self._take(store, tenant, ask, promise.batch_id, now_ms)
        except Missing as error:
            raise batches.no_batch(batch_id) from error
        except Refused as error:
            raise envelope.conflict(str(error), error.code) from error
        promise = replace(promise, batch_id=taken.batch_id)
        load = acceptance.load_of_retry(old, taken.only)
        new = document(ask, old, taken, principal, promise)
        batch = await batches.make(self._services, store, principal, new, load)
        await batches.command(self._services, tenant, batch.id, "start", now_ms)
        return answer(batch)

    async def _take(self, store: BatchStore, tenant: str, ask: Ask, new_id: str, now_ms: int) -> Retried:
        """Take the lines for `new_id`, or for the retry that has them and does not exist yet. Raises Refused."""
        void: set[str] = set()
        for _ in range(ATTEMPTS):

            def order(stored: Document, _now_ms: int, new_id: str = new_id) -> Document:
                return batch_retry.take(stored, ask.only, new_id, void)[0]

            try:
                stored = await blocking(partial(store.order, tenant, ask.batch_id, order, now_ms))
                return next(r for r in stored.private.retries if r.batch_id == new_id)
            except Refused as error:
                if not error.by:
                    raise
                try:
                    other = await blocking(store.get, tenant, error.by)
                except Missing:
                    new_id = error.by
                    continue
                if other.status != "failed":
                    raise
                void.add(error.by)
        raise envelope.unavailable("The batch is being retried by others; try again.", "conflict")


def read_ask(batch_id: str, value: Any) -> Ask:
    """What a JSON body asks for. Raises ApiError (400) with the parameter at fault."""
    if not isinstance(value, dict):
        raise envelope.invalid("The body must be a JSON object.")
    try:
        only = batch_retry.read_only(value.get("only"))
    except ValueError as error:
        raise envelope.invalid(str(error), "only") from error
    window = value.get("completion_window")
    if window is not None and batch_object.window_s(window) is None:
        raise envelope.invalid(batches.WINDOW_FAULT, "completion_window")
    if fault := batch_object.metadata_fault(value.get("metadata")):
        raise envelope.invalid(fault, "metadata")
    return Ask(batch_id, only, window, value.get("metadata"))


def document(ask: Ask, old: Document, taken: Retried, principal: Principal, promise: Promise) -> Document:
    """The new batch, linked to the old one."""
    batch = old.batch
    assert batch.error_file_id is not None, "what has no error file has no lines to take"
    window = ask.window or batch.completion_window
    seconds = batch_object.window_s(window)
    assert seconds is not None, "a stored window is one"
    input_file_id = batch_gather.file_id(promise.batch_id, promise.created_ms)
    metadata = batch.metadata if ask.metadata is None else ask.metadata
    private = old.private
    order = batches.Order(
        input_file_id, batch.endpoint, window, seconds, metadata, private.output_expiry_s, private.output_uri
    )
    new = batches.document(order, principal, promise)
    retry = Retry(batch.id, batch.input_file_id, batch.error_file_id, taken.only)
    shown = replace(new.batch, millrace=Progress(waiting=VALIDATING, retry_of=batch.id))
    return Document(shown, replace(new.private, retry=retry))


async def _check_files(services: Services, store: FileStore, old: Document, now_s: int) -> None:
    """Raises Refused if a file is gone that the lines are read from; ApiError if it is, or they go, where its tenant
    may not read or write any more.
    """
    if not old.terminal or old.batch.error_file_id is None:
        return  # there is nothing to retry, as will be told
    await batch_uris.check_output(services, old.private.tenant, old.private.output_uri)
    for what, file_id in (("input", old.batch.input_file_id), ("error", old.batch.error_file_id)):
        if uris.is_uri(file_id):
            await batch_uris.check_input(services, old.private.tenant, file_id)
            continue
        try:
            await blocking(store.get, old.private.tenant, file_id, now_s)
        except Missing as error:
            message = f"The {what} file {file_id} of the batch is gone, and with it what its lines were."
            raise Refused(f"{what}_file_gone", message) from error
