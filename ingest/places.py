"""Where things are in the bucket. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

OPEN: Final = "open/"
FILES: Final = "files/"
EXPIRING: Final = "expiring/"
UPLOADS: Final = "uploads/"
CAPACITY: Final = "capacity/"
ENQUEUED: Final = "enqueued/"
# What the sweeper saw at its last rounds.
SWEEPER: Final = "sweeper.json"


def files(tenant: str) -> str:
    """Folder of a tenant's files."""
    return f"{FILES}{tenant}/"


def file_object(tenant: str, file_id: str) -> str:
    """The API's object of a file."""
    return f"{files(tenant)}{file_id}.json"


def file_content(tenant: str, file_id: str) -> str:
    """The bytes of a file."""
    return f"{files(tenant)}{file_id}.content"


def batches(tenant: str) -> str:
    """Folder of a tenant's batches."""
    return f"batches/{tenant}/"


def batch(tenant: str, batch_id: str) -> str:
    """The document of a batch."""
    return f"{batches(tenant)}{batch_id}.json"


def batch_plan(batch_id: str) -> str:
    """The objects that a batch reads, if not a file of ours."""
    return f"plans/{batch_id}"


def open_batches(tenant: str) -> str:
    """Folder of the marks of a tenant's batches that have not ended."""
    return f"{OPEN}{tenant}/"


def open_batch(tenant: str, batch_id: str) -> str:
    """The mark of a batch that has not ended."""
    return f"{open_batches(tenant)}{batch_id}"


def of_open_batch(key: str) -> tuple[str, str]:
    """(tenant, batch id) of a mark. Raises ValueError if it is none."""
    tenant, batch_id = key.removeprefix(OPEN).split("/")
    return tenant, batch_id


def idempotency(tenant: str, key: str) -> str:
    """What a tenant's Idempotency-Key stands for. The key is a caller's text, so its hash names the object."""
    return f"idempotency/{tenant}/{hashlib.sha256(key.encode()).hexdigest()}"


def expiry(expires_s: int, tenant: str, file_id: str) -> str:
    """The mark of a file that goes at `expires_s`: their order is that of their moments."""
    return f"{EXPIRING}{expires_s:012d}/{tenant}/{file_id}"


def of_expiry(key: str) -> tuple[int, str, str]:
    """(seconds, tenant, file id) of such a mark. Raises ValueError if it is none."""
    seconds, tenant, file_id = key.removeprefix(EXPIRING).split("/")
    return int(seconds), tenant, file_id


def uploads(tenant: str) -> str:
    """Folder of a tenant's uploads in parts."""
    return f"{UPLOADS}{tenant}/"


def upload(tenant: str, upload_id: str) -> str:
    """The document of an upload."""
    return f"{uploads(tenant)}{upload_id}.json"


def upload_parts(tenant: str, upload_id: str) -> str:
    """Folder of the parts of an upload."""
    return f"{uploads(tenant)}{upload_id}/"


def upload_part(tenant: str, upload_id: str, part_id: str) -> str:
    """The bytes of a part."""
    return f"{upload_parts(tenant, upload_id)}{part_id}"


def upload_mark(tenant: str, upload_id: str, part_id: str, size: int, newlines: int, open_end: bool) -> str:
    """The mark of a part whose bytes are there: how many, how many newlines, and whether more follows the last one."""
    return f"{upload_part(tenant, upload_id, part_id)}.{size}.{newlines}.{int(open_end)}"


def of_upload_mark(key: str) -> tuple[str, int, int, bool] | None:
    """(part id, bytes, newlines, whether its end is open) of such a mark; None of a part's bytes."""
    part_id, *numbers = key.rpartition("/")[2].split(".")
    if not numbers:
        return None
    size, newlines, open_end = map(int, numbers)
    return part_id, size, newlines, bool(open_end)


def capacity(service: str) -> str:
    """What a batcher measured of the pools."""
    return f"{CAPACITY}{service}.json"


def enqueued(tenant: str) -> str:
    """What the open batches of a tenant count, if it has a limit on that."""
    return f"{ENQUEUED}{tenant}.json"
