"""What is stored of a batch: the API's object and, beside it, what the batcher needs to go on after a kill. Pure.

One object in S3, changed only by conditional puts. `epoch` counts the batchers that took the batch over: who finds a
higher one has lost it. `revision` counts the batcher's writes (not the gateway's orders), so that a batcher
whose answer from S3 got lost recognises its own write.

The gateway writes a tenant's orders (batch_orders.py) into it: `cancelling`, `paused_ms`, and into one that has ended
`retries`. Everything else is the batcher's.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from ingest import batch_object
from ingest.batch_object import Batch, Ending

Kind = Literal["failed", "expired", "cancelled"]
KINDS: Final[tuple[Kind, ...]] = ("failed", "expired", "cancelled")


class Run(msgspec.Struct, frozen=True, array_like=True):
    """Parts `first` to `last` that the batcher of `epoch` wrote and that count."""

    epoch: int
    first: int
    last: int


class Kinds(msgspec.Struct, frozen=True):
    """Of the lines without an answer: how many expired, how many were cancelled. The others failed."""

    expired: int = 0
    cancelled: int = 0


class Retry(msgspec.Struct, frozen=True):
    """Where the lines of a batch come from that runs again what has no answer in another one."""

    batch_id: str
    input_file_id: str
    error_file_id: str
    only: tuple[Kind, ...]


class Retried(msgspec.Struct, frozen=True):
    """Which lines of an ended batch another one runs again."""

    batch_id: str
    only: tuple[Kind, ...]


class Private(msgspec.Struct, frozen=True):
    """The batcher's part. Times in ms.

    `done` is the bitmap of lines; `line` and `offset` are where to read on in the input file: no line before has
    to be sent again. `ending` is how the batch will end, once that is settled. `ended_ms` dates the output files, which
    their owner wants gone `output_expiry_s` seconds later (0: never). `assembly` is how far these files are written.
    `paused_ms` is when its owner held it back; 0: it goes on. `kinds` is None where nobody counted them. `retry` and
    `retries` link batches that run the same lines. `output_uri` is the folder of its tenant that the output files go
    to, if they do not become files of ours. `enqueued` is how many tokens the whole input counts against a limit on
    what is enqueued (enqueued.py).
    """

    tenant: str
    key_id: str
    created_ms: int
    deadline_ms: int
    output_expiry_s: int = 0
    epoch: int = 0
    revision: int = 0
    validated: bool = False
    ending: Ending = "completed"
    done: str = ""
    line: int = 1
    offset: int = 0
    parts: tuple[Run, ...] = ()
    ended_ms: int = 0
    assembly: str = ""
    paused_ms: int = 0
    kinds: Kinds | None = None
    retry: Retry | None = None
    retries: tuple[Retried, ...] = ()
    output_uri: str = ""
    enqueued: int = 0


class Document(msgspec.Struct, frozen=True):
    """The stored object."""

    batch: Batch
    private: Private

    @property
    def terminal(self) -> bool:
        """Whether nothing will change any more."""
        return self.batch.status in batch_object.TERMINAL

    def reads(self, file_id: str) -> bool:
        """Whether the batch still needs a file."""
        if self.terminal:
            return False
        retry = None if self.private.validated else self.private.retry
        others = (retry.input_file_id, retry.error_file_id) if retry else ()
        return file_id in (self.batch.input_file_id, *others)


_decoder: Final = msgspec.json.Decoder(Document)

Meeting = Literal["mine", "lost", "retry"]


def encode(document: Document) -> bytes:
    """JSON of a document."""
    return msgspec.json.encode(document)


def decode(data: bytes) -> Document:
    """The document in `data`; msgspec.DecodeError if it is none."""
    return _decoder.decode(data)


def claimed(document: Document) -> Document:
    """The document as its next batcher takes it over."""
    private = document.private
    return replace(document, private=replace(private, epoch=private.epoch + 1, revision=private.revision + 1))


def meet(mine: Document, stored: Document) -> Meeting:
    """What a refused conditional put of `mine` means, given what is stored.

    "mine": it is our own write whose answer got lost; "lost": another batcher has the batch; "retry": the gateway
    wrote an order into it: put `adopt(mine, stored)`.
    """
    if stored.private.epoch != mine.private.epoch:
        return "lost"
    return "mine" if stored.private.revision == mine.private.revision else "retry"


def adopt(mine: Document, stored: Document) -> Document:
    """Our document with the orders that were stored meanwhile, unless they come too late."""
    if mine.terminal:
        return mine
    if mine.private.paused_ms != stored.private.paused_ms:
        private = replace(mine.private, paused_ms=stored.private.paused_ms)
        show = batch_object.paused if private.paused_ms and batch_object.can_pause(mine.batch) else batch_object.resumed
        mine = Document(show(mine.batch), private)
    if stored.batch.status != "cancelling" or mine.batch.status == "cancelling":
        return mine
    at = stored.batch.cancelling_at
    batch = replace(mine.batch, status="cancelling", cancelling_at=at, finalizing_at=None)
    return Document(batch, replace(mine.private, ending="cancelled"))


def with_part(runs: tuple[Run, ...], epoch: int, sequence: int) -> tuple[Run, ...]:
    """The runs with one more part, the next of its epoch."""
    if runs and runs[-1].epoch == epoch:
        assert runs[-1].last + 1 == sequence, "parts are written in order"
        return (*runs[:-1], Run(epoch, runs[-1].first, sequence))
    return (*runs, Run(epoch, sequence, sequence))
