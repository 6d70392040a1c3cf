"""The book of what a tenant's batches have waiting, in S3 under conditional puts: of two who come at the same time the
second one sees what the first one took. Blocking.

Nobody has to give anything back. A batch counts while the mark is there by which batchers find it, and however it ends
and whoever was killed meanwhile, that mark goes when it has ended. Before anyone is refused, the documents of all that
counts are looked at.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

import msgspec

from ingest import batch_document, enqueued, places
from ingest.batch_document import Document
from ingest.enqueued import Book, Entry, Full
from ingest.storage import Conflict, Missing, Storage, StorageError
from schemas.limits import Limit

READERS: Final = 8
ATTEMPTS: Final = 100
# A conflict is lost to another creation of the same tenant; after a moment the book is likely to rest.
LONGEST_PAUSE_S: Final = 0.1


def reserve(
    storage: Storage,
    tenant: str,
    batch_id: str,
    entry: Entry,
    limits: tuple[Limit, ...],
    real: Callable[[str], str],
    now_ms: int,
) -> Full | None:
    """Let a batch count that is about to be created; the limit that it does not fit. Raises StorageError.

    Repeating it for the same batch changes nothing.
    """
    place = places.enqueued(tenant)
    for _ in range(ATTEMPTS):
        book, etag = _load(storage, place)
        marked = {places.of_open_batch(key)[1] for key in storage.keys(places.open_batches(tenant))}
        book = enqueued.current(book, marked, now_ms)
        unknown = marked - book.entries.keys() - {batch_id}
        book = enqueued.looked_up(book, _documents(storage, tenant, unknown), now_ms)
        verdict = enqueued.admit(book, batch_id, entry, limits, real)
        if isinstance(verdict, Full):
            book = enqueued.looked_up(book, _documents(storage, tenant, book.entries.keys()), now_ms)
            verdict = enqueued.admit(book, batch_id, entry, limits, real)
        if isinstance(verdict, Full):
            return verdict
        with suppress(Conflict):
            body = msgspec.json.encode(verdict)
            storage.replace(place, body, etag) if etag else storage.create(place, body)
            return None
        time.sleep(random.uniform(0, LONGEST_PAUSE_S))
    raise StorageError(f"{place} changed {ATTEMPTS} times while a batch was to be counted")


def _load(storage: Storage, place: str) -> tuple[Book, str]:
    try:
        stored = storage.get(place)
    except Missing:
        return Book(), ""
    return msgspec.json.decode(stored.body, type=Book), stored.etag


def _documents(storage: Storage, tenant: str, batch_ids: Iterable[str]) -> dict[str, Document | None]:
    def get(batch_id: str) -> Document | None:
        with suppress(Missing):
            return batch_document.decode(storage.get(places.batch(tenant, batch_id)).body)
        return None

    wanted = list(batch_ids)
    if not wanted:
        return {}
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(wanted, pool.map(get, wanted), strict=True))
