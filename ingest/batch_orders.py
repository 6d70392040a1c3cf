"""What a tenant may order about a batch: cancel it, pause it, resume it. Pure.

Each gives the document as it is from then on, the same one where the order changes nothing, or raises TooLate. The
gateway stores it under a condition; batch_document.adopt tells how the batcher comes to know of it.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from ingest import batch_object
from ingest.batch_document import Document
from ingest.batch_object import Batch

Order = Callable[[Document, int], Document]


class TooLate(Exception):
    """The batch has ended, or is about to."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch.status)
        self.batch = batch


def cancel(document: Document, now_ms: int) -> Document:
    """No line that has no outcome runs any more; what is finished is kept."""
    if not batch_object.can_cancel(document.batch):
        raise TooLate(document.batch)
    return replace(document, batch=batch_object.cancelling(batch_object.resumed(document.batch), now_ms // 1000))


def pause(document: Document, now_ms: int) -> Document:
    """No line is sent any more until it is resumed. The window goes on counting."""
    if not batch_object.can_pause(document.batch):
        raise TooLate(document.batch)
    if document.private.paused_ms:
        return document
    return Document(batch_object.paused(document.batch), replace(document.private, paused_ms=now_ms))


def resume(document: Document, _now_ms: int) -> Document:
    """Lines are sent again."""
    if not batch_object.can_pause(document.batch):
        raise TooLate(document.batch)
    return Document(batch_object.resumed(document.batch), replace(document.private, paused_ms=0))
