"""The lake's bucket as its own jobs need it: whole objects under conditions, files both ways, listings. Blocking."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from schemas.addresses import Addresses

MISSING: Final = {"404", "NoSuchKey", "NotFound"}
CONFLICT: Final = {"409", "412", "ConditionalRequestConflict", "PreconditionFailed"}
# One call waits this long at most, and is tried again twice: whoever asked comes back later in any case.
TIMEOUT_S: Final = 30


class ObjectsError(Exception):
    """S3 did not do it; trying again may help."""


class Missing(ObjectsError):
    """There is no such object."""


class Conflict(ObjectsError):
    """The condition of a put did not hold: somebody else wrote first."""


class Stored(NamedTuple):
    """An object and the version it was read at."""

    body: bytes
    etag: str


class Objects(Protocol):
    """One bucket. Every call raises ObjectsError where S3 does not do it."""

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders right below `prefix`, which ends in a slash."""

    def names(self, prefix: str) -> dict[str, float]:
        """Names of the objects below `prefix`, without it, with when each was written (seconds UTC)."""

    def get(self, key: str) -> Stored:
        """A small object. Raises Missing."""

    def put(self, key: str, body: bytes, *, etag: str | None = None) -> None:
        """Write over the version `etag`, or where nothing is yet. Raises Conflict, Missing."""

    def mark(self, key: str) -> None:
        """Write an empty object, whatever is there."""

    def copy(self, source: str, target: str) -> None:
        """Copy within the bucket. Raises Missing."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there does not matter."""

    def upload(self, path: Path, key: str) -> None:
        """A file of this machine into an object."""

    def download(self, key: str, path: Path) -> None:
        """An object into a file of this machine. Raises Missing."""


class S3Objects:
    """Objects of an S3 bucket."""

    def __init__(self, addresses: Addresses) -> None:
        self._bucket = addresses.bucket
        config = Config(
            connect_timeout=TIMEOUT_S,
            read_timeout=TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": 3},
            s3={"addressing_style": "path"},
        )
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=addresses.s3,
            aws_access_key_id=addresses.s3_access_key,
            aws_secret_access_key=addresses.s3_secret_key,
            region_name="us-east-1",
            config=config,
        )

    def _pages(self, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        arguments: dict[str, Any] = {"Bucket": self._bucket, "Prefix": prefix, **more}
        while True:
            page = _call(self._client.list_objects_v2, **arguments)
            yield page
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def folders(self, prefix: str) -> list[str]:
        """See Objects."""
        pages = self._pages(prefix, Delimiter="/")
        found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ())]
        return [folder[len(prefix) :].rstrip("/") for folder in found]

    def names(self, prefix: str) -> dict[str, float]:
        """See Objects."""
        found = [entry for page in self._pages(prefix) for entry in page.get("Contents", ())]
        return {entry["Key"][len(prefix) :]: entry["LastModified"].timestamp() for entry in found}

    def get(self, key: str) -> Stored:
        """See Objects."""
        answer = _call(self._client.get_object, Bucket=self._bucket, Key=key)
        try:
            return Stored(answer["Body"].read(), answer["ETag"])
        except (BotoCoreError, OSError) as error:
            raise ObjectsError(f"{key}: {error}") from error

    def put(self, key: str, body: bytes, *, etag: str | None = None) -> None:
        """See Objects."""
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        _call(self._client.put_object, Bucket=self._bucket, Key=key, Body=body, **condition)

    def mark(self, key: str) -> None:
        """See Objects."""
        _call(self._client.put_object, Bucket=self._bucket, Key=key, Body=b"")

    def copy(self, source: str, target: str) -> None:
        """See Objects."""
        place = {"Bucket": self._bucket, "Key": source}
        _call(self._client.copy, CopySource=place, Bucket=self._bucket, Key=target)

    def delete(self, key: str) -> None:
        """See Objects."""
        _call(self._client.delete_object, Bucket=self._bucket, Key=key)

    def upload(self, path: Path, key: str) -> None:
        """See Objects."""
        _call(self._client.upload_file, Filename=str(path), Bucket=self._bucket, Key=key)

    def download(self, key: str, path: Path) -> None:
        """See Objects."""
        with path.open("wb") as file:
            _call(self._client.download_fileobj, Bucket=self._bucket, Key=key, Fileobj=io.BufferedWriter(file.raw))


def _call(method: Callable[..., Any], **arguments: Any) -> Any:
    try:
        return method(**arguments)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        kind = Missing if {code, status} & MISSING else Conflict if {code, status} & CONFLICT else ObjectsError
        raise kind(f"{arguments.get('Key', arguments.get('Prefix', ''))}: {error}") from error
    except (BotoCoreError, Boto3Error, OSError) as error:
        raise ObjectsError(f"{arguments.get('Key', arguments.get('Prefix', ''))}: {error}") from error
