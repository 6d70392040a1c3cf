"""/v1/files, as OpenAI has it."""

from __future__ import annotations

import asyncio
import os
import re
import time
from typing import Any, Final
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from ingest import batch_content, envelope, file_object, ids, places
from ingest.file_object import StoredFile
from ingest.file_store import FileStore
from ingest.form import Form
from ingest.object_writer import Writer
from ingest.receiving import blocking, receive
from ingest.sending import send
from ingest.services import Services
from ingest.storage import Missing, Storage

MAX_FILE_BYTES: Final = 100 * 1024**3
MAX_LIST: Final = 10_000
_RANGE: Final = re.compile(r"bytes=([0-9]*)-([0-9]*)")


def make_router(services: Services) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1/files")
    routes = Files(services)
    router.add_api_route("", routes.create, methods=["POST"])
    router.add_api_route("", routes.list, methods=["GET"])
    router.add_api_route("/{file_id}", routes.get, methods=["GET"])
    router.add_api_route("/{file_id}", routes.delete, methods=["DELETE"])
    router.add_api_route("/{file_id}/content", routes.content, methods=["GET", "HEAD"])
    return router


def answer(value: Any, status: int = 200) -> Response:
    """An object of the API as JSON."""
    return Response(msgspec.json.encode(value), status, media_type=envelope.JSON)


class Files:
    """The handlers. A file of another tenant does not exist."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def _store(self) -> tuple[Storage, FileStore]:
        storage = Storage(self._services.s3, self._services.addresses.bucket)
        return storage, FileStore(storage)

    async def create(self, request: Request) -> Response:
        """POST /v1/files"""
        tenant = (await self._services.caller(request)).tenant
        storage, store = self._store()
        now_ms = time.time_ns() // 1_000_000
        file_id = ids.newest_first(ids.FILE, now_ms, os.urandom(16))
        async with self._services.receiving.room(request):
            writer = Writer(storage, places.file_content(tenant, file_id))
            try:
                upload, lines = await receive(request, writer, "file", MAX_FILE_BYTES)
                file = _file(file_id, upload, writer.size, now_ms // 1000, lines.count)
                await blocking(writer.close)
            except BaseException:
                await asyncio.to_thread(writer.abort)
                raise
        await blocking(store.put, tenant, file)
        return answer(file.shown())

    async def list(self, request: Request) -> Response:
        """GET /v1/files"""
        tenant = (await self._services.caller(request)).tenant
        query = request.query_params
        limit = page_limit(query.get("limit"), MAX_LIST, MAX_LIST)
        order, purpose, after = query.get("order", "desc"), query.get("purpose", ""), query.get("after", "")
        if order not in ("asc", "desc"):
            raise envelope.invalid("order must be asc or desc.", "order")
        if after and not ids.is_id(ids.FILE, after):
            raise envelope.invalid("after must be the id of a file.", "after")
        _, store = self._store()
        now_s = int(time.time())
        found = await blocking(store.list, tenant, after, limit + 1, purpose, order == "asc", now_s)
        return answer(page([file.shown() for file in found], limit))

    async def get(self, request: Request, file_id: str) -> Response:
        """GET /v1/files/{file_id}"""
        return answer((await self._find(request, file_id))[1].shown())

    async def delete(self, request: Request, file_id: str) -> Response:
        """DELETE /v1/files/{file_id}. 409 while a batch reads it: its lines would be lost."""
        tenant, file = await self._find(request, file_id)
        _, store = self._store()
        if file.purpose == "batch" and await blocking(store.in_use, tenant, file_id):
            raise envelope.conflict("A batch that has not ended reads this file.", "file_in_use")
        await blocking(store.delete, tenant, file_id)
        return answer({"id": file_id, "object": "file", "deleted": True})

    async def content(self, request: Request, file_id: str) -> Response:
        """GET /v1/files/{file_id}/content, whole or one range of bytes; the results so far, if it is a batch's id."""
        if ids.is_id(ids.BATCH, file_id):
            return await batch_content.respond(self._services, request, file_id)
        tenant, file = await self._find(request, file_id)
        _, store = self._store()
        # A file never changes, so its id is its version.
        tag = f'"{file_id}"'
        wanted = request.headers.get("range") if request.headers.get("if-range", tag) == tag else None
        start, end, partial = byte_range(wanted, file.bytes)
        headers = {"content-length": str(end - start), "accept-ranges": "bytes", "etag": tag}
        headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}"
        if partial:
            headers["content-range"] = f"bytes {start}-{end - 1}/{file.bytes}"
        status = 206 if partial else 200
        if request.method == "HEAD":
            return Response(None, status, headers, "application/octet-stream")
        try:
            blocks = store.content(tenant, file_id, start, end)
            return await send(blocks, status, headers, "application/octet-stream")
        except Missing as error:
            raise _no_file(file_id) from error

    async def _find(self, request: Request, file_id: str) -> tuple[str, StoredFile]:
        tenant = (await self._services.caller(request)).tenant
        _, store = self._store()
        try:
            return tenant, await blocking(store.get, tenant, file_id, int(time.time()))
        except Missing as error:
            raise _no_file(file_id) from error


def _no_file(file_id: str) -> envelope.ApiError:
    return envelope.not_found(f"No such File object: {file_id}", "id")


def _file(file_id: str, upload: Form, size: int, now_s: int, lines: int) -> StoredFile:
    """The object of a whole upload. Raises ApiError (400)."""
    if upload.filename is None:
        raise envelope.invalid("The form has no part called file.", "file")
    purpose = upload.fields.get("purpose", "")
    if purpose != "batch":
        raise envelope.invalid(f"purpose must be 'batch', not {purpose!r}.", "purpose")
    expires_at = _expires_at(upload.fields, now_s)
    return StoredFile(file_id, size, now_s, upload.filename, "batch", expires_at, lines=lines)


def _expires_at(fields: dict[str, str], now_s: int) -> int | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise envelope.invalid("expires_after[anchor] must be created_at.", "expires_after")
    span = int(seconds) if (seconds or "").isdecimal() and seconds else 0
    if not file_object.is_expiry(span):
        raise envelope.invalid(f"expires_after[seconds] must be {file_object.EXPIRY_BOUNDS}.", "expires_after")
    return now_s + span


def page_limit(text: str | None, default: int, maximum: int) -> int:
    """The `limit` of a listing. Raises ApiError (400) unless it is from 1 to `maximum`."""
    if text is None:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= maximum:
        raise envelope.invalid(f"limit must be 1 to {maximum}.", "limit")
    return int(text)


def page(found: list[Any], limit: int) -> dict[str, Any]:
    """OpenAI's list object of what was found when one more than `limit` was asked for."""
    data = found[:limit]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(found) > limit}


def byte_range(header: str | None, size: int) -> tuple[int, int, bool]:
    """(start, end exclusive, whether it is a part) of a Range header; anything but one range of bytes is ignored.

    Raises ApiError (416) if it lies behind the end. Source: RFC 9110, section 14.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not any(match.groups()):
        return 0, size, False
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return 0, size, False
    if start >= end:
        headers = {"content-range": f"bytes */{size}"}
        raise envelope.ApiError(
            416, "The range lies behind the end of the file.", code="invalid_range", headers=headers
        )
    return start, end, True
