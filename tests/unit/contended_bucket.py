"""The bucket in memory with conditional puts, others who write meanwhile, and answers that get lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import EndpointConnectionError

from ingest.storage import Storage
from tests.unit.bucket import Bucket, _error, _etag, _found


class ContendedBucket(Bucket):
    """`before_put(key)` may change the bucket before a put is judged; `lose(key)` after it was made tells whether its
    answer does not arrive. `storage` is the real Storage on it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before_put: Callable[[str], None] = lambda _key: None
        self.lose: Callable[[str], bool] = lambda _key: False
        self.storage = Storage(self, "b")

    def do_put_object(self, Key: str, Body: bytes, **conditions: Any) -> dict[str, Any]:
        self.before_put(Key)
        wanted = conditions.get("IfMatch")
        if wanted and _etag(_found(self.objects, Key)) != wanted:
            raise _error(412, "PreconditionFailed")
        if conditions.get("IfNoneMatch") and Key in self.objects:
            raise _error(412, "PreconditionFailed")
        self.objects[Key] = bytes(Body)
        if self.lose(Key):
            raise EndpointConnectionError(endpoint_url="memory")
        return {"ETag": _etag(Body)}
