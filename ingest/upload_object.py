"""An upload in parts as OpenAI's API shows it, and what is stored of it. Pure: times are arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from ingest.file_object import FileObject, Purpose

Status = Literal["pending", "completed", "cancelled", "expired"]

MAX_PART_BYTES: Final = 64 * 1024 * 1024
# OpenAI gives an hour; a hundred gigabytes on a slow line need more.
LIFE_S: Final = 86_400


class Upload(msgspec.Struct, frozen=True):
    """OpenAI's upload object. Times are Unix seconds."""

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: Status = "pending"
    file: FileObject | None = None
    object: Literal["upload"] = "upload"


class Document(msgspec.Struct, frozen=True):
    """What is stored: the object, how long its file shall live (0: for ever), and, once its completion was asked for,
    when that was (ms) and of which parts.
    """

    upload: Upload
    expiry_s: int = 0
    settled_ms: int = 0
    parts: tuple[str, ...] = ()


class Part(NamedTuple):
    """What is known of a part whose bytes are stored."""

    size: int
    newlines: int
    open_end: bool


class Refused(Exception):
    """It cannot be done with this upload. `param` names what is at fault."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


_decoder: Final = msgspec.json.Decoder(Document)


def encode(document: Document) -> bytes:
    """JSON of a document."""
    return msgspec.json.encode(document)


def decode(data: bytes) -> Document:
    """The document in `data`."""
    return _decoder.decode(data)


def take_parts(document: Document, now_s: int) -> None:
    """Whether parts may still come. Raises Refused."""
    if document.upload.status != "pending" or document.settled_ms:
        raise Refused(f"The upload is {document.upload.status if not document.settled_ms else 'being completed'}.")
    if now_s >= document.upload.expires_at:
        raise Refused("The upload has expired.")


def settled(document: Document, wanted: Sequence[str], known: Mapping[str, Part], now_ms: int) -> Document:
    """The upload from the moment its completion was asked for. Asking again for the same changes nothing.

    Raises Refused.
    """
    if document.settled_ms:
        if tuple(wanted) != document.parts:
            raise Refused("The upload is being completed from other parts.", "part_ids")
        return document
    take_parts(document, now_ms // 1000)
    if len(set(wanted)) != len(wanted):
        raise Refused("A part is named twice.", "part_ids")
    if missing := [name for name in wanted if name not in known]:
        raise Refused(f"There is no part {missing[0]!r}.", "part_ids")
    size = sum(known[name].size for name in wanted)
    if size != document.upload.bytes:
        raise Refused(f"The parts have {size} bytes, {document.upload.bytes} were announced.", "part_ids")
    return replace(document, settled_ms=now_ms, parts=tuple(wanted))


def completed(document: Document, file: FileObject) -> Document:
    """The upload once its file is there."""
    return replace(document, upload=replace(document.upload, status="completed", file=file))


def cancelled(document: Document, now_s: int) -> Document:
    """The upload once it was given up; again changes nothing. Raises Refused."""
    if document.upload.status == "cancelled":
        return document
    take_parts(document, now_s)
    return replace(document, upload=replace(document.upload, status="cancelled"))


def lines(parts: Sequence[Part]) -> int:
    """Lines of a file made of `parts`."""
    last = [part for part in parts if part.size][-1:]
    return sum(part.newlines for part in parts) + (last[0].open_end if last else 0)
