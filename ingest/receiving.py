"""Takes in the body of a form with a file, at the pace at which S3 takes it on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import orjson
from starlette.requests import Request

from ingest import envelope
from ingest.file_object import Lines
from ingest.form import Form
from ingest.object_writer import Writer
from ingest.storage import Missing, StorageError

# What is parsed between two waits for S3: enough to be worth a thread's time.
FEED_BYTES: Final = 1024 * 1024
# What a form has beside its file: boundaries, headers, text fields.
FORM_BYTES: Final = 128 * 1024
# A long form holds a part for S3 in memory, 8 MiB and more, for as long as its sender takes; a short one all it has.
# Measured: a gateway that takes in as many long ones as it may has 270 MiB, an idle one 118.
SHORT_BYTES: Final = 1024 * 1024
MAX_LONG: Final = 6
MAX_SHORT: Final = 32
MAX_WAITING: Final = 1_000
PATIENCE_S: Final = 30.0
SILENCE_S: Final = 60.0

T = TypeVar("T")


class Receiving:
    """The forms that one process takes in at the same time; others wait, unread, so that nobody is sent away early.

    Short ones never wait for those that may take hours.
    """

    def __init__(self, most_long: int = MAX_LONG, most_short: int = MAX_SHORT) -> None:
        self._long = asyncio.Semaphore(most_long)
        self._short = asyncio.Semaphore(most_short)
        self._waiting = 0

    @asynccontextmanager
    async def room(self, request: Request) -> AsyncIterator[None]:
        """A place for one more form. Raises ApiError (503) if none is free within PATIENCE_S."""
        length = request.headers.get("content-length", "")
        places = self._short if length.isdecimal() and int(length) <= SHORT_BYTES else self._long
        await self._enter(places)
        try:
            yield
        finally:
            places.release()

    async def _enter(self, places: asyncio.Semaphore) -> None:
        full = envelope.unavailable("Too many files are being uploaded.", "overloaded")
        if self._waiting >= MAX_WAITING:
            raise full
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                await places.acquire()
        except TimeoutError:
            raise full from None
        finally:
            self._waiting -= 1


async def blocking(call: Callable[..., T], *arguments: object) -> T:
    """Run a call that waits for S3 in a thread. Raises ApiError: 503 where S3 fails; Missing passes."""
    try:
        return await asyncio.to_thread(call, *arguments)
    except Missing:
        raise
    except StorageError as error:
        raise envelope.unavailable("The file store cannot be reached.", "storage_unavailable") from error


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object in a body of at most `limit` bytes. Raises ApiError (400, 413)."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise envelope.too_large(limit)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise envelope.invalid(f"The body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(value, dict):
        raise envelope.invalid("The body must be a JSON object.")
    return value


async def receive(request: Request, writer: Writer, field: str, limit: int) -> tuple[Form, Lines]:
    """Read a form to its end; the bytes of its part `field`, at most `limit`, go on to `writer`.

    Raises ApiError (400, 408, 413, 503).
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit + FORM_BYTES:
        raise envelope.too_large(limit)
    lines = Lines()

    def write(data: bytes) -> None:
        lines.add(data)
        writer.write(data)

    upload = Form(request.headers.get("content-type", ""), write, field)
    waiting = bytearray()
    async for chunk in _patient(request.stream()):
        waiting += chunk
        if len(waiting) >= FEED_BYTES:
            await blocking(upload.feed, bytes(waiting))
            waiting.clear()
        if writer.size > limit:
            raise envelope.too_large(limit)
    await blocking(upload.feed, bytes(waiting))
    upload.finish()
    if writer.size > limit:
        raise envelope.too_large(limit)
    return upload, lines


async def _patient(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a body, none of which lets the next one wait too long. Raises ApiError (408)."""
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            message = f"Nothing came for {SILENCE_S:.0f} s."
            raise envelope.ApiError(408, message, code="request_timeout") from None
        yield piece
