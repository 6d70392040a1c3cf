"""A bucket in memory, behind the calls of a boto3 client that ingest.storage makes; it can fail at any of them."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from botocore.exceptions import ClientError


class Killed(BaseException):
    """The process that made the call is gone."""


class Bucket:
    """Objects by key. `kill_at` counts down the calls until one does not return; it may have been carried out."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        # Listed without a version, as S3Proxy does.
        self.being_written: set[str] = set()
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self.calls: list[str] = []
        self.kill_at = -1
        self.carry_out = True
        self._number = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(type(self), f"do_{name}")

        def call(**arguments: Any) -> Any:
            self.calls.append(name)
            self.kill_at -= 1
            if self.kill_at == 0 and not self.carry_out:
                raise Killed
            answer = method(self, **arguments)
            if self.kill_at == 0:
                raise Killed
            return answer

        return call

    def do_get_object(self, Key: str, Range: str = "", **_: Any) -> dict[str, Any]:
        body = _found(self.objects, Key)
        if Range:
            start, end = Range.removeprefix("bytes=").split("-")
            body = body[int(start) : int(end) + 1 if end else None]
        return {"Body": io.BytesIO(body), "ETag": _etag(body)}

    def do_head_object(self, Key: str, **_: Any) -> dict[str, Any]:
        return {"ContentLength": len(_found(self.objects, Key)), "ETag": _etag(self.objects[Key])}

    def do_put_object(self, Key: str, Body: bytes, IfMatch: str = "", **_: Any) -> dict[str, Any]:
        if IfMatch and IfMatch != _etag(_found(self.objects, Key)):
            raise _error(412, "PreconditionFailed")
        self.objects[Key] = Body
        return {"ETag": _etag(Body)}

    def do_delete_objects(self, Delete: dict[str, Any], **_: Any) -> None:
        for entry in Delete["Objects"]:
            self.objects.pop(entry["Key"], None)

    def do_list_objects_v2(self, Prefix: str, **_: Any) -> dict[str, Any]:
        found = sorted(k for k in self.objects if k.startswith(Prefix))
        versions = {k: {"ETag": _etag(self.objects[k])} for k in found if k not in self.being_written}
        return {"Contents": [{"Key": k, "Size": len(self.objects[k]), **versions.get(k, {})} for k in found]}

    def do_create_multipart_upload(self, Key: str, **_: Any) -> dict[str, str]:
        self._number += 1
        self.uploads[str(self._number)] = (Key, {})
        return {"UploadId": str(self._number)}

    def do_upload_part(self, UploadId: str, PartNumber: int, Body: bytes, **_: Any) -> dict[str, str]:
        _found(self.uploads, UploadId)[1][PartNumber] = Body
        return {"ETag": _etag(Body)}

    def do_complete_multipart_upload(self, UploadId: str, MultipartUpload: dict[str, Any], **_: Any) -> None:
        key, stored = _found(self.uploads, UploadId)
        wanted = [(p["PartNumber"], p["ETag"]) for p in MultipartUpload["Parts"]]
        if [n for n, _ in wanted] != sorted(stored) or any(_etag(stored[n]) != etag for n, etag in wanted):
            raise _error(400, "InvalidPart")
        self.objects[key] = b"".join(stored[n] for n, _ in wanted)
        del self.uploads[UploadId]

    def do_abort_multipart_upload(self, UploadId: str, **_: Any) -> None:
        _found(self.uploads, UploadId)
        del self.uploads[UploadId]

    def do_list_multipart_uploads(self, Prefix: str, **_: Any) -> dict[str, Any]:
        return {"Uploads": [{"Key": k, "UploadId": u} for u, (k, _) in self.uploads.items() if k.startswith(Prefix)]}


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _found(where: dict[str, Any], name: str) -> Any:
    if name not in where:
        raise _error(404, "NoSuchKey")
    return where[name]


def _error(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "call")  # type: ignore[typeddict-item]
