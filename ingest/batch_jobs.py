"""The slow work on a batch: taking it over, storing progress, merging its results.

Each is a blocking function for a thread. They change nothing in memory; whoever asked applies what they return.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from msgspec.structs import replace

from ingest import assembly, batch_document, places
from ingest.assembly import Assembled, Assembly, Files
from ingest.batch_document import Document
from ingest.batch_run import Checkpoint
from ingest.storage import Conflict, Missing, Storage, StorageError

log = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 5.0
# A conflict is lost only to the gateway's cancellation or to another batcher, each of which happens once.
ATTEMPTS: Final = 5

T = TypeVar("T")
Announce = Callable[[Document], None]


class Stopped(Exception):
    """The process ends before the work was done; the next one does it again."""


class Unannounced(Exception):
    """The end of a batch could not be written to the log; trying again may help."""


class Saved(NamedTuple):
    """A document as it is stored now."""

    document: Document
    etag: str


def persist(what: str, call: Callable[[], T], stop: threading.Event) -> T:
    """Call until S3 (and Kafka) does it, with growing waits. Raises Stopped, Missing."""
    wait_s = FIRST_WAIT_S
    while not stop.is_set():
        try:
            return call()
        except Missing:
            raise
        except (StorageError, Unannounced) as error:
            log.warning("%s: %s; again in %.1f s", what, error, wait_s)
        stop.wait(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    raise Stopped(what)


def claim(storage: Storage, tenant: str, batch_id: str, announce: Announce) -> Saved | None:
    """Take a batch over; None if it has ended (then it is left, as `clean` says).

    Raises Missing, StorageError, Unannounced.
    """
    place = places.batch(tenant, batch_id)
    for _ in range(ATTEMPTS):
        stored = storage.get(place)
        document = batch_document.decode(stored.body)
        if document.terminal:
            clean(storage, document, announce)
            return None
        mine = batch_document.claimed(document)
        try:
            return Saved(mine, storage.replace(place, batch_document.encode(mine), stored.etag))
        except Conflict:
            continue
    raise StorageError(f"{batch_id} kept changing while it was taken over")


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


def assemble(storage: Storage, document: Document) -> Assembled:
    """Add to the files of a batch that runs what is contiguous by now. `document` is as stored. Raises StorageError."""
    return _resumed(storage, document, Assembly.advance)


def finalise(storage: Storage, document: Document) -> Files:
    """Merge the parts, in the order of lines, into the output and the error file. Repeating it gives the same files.

    Raises StorageError.
    """
    return _resumed(storage, document, Assembly.finish)


def _resumed(storage: Storage, document: Document, call: Callable[[Assembly], T]) -> T:
    """Go on with a batch's files, or begin them anew if their beginning is gone: a bucket may have a rule that removes
    uploads that take days.
    """
    try:
        return call(Assembly(storage, document))
    except Missing as error:
        if not document.private.assembly:
            raise
        log.warning("%s: its files are begun anew: %s", document.batch.id, error)
    return call(Assembly(storage, replace(document, private=replace(document.private, assembly=""))))


def clean(storage: Storage, document: Document, announce: Announce) -> None:
    """Leave a batch whose end is stored. 1. The log is told of its end. 2. Its parts go. 3. Its mark goes.

    As long as the mark is there, some batcher finds it and begins here anew: so no end stays untold, whatever is
    killed, and one may be told twice, as the same event. Raises StorageError, Unannounced.
    """
    batch_id = document.batch.id
    announce(document)
    assembly.clean(storage, document)
    storage.delete([places.open_batch(document.private.tenant, batch_id)])
