"""The file as OpenAI's API shows it, and what is stored of it. Pure."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Purpose = Literal["batch", "batch_output"]
MIN_EXPIRY_S: Final = 3_600
MAX_EXPIRY_S: Final = 2_592_000
EXPIRY_BOUNDS: Final = f"{MIN_EXPIRY_S} to {MAX_EXPIRY_S}"


class FileObject(msgspec.Struct, frozen=True):
    """OpenAI's file object. Times are Unix seconds."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: Purpose
    expires_at: int | None = None
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"
    status_details: None = None

    def expired(self, now_s: int) -> bool:
        """Whether its owner wanted it gone by now."""
        return self.expires_at is not None and now_s >= self.expires_at


class StoredFile(FileObject, frozen=True):
    """The object with what only we need: `lines`, counted while it was uploaded; None where nobody counted."""

    lines: int | None = None

    def shown(self) -> FileObject:
        """What the API shows of it."""
        return FileObject(*(getattr(self, name) for name in FileObject.__struct_fields__))


_decoder: Final = msgspec.json.Decoder(StoredFile)


def encode(file: FileObject) -> bytes:
    """JSON of the object, with what is stored beside it."""
    return msgspec.json.encode(file)


def decode(data: bytes) -> StoredFile:
    """The object in `data`."""
    return _decoder.decode(data)


def is_expiry(seconds: object) -> bool:
    """Whether a file may live for `seconds`."""
    return type(seconds) is int and MIN_EXPIRY_S <= seconds <= MAX_EXPIRY_S


class Lines:
    """Counts lines in the pieces of a file; what follows the last newline is one too."""

    def __init__(self) -> None:
        self.newlines = 0
        self.open_end = False

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        if data:
            self.newlines += data.count(b"\n")
            self.open_end = not data.endswith(b"\n")

    @property
    def count(self) -> int:
        """Lines so far."""
        return self.newlines + self.open_end
