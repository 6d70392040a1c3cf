"""The output and the error file of a batch, put together from its parts: the beginning already while the batch runs.

How far they are is an object in S3, which the batch's document names. A kill before the document says so leaves an
object that counts for nothing, and parts of an upload that are sent again, the same to the byte. Blocking.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final, NamedTuple

import msgspec

from ingest import bitmap, ids, input_lines, parts, places, results
from ingest.batch_document import Document
from ingest.file_object import FileObject
from ingest.file_store import FileStore
from ingest.object_writer import Paused, Writer
from ingest.parts import Part
from ingest.results import Kind, Outcome
from ingest.storage import Storage
from schemas import uris

# What is left to do at the end of a batch is about this much, less than a second's work; each step costs a listing of
# the parts and the writing of at most two unfinished pieces of 8 MiB.
STEP_BYTES: Final = 32 * 1024 * 1024
KINDS: Final[dict[Kind, str]] = {results.OUTPUT: "output", results.ERROR: "error"}


class Files(NamedTuple):
    """Ids of the files of an ended batch; None where a file would be empty."""

    output: str | None
    error: str | None


class Assembled(NamedTuple):
    """A step was made: what the batch's document has to say from now on."""

    key: str


class Progress(msgspec.Struct, frozen=True):
    """The files hold the outcomes of lines 1 to `through`."""

    through: int = 0
    files: dict[Kind, Paused] = {}


_decoder: Final = msgspec.msgpack.Decoder(Progress)


def through(key: str) -> int:
    """The last line that is in the files when a document says `key`."""
    return int(key.rpartition("-")[2]) if key else 0


class Assembly:
    """The files of one batch, as far as its stored `document` says."""

    def __init__(self, storage: Storage, document: Document) -> None:
        private = document.private
        self._storage = storage
        self._document = document
        self._progress = _decoder.decode(storage.get(private.assembly).body) if private.assembly else Progress()
        self._names: dict[Kind, str] = {}

    def advance(self) -> Assembled:
        """Add what is contiguous by now. Raises StorageError; then nothing has changed."""
        batch_id, private = self._document.batch.id, self._document.private
        others = [k for k in self._storage.keys(folder(batch_id)) if k != private.assembly]
        self._storage.delete(others)  # of steps before the last, and of steps that nobody heard of
        writers = self._writers(private.created_ms)
        low = bitmap.Bitmap.low_of(private.done)
        self._merge(writers, low)
        progress = Progress(low, {kind: writer.pause() for kind, writer in writers.items()})
        key = f"{folder(batch_id)}{private.epoch:06d}-{low:08d}"
        self._storage.put(key, msgspec.msgpack.encode(progress))
        return Assembled(key)

    def finish(self) -> Files:
        """Add the rest, and show the files to their tenant. Repeating it gives the same. Raises StorageError."""
        private = self._document.private
        # A file that is begun early needs a name that every attempt to begin it comes to.
        writers = self._writers(private.created_ms if private.assembly else private.ended_ms)
        try:
            self._merge(writers, self._document.batch.request_counts.total)
            return Files(*(self._show(kind, writer) for kind, writer in writers.items()))
        except BaseException:
            if not private.assembly:
                for writer in writers.values():
                    writer.abort()
            raise

    def _writers(self, named_ms: int) -> dict[Kind, Writer]:
        batch_id = self._document.batch.id
        self._names = {kind: _name(batch_id, kind, named_ms) for kind in KINDS}
        begun = self._progress.files
        writers = {}
        for kind, name in self._names.items():
            storage, key = _place(self._storage, self._document, kind, name)
            writers[kind] = Writer(storage, key, begun.get(kind, Paused()))
        return writers

    def _merge(self, writers: dict[Kind, Writer], high: int) -> None:
        folder, runs = parts.folder(self._document.batch.id), self._document.private.parts
        stored = parts.counted(self._storage.keys(folder), runs)

        def read(part: Part) -> Iterator[Outcome]:
            return parts.decode(input_lines.split(self._storage.blocks(part.key), parts.LONGEST_LINE))

        for outcome in parts.between(stored, read, self._progress.through + 1, high):
            writers[outcome.kind].write(outcome.text + b"\n")

    def _show(self, kind: Kind, writer: Writer) -> str | None:
        """Finish a file and show it to its tenant; None if it is empty."""
        if not writer.size:
            return None
        size, file_id, private = writer.close(), self._names[kind], self._document.private
        if private.output_uri:
            return _uri(self._document, kind)
        filename = f"{self._document.batch.id}_{KINDS[kind]}.jsonl"
        created_s, expiry_s = private.ended_ms // 1000, private.output_expiry_s
        expires_s = created_s + expiry_s if expiry_s else None
        file = FileObject(file_id, size, created_s, filename, "batch_output", expires_s)
        FileStore(self._storage).put(private.tenant, file)
        return file_id


def _uri(document: Document, kind: Kind) -> str:
    """What a file is called that goes to a bucket of its tenant."""
    return f"{document.private.output_uri}{document.batch.id}/{KINDS[kind]}.jsonl"


def _place(storage: Storage, document: Document, kind: Kind, name: str) -> tuple[Storage, str]:
    """Bucket and key of a file's bytes."""
    if not document.private.output_uri:
        return storage, places.file_content(document.private.tenant, name)
    uri = uris.parse(_uri(document, kind))
    assert uri is not None, "it was checked when the batch was created"
    return storage.in_bucket(uri.bucket), uri.key


def _name(batch_id: str, kind: Kind, at_ms: int) -> str:
    return ids.newest_first(ids.FILE, at_ms, f"{batch_id}:{kind}".encode())


def folder(batch_id: str) -> str:
    """Where the progress of a batch's files is."""
    return f"assembly/{batch_id}/"


def clean(storage: Storage, document: Document) -> None:
    """Remove what an ended batch does not need any more, uploads that nobody heard of included. Raises StorageError."""
    batch_id, private = document.batch.id, document.private
    storage.delete(storage.keys(parts.folder(batch_id)))
    if private.assembly:
        for named_ms, kind in product((private.created_ms, private.ended_ms), KINDS):
            theirs, key = _place(storage, document, kind, _name(batch_id, kind, named_ms))
            theirs.abort_uploads(key)
    storage.delete(storage.keys(folder(batch_id)))
