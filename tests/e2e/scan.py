"""Looks for a word in everything that a stack has written."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import redis

from streams.lake import TABLES
from tests.e2e.evidence import messages, topics
from tests.e2e.stack import Stack


def places(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """(where, bytes) of all of it: messages of topics, rows of the lake, files as they lie, Redis, metrics.

    The lake and the topics are read through their readers, as their files are compressed.
    """
    for message in messages(stack, *topics(stack)):
        parts = [message.key(), message.value(), *(v for _, v in message.headers() or ())]
        yield f"topic {message.topic()}", b"\0".join(part or b"" for part in parts)
    for table in TABLES:
        for row in stack.sql(f"select * from {table.name}"):
            yield f"lake {table.name}", "\0".join(row.values()).encode()
    for path in sorted(stack.home.rglob("*")):
        if path.is_file() and not path.is_symlink():
            # What Flink and the broker no longer need may go while we look.
            try:
                yield f"file {path.relative_to(stack.home)}", path.read_bytes()
            except FileNotFoundError:
                continue
    store = redis.Redis(port=stack.ports["REDIS"])
    for key in store.scan_iter():
        yield "redis", key + b"\0" + repr(value(store, key)).encode()
    yield "metrics", httpx.get(stack.url.removesuffix("/v1") + "/metrics").content


def value(store: redis.Redis, key: bytes) -> object:
    """What Redis has under a key of any type."""
    kind = store.type(key)
    read = {b"hash": store.hgetall, b"string": store.get, b"set": store.smembers, b"none": lambda _: None}
    if kind in read:
        return read[kind](key)
    return store.lrange(key, 0, -1) if kind == b"list" else store.zrange(key, 0, -1)
