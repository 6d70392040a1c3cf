"""The slow work on a batch: taking it over, validating its file, storing progress, merging its results.

Each is a blocking function for a thread. They change nothing in memory; whoever asked applies what they return.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeVar

from ingest import batch_document, ids, input_lines, parts, places, results
from ingest.batch_document import Document
from ingest.batch_line import Fault
from ingest.batch_run import Checkpoint
from ingest.batch_validation import Validation, Verdict
from ingest.file_object import FileObject
from ingest.file_store import FileStore
from ingest.parts import Part
from ingest.results import Kind, Outcome
from ingest.storage import Conflict, Missing, Storage, StorageError, Writer

log = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 5.0
# A conflict is lost only to the gateway's cancellation or to another batcher, each of which happens once.
ATTEMPTS: Final = 5

T = TypeVar("T")


class Stopped(Exception):
    """The process ends before the work was done; the next one does it again."""


class Saved(NamedTuple):
    """A document as it is stored now."""

    document: Document
    etag: str


class Files(NamedTuple):
    """Ids of the files of an ended batch; None where a file would be empty."""

    output: str | None
    error: str | None


def persist(what: str, call: Callable[[], T], stop: threading.Event) -> T:
    """Call until S3 does it, with growing waits. Raises Stopped, Missing."""
    wait_s = FIRST_WAIT_S
    while not stop.is_set():
        try:
            return call()
        except Missing:
            raise
        except StorageError as error:
            log.warning("%s: %s; again in %.1f s", what, error, wait_s)
        stop.wait(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    raise Stopped(what)


def claim(storage: Storage, tenant: str, batch_id: str) -> Saved | None:
    """Take a batch over; None if it has ended (then its mark is removed). Raises Missing, StorageError."""
    place = places.batch(tenant, batch_id)
    for _ in range(ATTEMPTS):
        stored = storage.get(place)
        document = batch_document.decode(stored.body)
        if document.terminal:
            clean(storage, document)
            return None
        mine = batch_document.claimed(document)
        try:
            return Saved(mine, storage.replace(place, batch_document.encode(mine), stored.etag))
        except Conflict:
            continue
    raise StorageError(f"{batch_id} kept changing while it was taken over")


def validate(
    storage: Storage, document: Document, knows_model: Callable[[str], bool], stop: threading.Event
) -> Verdict:
    """Read the whole input file. Raises Stopped, StorageError."""
    validation, chunker = Validation(document.batch.endpoint, knows_model), input_lines.Chunker()
    content = places.file_content(document.private.tenant, document.batch.input_file_id)
    try:
        for block in storage.blocks(content):
            validation.add_lines(chunker.feed(block))
            if validation.over:
                break
            if stop.is_set():
                raise Stopped("validation")
        validation.add(chunker.finish())
    except Missing:
        return Verdict(0, "", (Fault("invalid_request", "The input file does not exist any more.", "input_file_id"),))
    return validation.finish()


def save(storage: Storage, checkpoint: Checkpoint, etag: str) -> Saved | None:
    """Store progress; None if another batcher has taken the batch over. May be called again after a failure.

    1. The part, under a name that is only ever written with these bytes. 2. The document that counts it in, under
    the condition that nobody else wrote it. (3. is the caller's: commit the offsets of the results in the part.)
    A kill after 1 leaves a part that counts for nothing; after 2 the results come again and the bitmap knows them.
    Raises Missing, StorageError.
    """
    mine = checkpoint.document
    place = places.batch(mine.private.tenant, mine.batch.id)
    if checkpoint.part:
        storage.put(checkpoint.part_key, checkpoint.part)  # 1
    for _ in range(ATTEMPTS):
        try:
            return Saved(mine, storage.replace(place, batch_document.encode(mine), etag))  # 2
        except Conflict:
            stored = storage.get(place)
        found = batch_document.decode(stored.body)
        etag = stored.etag
        meeting = batch_document.meet(mine, found)
        if meeting == "lost":
            return None
        mine = batch_document.adopt(mine, found)
        if meeting == "mine":
            return Saved(mine, etag)
    raise StorageError(f"{mine.batch.id} kept changing while its progress was stored")


def finalise(storage: Storage, document: Document) -> Files:
    """Merge the parts, in the order of lines, into the output and the error file. Repeating it gives the same files.

    Raises StorageError.
    """
    batch_id, private = document.batch.id, document.private
    stored = parts.counted(storage.keys(parts.folder(batch_id)), private.parts)
    names: dict[Kind, str] = {
        kind: ids.newest_first(ids.FILE, private.ended_ms, f"{batch_id}:{kind}".encode())
        for kind in (results.OUTPUT, results.ERROR)
    }
    writers = {k: storage.writer(places.file_content(private.tenant, name)) for k, name in names.items()}

    def read(part: Part) -> Iterator[Outcome]:
        return parts.decode(input_lines.split(storage.blocks(part.key), parts.LONGEST_LINE))

    try:
        count = 0
        for outcome in parts.merge(stored, read):
            count += 1
            writers[outcome.kind].write(outcome.text + b"\n")
        total = document.batch.request_counts.total
        assert count == total, f"{batch_id}: the parts have {count} outcomes of {total} lines"
        output = _show(storage, document, names[results.OUTPUT], writers[results.OUTPUT], "output")
        error = _show(storage, document, names[results.ERROR], writers[results.ERROR], "error")
    except BaseException:
        for writer in writers.values():
            writer.abort()
        raise
    return Files(output, error)


def _show(storage: Storage, document: Document, file_id: str, writer: Writer, what: str) -> str | None:
    """Finish a file and show it to its tenant; None if it is empty."""
    if not writer.size:
        return None
    size = writer.close()
    filename = f"{document.batch.id}_{what}.jsonl"
    created_s, expiry_s = document.private.ended_ms // 1000, document.private.output_expiry_s
    expires_s = created_s + expiry_s if expiry_s else None
    file = FileObject(file_id, size, created_s, filename, "batch_output", expires_s)
    FileStore(storage).put(document.private.tenant, file)
    return file_id


def clean(storage: Storage, document: Document) -> None:
    """Remove what an ended batch does not need any more: its parts, then the mark. Raises StorageError."""
    batch_id = document.batch.id
    storage.delete(storage.keys(parts.folder(batch_id)))
    storage.delete([places.open_batch(document.private.tenant, batch_id)])
