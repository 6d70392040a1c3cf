"""The file as OpenAI's API shows it. Pure."""

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


_decoder: Final = msgspec.json.Decoder(FileObject)


def encode(file: FileObject) -> bytes:
    """JSON of the object."""
    return msgspec.json.encode(file)


def decode(data: bytes) -> FileObject:
    """The object in `data`."""
    return _decoder.decode(data)


def is_expiry(seconds: object) -> bool:
    """Whether a file may live for `seconds`."""
    return type(seconds) is int and MIN_EXPIRY_S <= seconds <= MAX_EXPIRY_S
