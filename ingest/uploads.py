"""/v1/uploads, as OpenAI has it: a file in parts, which a broken connection or a killed gateway does not undo."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from ingest import envelope, file_object, ids, upload_object
from ingest.files import MAX_FILE_BYTES, answer
from ingest.receiving import blocking, read_json, receive
from ingest.services import Services
from ingest.storage import Missing, Storage
from ingest.upload_object import Document, Part, Refused, Upload
from ingest.upload_store import UploadStore

# A completion names every part.
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_NAME: Final = 255

T = TypeVar("T")


def make_router(services: Services) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1/uploads")
    routes = Uploads(services)
    router.add_api_route("", routes.create, methods=["POST"])
    router.add_api_route("/{upload_id}/parts", routes.add_part, methods=["POST"])
    router.add_api_route("/{upload_id}/complete", routes.complete, methods=["POST"])
    router.add_api_route("/{upload_id}/cancel", routes.cancel, methods=["POST"])
    return router


class Uploads:
    """The handlers. An upload of another tenant does not exist."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def _store(self) -> UploadStore:
        return UploadStore(Storage(self._services.s3, self._services.addresses.bucket))

    async def create(self, request: Request) -> Response:
        """POST /v1/uploads"""
        tenant = (await self._services.caller(request)).tenant
        document = read_order(await read_json(request, MAX_BODY_BYTES), _now_ms(), os.urandom(16))
        return answer(await blocking(self._store().create, tenant, document))

    async def add_part(self, request: Request, upload_id: str) -> Response:
        """POST /v1/uploads/{upload_id}/parts"""
        tenant = (await self._services.caller(request)).tenant
        store, now_ms = self._store(), _now_ms()
        await _done(upload_id, store.check_open, tenant, upload_id, now_ms // 1000)
        part_id = ids.newest_first(ids.PART, now_ms, os.urandom(16))
        async with self._services.receiving.room(request):
            writer = store.part_writer(tenant, upload_id, part_id)
            try:
                form, lines = await receive(request, writer, "data", upload_object.MAX_PART_BYTES)
                if form.filename is None:
                    raise envelope.invalid("The form has no part called data.", "data")
                await blocking(writer.close)
            except BaseException:
                await asyncio.to_thread(writer.abort)
                raise
        part = Part(writer.size, lines.newlines, lines.open_end)
        await blocking(store.add, tenant, upload_id, part_id, part)
        return answer({"id": part_id, "object": "upload.part", "created_at": now_ms // 1000, "upload_id": upload_id})

    async def complete(self, request: Request, upload_id: str) -> Response:
        """POST /v1/uploads/{upload_id}/complete"""
        tenant = (await self._services.caller(request)).tenant
        body = await read_json(request, MAX_BODY_BYTES)
        names, md5 = body.get("part_ids"), body.get("md5") or ""
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise envelope.invalid("part_ids must be a list of ids of parts.", "part_ids")
        if not isinstance(md5, str):
            raise envelope.invalid("md5 must be a string.", "md5")
        return answer(await _done(upload_id, self._store().complete, tenant, upload_id, names, md5, _now_ms()))

    async def cancel(self, request: Request, upload_id: str) -> Response:
        """POST /v1/uploads/{upload_id}/cancel"""
        tenant = (await self._services.caller(request)).tenant
        return answer(await _done(upload_id, self._store().cancel, tenant, upload_id, _now_ms() // 1000))


async def _done(upload_id: str, call: Callable[..., T], *arguments: object) -> T:
    try:
        return await blocking(call, *arguments)
    except Missing as error:
        raise envelope.not_found(f"No such Upload object: {upload_id}", "upload_id") from error
    except Refused as error:
        raise envelope.invalid(error.message, error.param) from error


def read_order(body: dict[str, Any], now_ms: int, distinct: bytes) -> Document:
    """The new upload that a body asks for. Raises ApiError (400) with the parameter at fault."""
    name, size, purpose = body.get("filename"), body.get("bytes"), body.get("purpose")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise envelope.invalid(f"filename must have 1 to {MAX_NAME} characters.", "filename")
    if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
        raise envelope.invalid(f"bytes must be 0 to {MAX_FILE_BYTES}.", "bytes")
    if purpose != "batch":
        raise envelope.invalid(f"purpose must be 'batch', not {purpose!r}.", "purpose")
    if not isinstance(body.get("mime_type"), str):
        raise envelope.invalid("mime_type must be a string.", "mime_type")
    now_s = now_ms // 1000
    upload_id = ids.newest_first(ids.UPLOAD, now_ms, distinct)
    upload = Upload(upload_id, size, now_s, now_s + upload_object.LIFE_S, name, "batch")
    return Document(upload, _expiry_s(body.get("expires_after")))


def _expiry_s(value: Any) -> int:
    if value is None:
        return 0
    seconds = value.get("seconds") if isinstance(value, dict) else None
    if seconds is None or value.get("anchor") != "created_at" or not file_object.is_expiry(seconds):
        message = f"expires_after must have anchor created_at and seconds {file_object.EXPIRY_BOUNDS}."
        raise envelope.invalid(message, "expires_after")
    return int(seconds)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
