"""S3, as the batches and files need it: whole objects under conditions, streams both ways, listings. Blocking."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

log = logging.getLogger(__name__)

# S3 takes at most 10,000 parts of an upload, so they grow: a thousand of 8 MiB, a thousand of 16 MiB, and so on,
# 430 GiB in all. A file of 100 GiB ends with parts, and so a buffer, of 40 MiB.
UPLOAD_PART_BYTES: Final = 8 * 1024 * 1024
PARTS_ALIKE: Final = 1_000
BLOCK_BYTES: Final = 256 * 1024
DELETE_KEYS: Final = 1_000


class StorageError(Exception):
    """S3 did not do it; trying again may help."""


class Missing(StorageError):
    """There is no such object."""


class Conflict(StorageError):
    """The condition of a put did not hold: somebody else wrote first."""


class Stored(NamedTuple):
    """An object and the version it was read at."""

    body: bytes
    etag: str


class Paused(NamedTuple):
    """An object that is being written, for a later writer to go on with: its upload ("" while there is none), what S3
    answered for each part, its size so far, and the bytes at its end that are no part yet.
    """

    upload: str = ""
    etags: tuple[str, ...] = ()
    size: int = 0
    rest: bytes = b""


class Storage:
    """One bucket. `client` is a boto3 S3 client; safe for use by several threads, as that is."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def prepare(self) -> None:
        """Make the bucket if there is none. Raises StorageError."""
        try:
            _call(self._client.head_bucket, Bucket=self._bucket)
        except Missing:
            with contextlib.suppress(Conflict):  # another process made it meanwhile
                _call(self._client.create_bucket, Bucket=self._bucket)

    def get(self, key: str) -> Stored:
        """A whole object. Raises Missing, StorageError."""
        answer = _call(self._client.get_object, Bucket=self._bucket, Key=key)
        return Stored(_read(answer["Body"]), answer["ETag"])

    def size(self, key: str) -> int:
        """Bytes of an object. Raises Missing, StorageError."""
        return int(_call(self._client.head_object, Bucket=self._bucket, Key=key)["ContentLength"])

    def create(self, key: str, body: bytes) -> str:
        """Write an object that must not exist yet; its version. Raises Conflict, StorageError."""
        return str(_call(self._client.put_object, Bucket=self._bucket, Key=key, Body=body, IfNoneMatch="*")["ETag"])

    def replace(self, key: str, body: bytes, etag: str) -> str:
        """Write an object over the version `etag`; its new version. Raises Conflict, Missing, StorageError."""
        return str(_call(self._client.put_object, Bucket=self._bucket, Key=key, Body=body, IfMatch=etag)["ETag"])

    def put(self, key: str, body: bytes) -> None:
        """Write an object, whatever is there. Raises StorageError."""
        _call(self._client.put_object, Bucket=self._bucket, Key=key, Body=body)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there do not matter. Raises StorageError."""
        todo = [{"Key": key} for key in keys]
        for at in range(0, len(todo), DELETE_KEYS):
            batch = {"Objects": todo[at : at + DELETE_KEYS], "Quiet": True}
            _call(self._client.delete_objects, Bucket=self._bucket, Delete=batch)

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """Keys under `prefix` that sort after `after`, ascending. Raises StorageError."""
        more: dict[str, str] = {"StartAfter": after} if after else {}
        while True:
            answer = _call(self._client.list_objects_v2, Bucket=self._bucket, Prefix=prefix, **more)
            for entry in answer.get("Contents", ()):
                yield entry["Key"]
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def blocks(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes `start` to `end` (exclusive) of an object, in blocks. Raises Missing, StorageError."""
        span = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        body = _call(self._client.get_object, Bucket=self._bucket, Key=key, **span)["Body"]
        try:
            while block := _read(body, BLOCK_BYTES):
                yield block
        finally:
            body.close()

    def writer(self, key: str, paused: Paused = Paused()) -> Writer:
        """A stream into an object, which appears as a whole when it is closed; `paused` is what it begins with."""
        return Writer(self._client, self._bucket, key, paused)

    def abort_uploads(self, key: str) -> None:
        """Give up every upload into `key` that was begun and not closed. Raises StorageError."""
        answer = _call(self._client.list_multipart_uploads, Bucket=self._bucket, Prefix=key)
        for upload in answer.get("Uploads", ()):
            if upload["Key"] == key:
                _abort(self._client, {"Bucket": self._bucket, "Key": key}, upload["UploadId"])


