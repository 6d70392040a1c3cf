"""The input file of a retry: lines of another batch's input, by its error file, in one pass of both. Blocking."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Final

from ingest import batch_retry, file_object, ids, input_lines, input_source, parts, places
from ingest.batch_document import Document
from ingest.batch_jobs import Stopped
from ingest.batch_line import MAX_LINE_BYTES
from ingest.file_object import StoredFile
from ingest.object_writer import Writer
from ingest.storage import Missing, Storage

# Between two looks at whether the process stops.
LINES_A_LOOK: Final = 10_000


def file_id(batch_id: str, created_ms: int) -> str:
    """The id of the input file that is gathered for a batch."""
    return ids.newest_first(ids.FILE, created_ms, f"{batch_id}:input".encode())


def gather(storage: Storage, document: Document, stop: threading.Event) -> None:
    """Write the input file of a batch that is a retry, unless it is there. Repeating it gives the same file.

    Raises Missing where the input or the error file is gone, NotInInput, Stopped, StorageError.
    """
    retry, private = document.private.retry, document.private
    assert retry is not None, "only a retry's lines are gathered"
    name = document.batch.input_file_id
    with suppress(Missing):
        storage.get(places.file_object(private.tenant, name))
        return
    writer = Writer(storage, places.file_content(private.tenant, name))
    count = 0
    try:
        found = input_source.find(storage, private.tenant, retry.error_file_id)
        errors = input_lines.split(found.blocks(0, found.size), parts.LONGEST_LINE)
        read = input_source.kept(storage, retry.batch_id, private.tenant, retry.input_file_id)
        inputs = input_lines.split(read.blocks(0, read.size), MAX_LINE_BYTES)
        for raw in batch_retry.pick(inputs, batch_retry.wanted(errors, retry.only)):
            writer.write(raw + b"\n")
            count += 1
            if count % LINES_A_LOOK == 0 and stop.is_set():
                raise Stopped("gathering lines")
        size = writer.close()
    except BaseException:
        writer.abort()
        raise
    created_s = private.created_ms // 1000
    file = StoredFile(name, size, created_s, f"{document.batch.id}_input.jsonl", "batch", lines=count)
    storage.put(places.file_object(private.tenant, name), file_object.encode(file))
