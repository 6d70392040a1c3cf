"""s3:// URIs of tenants: what they name, and whether a tenant may name it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

SCHEME: Final = "s3://"
MAX_KEY: Final = 900
# Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")


class Uri(NamedTuple):
    """A bucket and a key in it, or the beginning of keys; it may be empty."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


def is_uri(text: str) -> bool:
    """Whether `text` is meant to be one."""
    return text.startswith(SCHEME)


def parse(text: str) -> Uri | None:
    """What `text` names; None if it is no URI, or one that could mean another place than it seems to."""
    if not is_uri(text):
        return None
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket) or len(key.encode("utf-8", "replace")) > MAX_KEY or _CONTROL.search(key):
        return None
    # A server that keeps its objects as files may follow these.
    folders = key.removesuffix("/").split("/") if key else []
    return None if {"", ".", ".."}.intersection(folders) else Uri(bucket, key)


def allowed(uri: Uri, prefixes: Iterable[str]) -> bool:
    """Whether a URI lies at or below one of `prefixes`: s3://b/in allows s3://b/in/x, not s3://b/inner."""
    for text in prefixes:
        prefix = parse(text)
        if prefix is None or prefix.bucket != uri.bucket:
            continue
        folder = prefix.key.rstrip("/")
        if not folder or uri.key.rstrip("/") == folder or uri.key.startswith(f"{folder}/"):
            return True
    return False