class Writer:
    """Collects bytes into parts of a multipart upload; a small object goes in one put.

    Where it cuts depends on the bytes alone. So a part that is sent twice, after a kill, is the same both times.
    """

    def __init__(self, client: Any, bucket: str, key: str, paused: Paused) -> None:
        self._client = client
        self._where = {"Bucket": bucket, "Key": key}
        self._buffer = bytearray(paused.rest)
        self._upload = paused.upload
        self._etags = list(paused.etags)
        self.size = paused.size

    def write(self, data: bytes) -> None:
        """Append. Raises StorageError."""
        self._buffer += data
        self.size += len(data)
        while len(self._buffer) >= (part := self._part_bytes()):
            self._send(bytes(self._buffer[:part]))
            del self._buffer[:part]

    def pause(self) -> Paused:
        """What another writer needs to go on here."""
        return Paused(self._upload, tuple(self._etags), self.size, bytes(self._buffer))

    def close(self) -> int:
        """Finish the object; its size in bytes. Raises StorageError."""
        if not self._upload:
            _call(self._client.put_object, **self._where, Body=bytes(self._buffer))
            return self.size
        if self._buffer:
            self._send(bytes(self._buffer))
            self._buffer.clear()
        done = {"Parts": [{"ETag": e, "PartNumber": n} for n, e in enumerate(self._etags, 1)]}
        try:
            _call(self._client.complete_multipart_upload, **self._where, UploadId=self._upload, MultipartUpload=done)
        except Missing:
            # The answer to an earlier completion got lost: then the object is there.
            head = _call(self._client.head_object, **self._where)
            if int(head["ContentLength"]) != self.size:
                raise
        return self.size

    def abort(self) -> None:
        """Give up: nothing of it stays. Does not raise, since it follows an error that is being reported."""
        if not self._upload:
            return
        try:
            _abort(self._client, self._where, self._upload)
        except StorageError as error:
            log.warning("an unfinished upload of %s stays: %s", self._where["Key"], error)

    def _part_bytes(self) -> int:
        return UPLOAD_PART_BYTES * (1 + len(self._etags) // PARTS_ALIKE)

    def _send(self, part: bytes) -> None:
        if not self._upload:
            self._upload = _call(self._client.create_multipart_upload, **self._where)["UploadId"]
        number = len(self._etags) + 1
        answer = _call(self._client.upload_part, **self._where, UploadId=self._upload, PartNumber=number, Body=part)
        self._etags.append(answer["ETag"])


def _abort(client: Any, where: dict[str, str], upload: str) -> None:
    with contextlib.suppress(Missing):
        _call(client.abort_multipart_upload, **where, UploadId=upload)


def _call(method: Any, **arguments: Any) -> Any:
    try:
        return method(**arguments)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404 and error.response["Error"].get("Code") != "NoSuchBucket":
            raise Missing(str(error)) from error
        if status in (409, 412):
            raise Conflict(str(error)) from error
        raise StorageError(str(error)) from error
    except (BotoCoreError, HTTPClientError) as error:
        raise StorageError(str(error)) from error


def _read(body: Any, size: int | None = None) -> bytes:
    try:
        return bytes(body.read(size))
    except (BotoCoreError, HTTPClientError, OSError) as error:
        raise StorageError(str(error)) from error
