"""What the batches of a tenant that have not ended count against its limits on them. Pure: the clock is an argument.

An input counts one token for each BYTES_A_TOKEN of its bytes. That is known when a batch is created, of a file as of
objects in S3, and nothing later makes it more: so what a limit lets in is never thrown out by it afterwards. As lines
end, a batch counts less; ended, it counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from ingest.batch_document import Document
from schemas.limits import Limit

BYTES_A_TOKEN: Final = 4
# A creation that was let in has its mark, by which it is found, long before; one that has none then was killed.
CREATION_MS: Final = 300_000


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A batch that counts: tokens, and by whose key and for which model (as asked; empty if unknown) since when."""

    tokens: int
    key_id: str
    model: str
    at_ms: int


class Book(msgspec.Struct, frozen=True):
    """Entries by batch id."""

    entries: dict[str, Entry] = {}


class Full(NamedTuple):
    """It does not fit: the limit, what is used of it, and what the batch needs."""

    limit: Limit
    used: int
    need: int

    @property
    def ever(self) -> bool:
        """Whether it may fit later."""
        return self.need <= self.limit.max


def tokens_of(size: int) -> int:
    """What an input of `size` bytes counts."""
    return -(-size // BYTES_A_TOKEN)


def entry_of(document: Document) -> Entry:
    """What a stored batch counts now: the part of its tokens whose lines have no outcome yet."""
    batch, private = document.batch, document.private
    counts = batch.request_counts
    left, total = counts.total - counts.completed - counts.failed, counts.total
    tokens = -(-private.enqueued * left // total) if total else private.enqueued
    return Entry(0 if document.terminal else tokens, private.key_id, batch.model or "", private.created_ms)


def current(book: Book, marked: Collection[str], now_ms: int) -> Book:
    """The book without batches that have ended: those whose mark is gone, unless they are just being created."""
    entries = {
        batch_id: entry
        for batch_id, entry in book.entries.items()
        if batch_id in marked or now_ms - entry.at_ms < CREATION_MS
    }
    return Book(entries)


def looked_up(book: Book, found: Mapping[str, Document | None], now_ms: int) -> Book:
    """The book after a look at the documents of these batches; None where there is none."""
    entries = dict(book.entries)
    for batch_id, document in found.items():
        known = entries.get(batch_id)
        if document is not None and not document.terminal:
            fresh = entry_of(document)
            entries[batch_id] = replace(fresh, model=fresh.model or known.model) if known else fresh
        elif document is not None or known is None or now_ms - known.at_ms >= CREATION_MS:
            entries.pop(batch_id, None)
    return Book(entries)


def admit(book: Book, batch_id: str, entry: Entry, limits: Iterable[Limit], real: Callable[[str], str]) -> Book | Full:
    """The book with one more batch, or the limit that it does not fit. Repeating it changes nothing.

    `real` gives the model that a name means.
    """
    others = {known: e for known, e in book.entries.items() if known != batch_id}
    for limit in limits:
        if not _counts(limit, entry, real):
            continue
        used = sum(_need(limit, e) for e in others.values() if _counts(limit, e, real))
        need = _need(limit, entry)
        if used + need > limit.max:
            return Full(limit, used, need)
    return Book({**others, batch_id: entry})


def _need(limit: Limit, entry: Entry) -> int:
    return 1 if limit.on == "open_batches" else entry.tokens


def _counts(limit: Limit, entry: Entry, real: Callable[[str], str]) -> bool:
    return limit.key in ("", entry.key_id) and limit.model in ("", entry.model, real(entry.model))
