"""What a person's erasure means for the rows of the lake. Pure.

An erasure is an object of the bucket that names no one: the hash by which rows know the user, and the requests that
were found. It stays as long as a topic may bring a row back, so that what is written anew is without the person, too.

Rows with texts go. A row of `usage` stays, since an invoice that was sent does not change, and no longer says who.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec
import orjson

from schemas import topics
from streams import partition, subject
from streams.partition import Partition

PREFIX: Final = "erasures/"
# Longer than any topic of the lake keeps a row, and than a partition stays open for late ones.
KEPT_MS: Final = 40 * partition.DAY_MS
# So much later at the latest a row that was appended before a partition closed is in a file of it.
DELAY_MS: Final = partition.DAY_MS
# Tables that lose rows, by request; `usage` and `dead_letters` are treated as said below.
BY_REQUEST: Final = frozenset({topics.RESPONSES, topics.AUDIT, topics.SHADOWS})
TABLES: Final = BY_REQUEST | {topics.USAGE, topics.DEAD_LETTERS}
_FIELDS: Final = b"|".join(field.encode() for field in subject.FIELDS)
_NAMED: Final = re.compile(rb'"(?:' + _FIELDS + rb')"\s*:\s*("(?:[^"\\]|\\.)*")')
_ESCAPED: Final = re.compile(rb'\\(["\\])')
# A body inside of a producer's JSON inside of a device's.
LEVELS: Final = 3


class Erasure(msgspec.Struct, frozen=True):
    """`user` is subject.of; rows up to `at_ms` are erased, and `request_ids` in every table."""

    id: str
    tenant: str
    user: str
    at_ms: int
    request_ids: tuple[str, ...] = ()


def key(erasure: Erasure) -> str:
    """Where it is stored; keys are in order of time."""
    return f"{PREFIX}{erasure.at_ms:015d}-{erasure.id}.json"


def encode(erasure: Erasure) -> bytes:
    """As it is stored."""
    return msgspec.json.encode(erasure)


def decode(data: bytes) -> Erasure:
    """Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Erasure)


def is_over(name: str, now_ms: int) -> bool:
    """Whether an erasure's name (its key below PREFIX) is so old that no topic has a row of it any more."""
    at_ms = name.partition("-")[0]
    return at_ms.isdecimal() and int(at_ms) + KEPT_MS < now_ms


def during(erasures: Iterable[Erasure], of: Partition) -> list[Erasure]:
    """Those that may have come before some of a partition's rows."""
    return [e for e in erasures if of.opens_ms <= e.at_ms < of.closes_ms + DELAY_MS]


def users(tenant: str, value: bytes) -> set[str]:
    """The users that bytes name as a request does, as hashes; in JSON, in text that is JSON inside of that, in Avro."""
    for _ in range(LEVELS):
        found = {subject.of(tenant, name) for name in map(_text, _NAMED.findall(value)) if name}
        if found:
            return found
        value = _ESCAPED.sub(rb"\1", value)
    return set()


def _text(literal: bytes) -> str:
    try:
        return str(orjson.loads(literal))
    except orjson.JSONDecodeError:
        return ""


def concerns(erasures: Iterable[Erasure], tenant: str, value: bytes, at_ms: int) -> bool:
    """Whether bytes of a tenant, seen at `at_ms`, name somebody who was erased."""
    theirs = {e.user for e in erasures if e.tenant == tenant and at_ms <= e.at_ms}
    return bool(theirs) and not theirs.isdisjoint(users(tenant, value))
