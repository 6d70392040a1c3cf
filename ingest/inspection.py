"""The validation of a batch's input as it is read, object by object. Blocking."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence

from ingest import enqueued, input_source
from ingest.batch_document import Document
from ingest.batch_jobs import Stopped
from ingest.batch_line import Fault
from ingest.batch_validation import Validation, Verdict
from ingest.input_lines import Chunker
from ingest.input_source import MAX_BYTES, Source
from ingest.storage import Denied, Missing, NoBucket, Storage
from schemas import uris


def validate(
    storage: Storage,
    document: Document,
    knows_model: Callable[[str], bool],
    stop: threading.Event,
    most: int = MAX_BYTES,
) -> Verdict:
    """Read the whole input; of a URI, write down what its objects are. Raises Stopped, StorageError.

    `most` is how many tokens it may count: objects may have grown since the batch was created.
    """
    batch, name = document.batch, document.batch.input_file_id
    validation = Validation(batch.endpoint, knows_model)
    try:
        source = input_source.find(storage, document.private.tenant, name)
        before, open_ends = _read(source, validation, stop)
    except (Missing, NoBucket, Denied) as error:
        what = f"The input cannot be read: {error}." if uris.is_uri(name) else "The input file does not exist any more."
        return Verdict(0, "", (Fault("invalid_request", what, "input_file_id"),))
    verdict = validation.finish()
    if not uris.is_uri(name):
        return verdict
    if (tokens := enqueued.tokens_of(source.size)) > most and not verdict.faults:
        what = (
            f"The input has grown since the batch was created: it counts {tokens} enqueued tokens, {most} were let in."
        )
        return verdict._replace(faults=(Fault("token_limit_exceeded", what, "input_file_id"),))
    if not verdict.faults:
        input_source.keep(storage, batch.id, source, open_ends)
    return verdict._replace(faults=tuple(_placed(fault, source, before) for fault in verdict.faults))


def _read(source: Source, validation: Validation, stop: threading.Event) -> tuple[list[int], set[str]]:
    """How many lines come before each object, and the keys of those without a newline at their end."""
    chunker = Chunker()
    before: list[int] = []
    open_ends: set[str] = set()
    for piece in source.pieces:
        before.append(validation.seen)
        last = b""
        for block in source.whole(piece):
            validation.add_lines(chunker.feed(block))
            last = block[-1:]
            if validation.over:
                return before, open_ends
            if stop.is_set():
                raise Stopped("validation")
        if last and last != input_source.NEWLINE:
            open_ends.add(piece.key)
            validation.add_lines(chunker.feed(input_source.NEWLINE))
    return before, open_ends


def _placed(fault: Fault, source: Source, before: Sequence[int]) -> Fault:
    """The fault with the object its line is in; lines are counted over all of them, as the results are."""
    if fault.line is None:
        return fault
    at = bisect_left(before, fault.line) - 1
    where = f"line {fault.line - before[at]} of {source.uri(source.pieces[at])}"
    return fault._replace(message=f"{fault.message} ({where})")
