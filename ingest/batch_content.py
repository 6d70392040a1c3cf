"""GET /v1/batches/{id}/content: the results of a batch, also of one that still runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response

from ingest import batch_document, envelope, ids, input_lines, input_source, parts, places, results
from ingest.batch_document import Document
from ingest.file_store import FileStore
from ingest.parts import Part
from ingest.receiving import blocking
from ingest.results import Kind, Outcome
from ingest.sending import send
from ingest.services import Services
from ingest.storage import Missing, Storage
from schemas import uris

KINDS: Final[dict[str, Kind]] = {"output": results.OUTPUT, "error": results.ERROR}
BLOCK_BYTES: Final = 256 * 1024
# A batch that ends meanwhile takes its parts away, once.
ATTEMPTS: Final = 3
JSONL: Final = "application/jsonl"


class Found(NamedTuple):
    """The status of a batch, and its results in blocks."""

    status: str
    blocks: Iterator[bytes]


class StillRuns(Exception):
    """The batch has no whole results yet."""


def make_router(services: Services) -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.get("/v1/batches/{batch_id}/content")
    async def content(request: Request, batch_id: str) -> Response:
        return await respond(services, request, batch_id)

    return router


async def respond(services: Services, request: Request, batch_id: str) -> Response:
    """The results in input order; with `partial=true` those there are, `kind` (output | error) says which file.

    Raises ApiError (400, 401, 403, 404, 409, 503).
    """
    tenant = (await services.caller(request)).tenant
    kind, partial = request.query_params.get("kind", "output"), request.query_params.get("partial", "false")
    if kind not in KINDS:
        raise envelope.invalid("kind must be output or error.", "kind")
    if partial not in ("true", "false"):
        raise envelope.invalid("partial must be true or false.", "partial")
    storage = Storage(services.s3, services.addresses.bucket)
    try:
        found = await blocking(find, storage, tenant, batch_id, KINDS[kind], partial == "true")
        return await send(found.blocks, 200, {"x-millrace-batch-status": found.status}, JSONL)
    except Missing as error:
        raise envelope.not_found(f"No batch with results found with id '{batch_id}'.", "batch_id") from error
    except StillRuns as error:
        raise envelope.conflict(f"The batch is {error}; partial=true gives what is done.", "batch_not_ended") from error


def find(storage: Storage, tenant: str, batch_id: str, kind: Kind, partial: bool) -> Found:
    """The results of a batch. Raises Missing, StorageError; StillRuns unless part of them will do."""
    if not ids.is_id(ids.BATCH, batch_id):
        raise Missing(batch_id)
    for _ in range(ATTEMPTS):
        document = batch_document.decode(storage.get(places.batch(tenant, batch_id)).body)
        status = document.batch.status
        if document.terminal:
            return Found(status, _whole(storage, tenant, document, kind))
        if not partial:
            raise StillRuns(status)
        stored = parts.present(storage.keys(parts.folder(batch_id)), document.private.parts)
        if len(stored) == parts.written(document.private.parts):
            return Found(status, _blocks(storage, stored, kind))
    raise Missing(batch_id)


def _whole(storage: Storage, tenant: str, document: Document, kind: Kind) -> Iterator[bytes]:
    batch = document.batch
    file_id = batch.output_file_id if kind == results.OUTPUT else batch.error_file_id
    if file_id is None:
        return iter(())
    if uris.is_uri(file_id):
        source = input_source.find(storage, tenant, file_id)
        return source.blocks(0, source.size)
    return FileStore(storage).content(tenant, file_id, 0, storage.size(places.file_content(tenant, file_id)))


def _blocks(storage: Storage, stored: list[Part], kind: Kind) -> Iterator[bytes]:
    """Lines of the results in `stored` parts, in input order: one block of each part that overlaps is in memory."""

    def read(part: Part) -> Iterator[Outcome]:
        return parts.decode(input_lines.split(storage.blocks(part.key), parts.LONGEST_LINE))

    block = bytearray()
    for outcome in parts.merge(stored, read):
        if outcome.kind == kind:
            block += outcome.text + b"\n"
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
