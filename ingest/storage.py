"""S3, as the batches and files need it: whole objects under conditions, streams both ways, listings. Blocking."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

log = logging.getLogger(__name__)

BLOCK_BYTES: Final = 256 * 1024
DELETE_KEYS: Final = 1_000


class StorageError(Exception):
    """S3 did not do it; trying again may help."""


class Missing(StorageError):
    """There is no such object."""


class NoBucket(StorageError):
    """There is no such bucket."""


class Denied(StorageError):
    """The server does not let us; trying again will not help."""


class Unsupported(StorageError):
    """This server does not do such things; trying again will not help."""


class Conflict(StorageError):
    """The condition of a put did not hold: somebody else wrote first."""


class Stored(NamedTuple):
    """An object and the version it was read at."""

    body: bytes
    etag: str


class Entry(NamedTuple):
    """An object as it is listed; `etag` is its version."""

    key: str
    size: int
    etag: str


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

    def in_bucket(self, bucket: str) -> Storage:
        """Another bucket of the same server."""
        return Storage(self._client, bucket)

    def look(self) -> None:
        """Raises NoBucket, Denied, StorageError if the bucket is not there for us."""
        try:
            _call(self._client.head_bucket, Bucket=self._bucket)
        except Missing as error:  # the answer has no body that could say more
            raise NoBucket(self._bucket) from error

    def get(self, key: str) -> Stored:
        """A whole object. Raises Missing, StorageError."""
        answer = _call(self._client.get_object, Bucket=self._bucket, Key=key)
        return Stored(_read(answer["Body"]), answer["ETag"])

    def size(self, key: str) -> int:
        """Bytes of an object. Raises Missing, StorageError."""
        return int(_call(self._client.head_object, Bucket=self._bucket, Key=key)["ContentLength"])

    def entry(self, key: str) -> Entry:
        """What a listing tells of an object. Raises Missing, StorageError."""
        found = _call(self._client.head_object, Bucket=self._bucket, Key=key)
        return Entry(key, int(found["ContentLength"]), str(found["ETag"]))

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
        return (str(listed["Key"]) for listed in self._listed(prefix, after))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Objects under `prefix`, by key. Raises StorageError, also while one is being written: S3Proxy lists it then,
        and cannot tell its version yet.
        """
        for listed in self._listed(prefix):
            if "ETag" not in listed:
                raise StorageError(f"{listed['Key']} is being written")
            yield Entry(listed["Key"], int(listed["Size"]), str(listed["ETag"]))

    def _listed(self, prefix: str, after: str = "") -> Iterator[Any]:
        more: dict[str, str] = {"StartAfter": after} if after else {}
        while True:
            answer = _call(self._client.list_objects_v2, Bucket=self._bucket, Prefix=prefix, **more)
            yield from answer.get("Contents", ())
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def blocks(self, key: str, start: int = 0, end: int | None = None, etag: str = "") -> Iterator[bytes]:
        """Bytes `start` to `end` (exclusive) of an object, in blocks; of its version `etag` if one is given.

        Raises Missing, Conflict (there is another version), StorageError.
        """
        span = {"IfMatch": etag} if etag else {}
        span |= {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        body = _call(self._client.get_object, Bucket=self._bucket, Key=key, **span)["Body"]
        try:
            while block := _read(body, BLOCK_BYTES):
                yield block
        finally:
            body.close()

    def modified_s(self, key: str) -> int:
        """When an object was written, Unix seconds by the server's clock. Raises Missing, StorageError."""
        return int(_call(self._client.head_object, Bucket=self._bucket, Key=key)["LastModified"].timestamp())

    # Uploads in parts

    def begin_upload(self, key: str) -> str:
        """Begin an object in parts; the upload's id. Raises StorageError."""
        return str(_call(self._client.create_multipart_upload, Bucket=self._bucket, Key=key)["UploadId"])

    def send_part(self, key: str, upload: str, number: int, body: bytes | bytearray) -> str:
        """Send part `number` (from 1) of an upload; its etag. Raises StorageError."""
        where = {"Bucket": self._bucket, "Key": key, "UploadId": upload, "PartNumber": number}
        return str(_call(self._client.upload_part, **where, Body=body)["ETag"])

    def copy_part(self, key: str, upload: str, number: int, source: str) -> str:
        """Let the server copy a whole object into a part; its etag. Raises Missing, Unsupported, StorageError."""
        where = {"Bucket": self._bucket, "Key": key, "UploadId": upload, "PartNumber": number}
        copied = _call(self._client.upload_part_copy, **where, CopySource={"Bucket": self._bucket, "Key": source})
        return str(copied["CopyPartResult"]["ETag"])

    def end_upload(self, key: str, upload: str, etags: Sequence[str]) -> None:
        """Make the object of its parts, whose etags are given in order. Raises StorageError."""
        parts = [{"ETag": etag, "PartNumber": i} for i, etag in enumerate(etags, start=1)]
        where = {"Bucket": self._bucket, "Key": key, "UploadId": upload}
        _call(self._client.complete_multipart_upload, **where, MultipartUpload={"Parts": parts})

    def drop_upload(self, key: str, upload: str) -> None:
        """Give an unfinished upload up, with its parts. Raises Missing, StorageError."""
        _call(self._client.abort_multipart_upload, Bucket=self._bucket, Key=key, UploadId=upload)

    def unfinished(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """(key, upload id) of uploads under `prefix` that were begun and not ended. Raises StorageError."""
        more: dict[str, str] = {}
        while True:
            answer = _call(self._client.list_multipart_uploads, Bucket=self._bucket, Prefix=prefix, **more)
            for entry in answer.get("Uploads", ()):
                yield entry["Key"], entry["UploadId"]
            if not answer.get("IsTruncated"):
                return
            more = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    def abort_uploads(self, key: str) -> None:
        """Give up every upload into `key` that was begun and not closed. Raises StorageError."""
        for found, upload in list(self.unfinished(key)):
            if found == key:
                with contextlib.suppress(Missing):
                    self.drop_upload(key, upload)


def _call(method: Any, **arguments: Any) -> Any:
    try:
        return method(**arguments)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            gone = NoBucket if error.response["Error"].get("Code") == "NoSuchBucket" else Missing
            raise gone(str(error)) from error
        if status == 403:
            raise Denied(str(error)) from error
        if status in (409, 412):
            raise Conflict(str(error)) from error
        if status == 501:
            raise Unsupported(str(error)) from error
        raise StorageError(str(error)) from error
    except (BotoCoreError, HTTPClientError) as error:
        raise StorageError(str(error)) from error


def _read(body: Any, size: int | None = None) -> bytes:
    try:
        return bytes(body.read(size))
    except (BotoCoreError, HTTPClientError, OSError) as error:
        raise StorageError(str(error)) from error
