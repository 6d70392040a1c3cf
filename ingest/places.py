"""Where things are in the bucket. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

OPEN: Final = "open/"


def files(tenant: str) -> str:
    """Folder of a tenant's files."""
    return f"files/{tenant}/"


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
