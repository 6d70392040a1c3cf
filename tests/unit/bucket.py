"""A bucket in memory, for the real Storage: what of boto3's S3 client it calls."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError

from ingest.storage import Storage


class Bucket:
    """The client. `before_put(key)` may change the bucket before a put is judged; `lose` makes puts happen whose answer
    does not arrive.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.before_put: Callable[[str], None] = lambda _key: None
        self.lose: Callable[[str], bool] = lambda _key: False
        self.storage = Storage(self, "b")
        self._version = 0
        self._uploads: dict[str, dict[int, bytes]] = {}

    def _found(self, key: str) -> tuple[bytes, str]:
        if key not in self.objects:
            raise _error(404, "NoSuchKey")
        return self.objects[key]

    def get_object(self, Bucket: str, Key: str, Range: str = "", **_: Any) -> dict[str, Any]:
        body, etag = self._found(Key)
        if Range:
            start, _, end = Range.removeprefix("bytes=").partition("-")
            body = body[int(start) : int(end) + 1 if end else None]
        return {"Body": io.BytesIO(body), "ETag": etag}

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        return {"ContentLength": len(self._found(Key)[0])}

    def put_object(
        self, Bucket: str, Key: str, Body: bytes, IfNoneMatch: str = "", IfMatch: str = ""
    ) -> dict[str, Any]:
        self.before_put(Key)
        if IfMatch and self._found(Key)[1] != IfMatch:
            raise _error(412, "PreconditionFailed")
        if IfNoneMatch and Key in self.objects:
            raise _error(412, "PreconditionFailed")
        self._version += 1
        self.objects[Key] = (bytes(Body), str(self._version))
        if self.lose(Key):
            raise EndpointConnectionError(endpoint_url="memory")
        return {"ETag": str(self._version)}

    def delete_objects(self, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        for entry in Delete["Objects"]:
            self.objects.pop(entry["Key"], None)
        return {}

    def list_objects_v2(self, Bucket: str, Prefix: str, StartAfter: str = "", **_: Any) -> dict[str, Any]:
        return {"Contents": [{"Key": k} for k in sorted(self.objects) if k.startswith(Prefix) and k > StartAfter]}

    def create_multipart_upload(self, Bucket: str, Key: str) -> dict[str, Any]:
        self._version += 1
        self._uploads[str(self._version)] = {}
        return {"UploadId": str(self._version)}

    def upload_part(self, Bucket: str, Key: str, UploadId: str, PartNumber: int, Body: bytes) -> dict[str, Any]:
        self._uploads[UploadId][PartNumber] = bytes(Body)
        return {"ETag": str(PartNumber)}

    def complete_multipart_upload(self, Bucket: str, Key: str, UploadId: str, MultipartUpload: Any) -> dict[str, Any]:
        parts = self._uploads.pop(UploadId)
        return self.put_object(Bucket, Key, b"".join(parts[n] for n in sorted(parts)))

    def abort_multipart_upload(self, Bucket: str, Key: str, UploadId: str) -> dict[str, Any]:
        self._uploads.pop(UploadId, None)
        return {}


def _error(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "memory")
