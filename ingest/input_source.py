"""What a batch reads: its tenant's file, or objects that an s3:// URI names, one after the other. Blocking.

The objects are written down when the batch is validated. From then on they are read only as they were: an object that
was changed since is missing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Final

import msgspec
from msgspec.structs import replace

from ingest import places
from ingest.storage import Conflict, Missing, Storage
from schemas import uris
from schemas.uris import Uri

ENDING: Final = ".jsonl"
# Bounds what a plan takes: 3 MB for keys of average length.
MAX_OBJECTS: Final = 10_000
MAX_BYTES: Final = 100 * 1024**3
NEWLINE: Final = b"\n"


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """An object as it was found; `open_end` tells that its last line has no newline, which is added then.

    An empty `etag` is of a file of ours, which never changes.
    """

    key: str
    size: int
    etag: str = ""
    open_end: bool = False

    @property
    def length(self) -> int:
        """Bytes, with the newline that is added."""
        return self.size + self.open_end


class Plan(msgspec.Struct, frozen=True):
    """What is kept of a batch that reads objects of its tenant: `bucket` is theirs."""

    bucket: str
    pieces: tuple[Piece, ...]


_plan: Final = msgspec.msgpack.Decoder(Plan)


class Source:
    """All pieces as if they were one file; `bucket` is empty where it is ours."""

    def __init__(self, storage: Storage, bucket: str, pieces: tuple[Piece, ...]) -> None:
        self._storage = storage
        self.bucket = bucket
        self.pieces = pieces
        self._ends = list(accumulate(piece.length for piece in pieces))

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return self._ends[-1] if self._ends else 0

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` to `end` (exclusive), in blocks. Raises Missing (also what was changed since), StorageError."""
        at = bisect_right(self._ends, start)
        while start < end and at < len(self.pieces):
            piece, first = self.pieces[at], self._ends[at] - self.pieces[at].length
            low, high = start - first, min(end - first, piece.size)
            if low < high:
                yield from self._read(piece, low, high)
            if piece.open_end and end - first > piece.size:
                yield NEWLINE
            start = self._ends[at]
            at += 1

    def whole(self, piece: Piece) -> Iterator[bytes]:
        """All of one piece. Raises Missing, StorageError."""
        return self._read(piece, 0, None)

    def _read(self, piece: Piece, start: int, end: int | None) -> Iterator[bytes]:
        try:
            yield from self._storage.blocks(piece.key, start, end, piece.etag)
        except Conflict as error:
            raise Missing(f"{self.uri(piece)} is not what it was when the batch was validated") from error

    def uri(self, piece: Piece) -> str:
        """How its owner calls a piece."""
        return str(Uri(self.bucket, piece.key))


def find(storage: Storage, tenant: str, name: str) -> Source:
    """What `name`, a file's id or a URI, stands for now. Raises Missing, StorageError."""
    uri = uris.parse(name)
    if uri is None:
        key = places.file_content(tenant, name)
        return Source(storage, "", (Piece(key, storage.size(key)),))
    theirs = storage.in_bucket(uri.bucket)
    return Source(theirs, uri.bucket, objects(theirs, uri))


def keep(storage: Storage, batch_id: str, source: Source, open_ends: Container[str]) -> None:
    """Write down what a batch reads; the keys in `open_ends` have no newline at their end. Raises StorageError."""
    pieces = (replace(piece, open_end=piece.key in open_ends) for piece in source.pieces)
    plan = Plan(source.bucket, tuple(pieces))
    storage.put(places.batch_plan(batch_id), msgspec.msgpack.encode(plan))


def kept(storage: Storage, batch_id: str, tenant: str, name: str) -> Source:
    """What a batch that was validated reads; `name` is what it was asked to read. Raises Missing, StorageError."""
    if not uris.is_uri(name):
        return find(storage, tenant, name)
    plan = _plan.decode(storage.get(places.batch_plan(batch_id)).body)
    return Source(storage.in_bucket(plan.bucket), plan.bucket, plan.pieces)


def objects(storage: Storage, uri: Uri) -> tuple[Piece, ...]:
    """The object that `uri` names, or those ending in .jsonl below it, in the order of their keys.

    Raises Missing if there is none, or too much; StorageError.
    """
    if uri.key and not uri.key.endswith("/"):
        with suppress(Missing):
            return (Piece(*storage.entry(uri.key)),)
    folder = uri.key if not uri.key or uri.key.endswith("/") else f"{uri.key}/"
    found: list[Piece] = []
    for entry in storage.entries(folder):
        if entry.key.endswith(ENDING):
            found.append(Piece(*entry))
            if len(found) > MAX_OBJECTS:
                raise Missing(f"{uri} has more than {MAX_OBJECTS:,} objects: name a part of them")
    if not found:
        raise Missing(f"there is no object {uri}, and none that ends in {ENDING} below it")
    if sum(piece.size for piece in found) > MAX_BYTES:
        raise Missing(f"the objects below {uri} have more than {MAX_BYTES:,} bytes together: name a part of them")
    return tuple(sorted(found, key=lambda piece: piece.key.encode()))
