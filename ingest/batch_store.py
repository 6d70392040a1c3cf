"""What the gateway does to batches in S3: make, show, list, give orders. The batcher does the rest. Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Final

import msgspec

from ingest import batch_document, ids, places
from ingest.batch_document import Document
from ingest.batch_object import Batch
from ingest.batch_orders import Order
from ingest.storage import Conflict, Missing, Storage, StorageError

READERS: Final = 8
ATTEMPTS: Final = 20


class Promise(msgspec.Struct, frozen=True):
    """What an Idempotency-Key stands for: the batch's id and creation, and the hash of what was asked for."""

    batch_id: str
    created_ms: int
    asked: str


class BatchStore:
    """Batches by (tenant, id)."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def promise(self, tenant: str, key: str, mine: Promise) -> Promise:
        """What `key` stands for: `mine`, unless it was used before. Raises StorageError."""
        place = places.idempotency(tenant, key)
        try:
            self._storage.create(place, msgspec.json.encode(mine))
        except Conflict:
            return msgspec.json.decode(self._storage.get(place).body, type=Promise)
        return mine

    def create(self, document: Document) -> Batch:
        """Store a new batch; if it is there already, the batch as it is now. Raises StorageError.

        1. The mark by which the batcher finds it; a mark without a batch does no harm, a batch without one would
        never run. 2. The batch.
        """
        tenant, batch_id = document.private.tenant, document.batch.id
        place = places.batch(tenant, batch_id)
        with suppress(Missing):
            return batch_document.decode(self._storage.get(place).body).batch
        self._storage.put(places.open_batch(tenant, batch_id), b"")
        try:
            self._storage.create(place, batch_document.encode(document))
        except Conflict:
            return self.get(tenant, batch_id)
        return document.batch

    def get(self, tenant: str, batch_id: str) -> Batch:
        """A batch. Raises Missing, StorageError."""
        return self.document(tenant, batch_id).batch

    def document(self, tenant: str, batch_id: str) -> Document:
        """All that is stored of a batch. Raises Missing, StorageError."""
        if not ids.is_id(ids.BATCH, batch_id):
            raise Missing(batch_id)
        return batch_document.decode(self._storage.get(places.batch(tenant, batch_id)).body)

    def list(self, tenant: str, after: str, limit: int) -> list[Batch]:
        """Up to `limit` batches, newest first, after the id `after`. Raises StorageError."""
        start = places.batch(tenant, after) if after else ""
        keys: Iterator[str] = islice(self._storage.keys(places.batches(tenant), start), limit)
        with ThreadPoolExecutor(READERS) as pool:
            return [batch_document.decode(s.body).batch for s in pool.map(self._storage.get, keys)]

    def order(self, tenant: str, batch_id: str, order: Order, now_ms: int) -> Document:
        """The batch, from now on as ordered. Raises what `order` does, Missing, StorageError.

        Whoever writes first is right: an order that meets another write is judged anew by what was written.
        """
        if not ids.is_id(ids.BATCH, batch_id):
            raise Missing(batch_id)
        place = places.batch(tenant, batch_id)
        for _ in range(ATTEMPTS):
            stored = self._storage.get(place)
            document = batch_document.decode(stored.body)
            changed = order(document, now_ms)
            if changed == document:
                return document
            with suppress(Conflict):  # the batcher wrote progress meanwhile, or another order came
                self._storage.replace(place, batch_document.encode(changed), stored.etag)
                return changed
        raise StorageError(f"{batch_id} changed {ATTEMPTS} times while an order was to be stored")
