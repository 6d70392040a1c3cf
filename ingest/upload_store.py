"""Uploads in parts in S3, and nowhere else: whichever gateway takes the next part knows all of them. Blocking."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ingest import ids, places, upload_object
from ingest.file_object import StoredFile
from ingest.file_store import FileStore
from ingest.object_writer import Writer
from ingest.storage import Conflict, Missing, Storage, StorageError, Unsupported
from ingest.upload_object import Document, Part, Refused, Upload

log = logging.getLogger(__name__)

# S3's own bounds of an object's parts.
MIN_COPIED_BYTES: Final = 5 * 1024 * 1024
MAX_COPIED_PARTS: Final = 10_000
COPIERS: Final = 4
ATTEMPTS: Final = 5
# Until then a repeated completion still gets its answer.
SWEPT_AFTER_S: Final = 86_400


class UploadStore:
    """Uploads by (tenant, id)."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def create(self, tenant: str, document: Document) -> Upload:
        """Store a new upload: 1. the mark by which the sweeper finds it, 2. the upload. Raises StorageError."""
        upload = document.upload
        self._storage.put(places.expiry(upload.expires_at + SWEPT_AFTER_S, tenant, upload.id), b"")
        self._storage.create(places.upload(tenant, upload.id), upload_object.encode(document))
        return upload

    def check_open(self, tenant: str, upload_id: str, now_s: int) -> None:
        """Whether a part may come. Raises Missing, Refused, StorageError."""
        upload_object.take_parts(self._load(tenant, upload_id)[0], now_s)

    def part_writer(self, tenant: str, upload_id: str, part_id: str) -> Writer:
        """A stream into a part; `add` makes it count."""
        return Writer(self._storage, places.upload_part(tenant, upload_id, part_id))

    def add(self, tenant: str, upload_id: str, part_id: str, part: Part) -> None:
        """Let a part count whose bytes are stored. Raises StorageError."""
        self._storage.put(places.upload_mark(tenant, upload_id, part_id, *part), b"")

    def cancel(self, tenant: str, upload_id: str, now_s: int) -> Upload:
        """Give an upload up, with its parts. Raises Missing, Refused, StorageError."""
        for _ in range(ATTEMPTS):
            document, etag = self._load(tenant, upload_id)
            changed = upload_object.cancelled(document, now_s)
            if changed != document and not self._replace(tenant, changed, etag):
                continue
            self._drop_parts(tenant, upload_id)
            return changed.upload
        raise StorageError(f"{upload_id} kept changing while it was cancelled")

    def complete(self, tenant: str, upload_id: str, wanted: Sequence[str], md5: str, now_ms: int) -> Upload:
        """Make the file of the parts `wanted`, in that order. Raises Missing, Refused, StorageError.

        1. The decision, so that no other one can be made. 2. The file's bytes. 3. Its object. 4. The upload is
        completed. 5. The parts go. A repetition goes on where a killed one stopped, and makes the same file.
        """
        for _ in range(ATTEMPTS):
            document, etag = self._load(tenant, upload_id)
            if document.upload.status == "completed" and tuple(wanted) == document.parts:
                return document.upload
            known = self._parts(tenant, upload_id)
            settled = upload_object.settled(document, wanted, known, now_ms)
            if md5 and settled != document:
                self._check(tenant, upload_id, wanted, md5)
            if settled != document and not self._replace(tenant, settled, etag):  # 1
                continue
            try:
                return self._make(tenant, settled, [known[name] for name in settled.parts])
            except (Missing, KeyError, Conflict):  # another request was faster, and the parts are gone
                log.info("%s is completed by another request", upload_id)
        raise StorageError(f"{upload_id} kept changing while it was completed")

    def _make(self, tenant: str, document: Document, parts: Sequence[Part]) -> Upload:
        upload = document.upload
        file_id = ids.newest_first(ids.FILE, document.settled_ms, upload.id.encode())
        sources = [
            (places.upload_part(tenant, upload.id, name), part.size)
            for name, part in zip(document.parts, parts, strict=True)
            if part.size
        ]
        assemble(self._storage, places.file_content(tenant, file_id), sources)  # 2
        created_s = document.settled_ms // 1000
        expires_s = created_s + document.expiry_s if document.expiry_s else None
        counted = upload_object.lines(parts)
        file = StoredFile(file_id, upload.bytes, created_s, upload.filename, upload.purpose, expires_s, lines=counted)
        FileStore(self._storage).put(tenant, file)  # 3
        done = upload_object.completed(document, file.shown())
        etag = self._load(tenant, upload.id)[1]
        self._storage.replace(places.upload(tenant, upload.id), upload_object.encode(done), etag)  # 4
        self._drop_parts(tenant, upload.id)  # 5
        return done.upload

    def _load(self, tenant: str, upload_id: str) -> tuple[Document, str]:
        if not ids.is_id(ids.UPLOAD, upload_id):
            raise Missing(upload_id)
        stored = self._storage.get(places.upload(tenant, upload_id))
        return upload_object.decode(stored.body), stored.etag

    def _replace(self, tenant: str, document: Document, etag: str) -> bool:
        try:
            self._storage.replace(places.upload(tenant, document.upload.id), upload_object.encode(document), etag)
        except Conflict:
            return False
        return True

    def _parts(self, tenant: str, upload_id: str) -> dict[str, Part]:
        marks = map(places.of_upload_mark, self._storage.keys(places.upload_parts(tenant, upload_id)))
        return {mark[0]: Part(*mark[1:]) for mark in marks if mark is not None}

    def _drop_parts(self, tenant: str, upload_id: str) -> None:
        self._storage.delete(self._storage.keys(places.upload_parts(tenant, upload_id)))

    def _check(self, tenant: str, upload_id: str, names: Sequence[str], md5: str) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        for name in names:
            for block in self._storage.blocks(places.upload_part(tenant, upload_id, name)):
                digest.update(block)
        if digest.hexdigest() != md5.lower():
            raise Refused(f"The parts have the MD5 {digest.hexdigest()}.", "md5")


def assemble(storage: Storage, key: str, sources: Sequence[tuple[str, int]]) -> None:
    """Make the object `key` of other objects (key, bytes > 0), in order. Raises Missing, StorageError.

    The server copies them where it can: each but the last must be large enough. Else they stream through here.
    """
    large = all(size >= MIN_COPIED_BYTES for _, size in sources[:-1])
    if sources and large and len(sources) <= MAX_COPIED_PARTS:
        upload = storage.begin_upload(key)
        try:
            with ThreadPoolExecutor(COPIERS) as pool:
                numbered = enumerate(sources, start=1)
                copies = [
                    pool.submit(storage.copy_part, key, upload, number, source) for number, (source, _) in numbered
                ]
                etags = [copy.result() for copy in copies]
            storage.end_upload(key, upload, etags)
            return
        except Unsupported as error:
            log.info("the S3 server does not copy parts, so they are streamed: %s", error)
            storage.drop_upload(key, upload)
        except BaseException:
            storage.drop_upload(key, upload)
            raise
    writer = Writer(storage, key)
    try:
        for source, _ in sources:
            for block in storage.blocks(source):
                writer.write(block)
        writer.close()
    except BaseException:
        writer.abort()
        raise
