"""Files of tenants in S3: the bytes, and beside them the API's object, which is written last. Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Final

from ingest import batch_document, file_object, ids, places
from ingest.file_object import FileObject, StoredFile
from ingest.storage import Missing, Storage, StorageError

READERS: Final = 8
# Broken connections in a row after which a download is given up; a slow reader sees some.
ATTEMPTS: Final = 4
OBJECT: Final = ".json"
CONTENT: Final = ".content"


class FileStore:
    """Files by (tenant, id)."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def get(self, tenant: str, file_id: str, now_s: int) -> StoredFile:
        """The object of a file. Raises Missing, StorageError.

        One that has expired is missing too; the sweeper takes its bytes.
        """
        if not ids.is_id(ids.FILE, file_id):
            raise Missing(file_id)
        file = file_object.decode(self._storage.get(places.file_object(tenant, file_id)).body)
        if file.expired(now_s):
            raise Missing(file_id)
        return file

    def list(self, tenant: str, after: str, limit: int, purpose: str, ascending: bool, now_s: int) -> list[StoredFile]:
        """Up to `limit` files after the id `after`, newest first or oldest first. Raises StorageError."""
        folder = places.files(tenant)
        start = places.file_object(tenant, after) if after else ""
        if ascending:
            keys = reversed([k for k in self._storage.keys(folder) if not start or k < start])
            found = self._read(k for k in keys if k.endswith(OBJECT))
        else:
            found = self._read(k for k in self._storage.keys(folder, start) if k.endswith(OBJECT))
        wanted = (f for f in found if not f.expired(now_s) and purpose in ("", f.purpose))
        return list(islice(wanted, limit))

    def _read(self, keys: Iterator[str]) -> Iterator[StoredFile]:
        """The objects under `keys`, several at a time; one that goes away meanwhile is left out."""
        with ThreadPoolExecutor(READERS) as pool:
            while chunk := list(islice(keys, 4 * READERS)):
                yield from (f for f in pool.map(self._get, chunk) if f is not None)

    def _get(self, key: str) -> StoredFile | None:
        with suppress(Missing):
            return file_object.decode(self._storage.get(key).body)
        return None

    def content(self, tenant: str, file_id: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` to `end` (exclusive) of a file, in blocks. Raises Missing, StorageError.

        Where the connection to S3 breaks, it reads on from there.
        """
        failures = 0
        while start < end:
            try:
                for block in self._storage.blocks(places.file_content(tenant, file_id), start, end):
                    start, failures = start + len(block), 0
                    yield block
            except Missing:
                raise
            except StorageError:
                failures += 1
                if failures >= ATTEMPTS:
                    raise

    def put(self, tenant: str, file: FileObject) -> None:
        """Show a file whose bytes are there. Raises StorageError.

        1. The mark by which the sweeper finds it when it expires; a mark without a file does no harm. 2. The object.
        """
        if file.expires_at is not None:
            self._storage.put(places.expiry(file.expires_at, tenant, file.id), b"")
        self._storage.put(places.file_object(tenant, file.id), file_object.encode(file))

    def delete(self, tenant: str, file_id: str) -> None:
        """Remove a file: first from sight, then its bytes. Raises StorageError."""
        self._storage.delete([places.file_object(tenant, file_id)])
        self._storage.delete([places.file_content(tenant, file_id)])

    def in_use(self, tenant: str, file_id: str) -> bool:
        """Whether a batch that has not ended reads the file. Raises StorageError."""
        for mark in self._storage.keys(places.open_batches(tenant)):
            with suppress(Missing):
                document = batch_document.decode(self._storage.get(places.batch(*places.of_open_batch(mark))).body)
                if document.reads(file_id):
                    return True
        return False
