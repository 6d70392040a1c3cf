"""Which partition of a pool's lane work waits in: what begins alike shares one while that keeps up. Pure.

An engine keeps what it has computed of the beginning of a prompt, each worker for itself. So requests are placed as
OpenAI places them: by a hash of the beginning and the caller's `prompt_cache_key`. A popular beginning must not fill
one worker while others are idle: consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018).
A partition takes one more of a tenant's requests while it has slots for all of them, or no more than a quarter above an
even share; else the next one in the beginning's own order does, and keeps it too. What is short goes anywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import orjson

from schemas import topics
from schemas.kafka import murmur2
from schemas.records import Ledger

WORK_PARTITIONS: Final = topics.work("any", topics.LANES[0]).partitions
# About 128 tokens: reading less of a prompt again costs no more than a token or two of the answer.
LEAST_BYTES: Final = 512
# Without long instructions, so much of the prompt must be alike: that of a conversation is, from turn to turn.
HEAD_CHARS: Final = 1_024
# Prompts that are alike so far differ late enough.
MOST_CHARS: Final = 4_096
INSTRUCTIONS: Final = frozenset({"system", "developer"})


def prefix_of(tenant: str, body: dict[str, Any], size: int) -> int:
    """What prompts of this tenant that begin alike have in common; 0 for one too short to be worth it.

    `size` of the body in bytes. Tenants do not meet: who is fast tells nobody what others ask.
    """
    if size < LEAST_BYTES:
        return 0
    head = beginning(body)
    if head is None:
        return 0
    name = body.get("prompt_cache_key")
    seed = zlib.crc32(f"{tenant}\0{name if isinstance(name, str) else ''}\0".encode())
    return zlib.crc32(head.encode(errors="replace"), seed) or 1


def beginning(body: dict[str, Any]) -> str | None:
    """Tools and leading instructions if these are long, else the first HEAD_CHARS of all; None where there are fewer.

    Tools come first because templates put them there.
    """
    tools = body.get("tools")
    parts = [orjson.dumps(tools).decode()] if tools else []
    size, told = sum(map(len, parts)), False
    for message in body.get("messages") or ():
        if not told and message.get("role") not in INSTRUCTIONS:
            if size >= LEAST_BYTES:
                break
            told = True
        text = _text(message.get("content"))
        parts.append(text)
        size += len(text)
        if size >= (HEAD_CHARS if told else MOST_CHARS):
            break
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        parts, size, told = [prompt], len(prompt), True
    if told:
        return "\0".join(parts)[:HEAD_CHARS] if size >= HEAD_CHARS else None
    return "\0".join(parts)[:MOST_CHARS] if size >= LEAST_BYTES else None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str))


class Loads:
    """Open requests of one tenant that have a prefix, by work topic and partition. `changes` counts every change."""

    def __init__(self, ledger: Ledger | None) -> None:
        self._open = {load["topic"]: list(load["open"]) for load in (ledger["loads"] if ledger else ())}
        self.changes = 0

    def enter(self, topic: str, prefix: int, concurrency: int) -> int:
        """Count one more request of this prefix in the partition that is returned. `concurrency` is the pool's."""
        counts = self._open.get(topic)
        if counts is None:
            counts = self._open[topic] = [0] * WORK_PARTITIONS
        partition = choose(counts, prefix, concurrency)
        counts[partition] += 1
        self.changes += 1
        return partition

    def leave(self, topic: str, partition: int) -> None:
        """It is open there no more."""
        counts = self._open[topic]
        assert counts[partition] > 0, "a request left a partition that it had not entered"
        counts[partition] -= 1
        self.changes += 1
        if not any(counts):
            del self._open[topic]

    def fields(self) -> dict[str, Any]:
        """Its part of the Ledger record."""
        return {"loads": [{"topic": topic, "open": counts} for topic, counts in sorted(self._open.items())]}


def choose(counts: Sequence[int], prefix: int, concurrency: int) -> int:
    """The partition for one more request of `prefix`, given how many are open in each."""
    usable = min(concurrency, WORK_PARTITIONS)
    each, rest = divmod(concurrency, WORK_PARTITIONS)
    # Counted with the newcomer, so that a partition with an even share or less always takes it.
    even = -(-(sum(counts) + 1) * 5 // (4 * usable))
    at = prefix % usable
    step = 1 if prefix & 64 else usable - 1
    for _ in range(usable - 1):
        open_ = counts[at]
        if open_ < even or open_ < each + (at < rest):
            break
        at = (at + step) % usable
    return at


def _keys() -> tuple[str, ...]:
    """A key for each partition of a work topic, under Kafka's default partitioner."""
    found: dict[int, str] = {}
    candidate = 0
    while len(found) < WORK_PARTITIONS:
        key = f"slot-{candidate}"
        found.setdefault((murmur2(key.encode()) & 0x7FFFFFFF) % WORK_PARTITIONS, key)
        candidate += 1
    return tuple(found[p] for p in range(WORK_PARTITIONS))


KEYS: Final = _keys()


def spread(request_id: str, concurrency: int) -> int:
    """The partition of what has no prefix: any that has a slot of the pool's concurrency."""
    return zlib.crc32(request_id.encode()) % min(concurrency, WORK_PARTITIONS)
