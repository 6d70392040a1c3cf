"""A stream into one object of S3, as large as it gets, which another process can go on with. Blocking."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from ingest.storage import Missing, Storage, StorageError

log = logging.getLogger(__name__)

# S3 takes at most 10,000 parts of an upload: they grow by this much after each 2,500, so that they suffice for 200 GB.
UPLOAD_PART_BYTES: Final = 8 * 1024 * 1024
PARTS_OF_A_SIZE: Final = 2_500


class Paused(NamedTuple):
    """An object that is being written, for a later writer to go on with: its upload ("" while there is none), what S3
    answered for each part, its size so far, and the bytes at its end that are no part yet.
    """

    upload: str = ""
    etags: tuple[str, ...] = ()
    size: int = 0
    rest: bytes = b""


class Writer:
    """Collects bytes into parts of a multipart upload; a small object goes in one put.

    The object appears as a whole when it is closed; `paused` is what it begins with. Where it cuts depends on the bytes
    alone. So a part that is sent twice, after a kill, is the same both times.
    """

    def __init__(self, storage: Storage, key: str, paused: Paused = Paused()) -> None:
        self._storage = storage
        self._key = key
        self._buffer = bytearray(paused.rest)
        self._upload = paused.upload
        self._etags = list(paused.etags)
        self.size = paused.size

    def write(self, data: bytes) -> None:
        """Append. Raises StorageError."""
        self._buffer += data
        self.size += len(data)
        while len(self._buffer) >= (wanted := part_bytes(len(self._etags) + 1)):
            rest = self._buffer[wanted:]
            del self._buffer[wanted:]
            try:
                self._send(self._buffer)  # as it is: a copy would take as much memory again
            except BaseException:
                self._buffer += rest
                raise
            self._buffer = rest

    def pause(self) -> Paused:
        """What another writer needs to go on here."""
        return Paused(self._upload, tuple(self._etags), self.size, bytes(self._buffer))

    def close(self) -> int:
        """Finish the object; its size in bytes. Raises StorageError."""
        if not self._upload:
            self._storage.put(self._key, bytes(self._buffer))
            return self.size
        if self._buffer:
            self._send(self._buffer)
            self._buffer = bytearray()
        try:
            self._storage.end_upload(self._key, self._upload, self._etags)
        except Missing:
            # The answer to an earlier completion got lost: then the object is there.
            if self._storage.size(self._key) != self.size:
                raise
        return self.size

    def abort(self) -> None:
        """Give up: nothing of it stays. Does not raise, since it follows an error that is being reported."""
        if not self._upload:
            return
        try:
            self._storage.drop_upload(self._key, self._upload)
        except StorageError as error:
            log.warning("an unfinished upload of %s stays: %s", self._key, error)

    def _send(self, part: bytearray) -> None:
        if not self._upload:
            self._upload = self._storage.begin_upload(self._key)
        self._etags.append(self._storage.send_part(self._key, self._upload, len(self._etags) + 1, part))


def part_bytes(number: int) -> int:
    """Size of part `number` (from 1) of an upload, unless it is the last."""
    return UPLOAD_PART_BYTES * (1 + (number - 1) // PARTS_OF_A_SIZE)
