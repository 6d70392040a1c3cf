"""Sends bytes out of S3 at the pace at which they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping

from starlette.responses import StreamingResponse

from ingest.receiving import blocking


async def send(blocks: Iterator[bytes], status: int, headers: Mapping[str, str], kind: str) -> StreamingResponse:
    """An answer of `blocks`, each of which is waited for in a thread. The first is read before anything is sent.

    Raises Missing, ApiError (503). If a later block cannot be read the connection breaks: the client sees that it did
    not get all.
    """
    first = await blocking(next, blocks, b"")
    return StreamingResponse(_rest(first, blocks), status, headers, kind)


async def _rest(first: bytes, blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    block = first
    while block:
        yield block
        block = await asyncio.to_thread(next, blocks, b"")
