"""Kafka client settings on which correctness depends, in one place. Pure: builds mappings, opens nothing."""

from __future__ import annotations

from typing import Final

Settings = dict[str, str | int | float | bool]

# Every producer must send a key to the same partition as the Java default does, or a tenant's order is lost.
PARTITIONER: Final = "murmur2_random"


def producer(bootstrap: str, client_id: str, *, linger_ms: float = 0) -> Settings:
    """An idempotent producer that waits for all replicas. `linger_ms` trades latency for batching."""
    return {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": PARTITIONER,
        "linger.ms": linger_ms,
        "message.max.bytes": 8 * 1024 * 1024,
        "compression.type": "lz4",
        "socket.nagle.disable": True,
        "log.connection.close": False,
    }


def consumer(bootstrap: str, group: str, client_id: str) -> Settings:
    """A consumer that commits by hand and never reads what a transaction took back."""
    return {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "client.id": client_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 100,
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 2_000,
        "partition.assignment.strategy": "range",
        "topic.metadata.refresh.interval.ms": 5_000,
        "socket.nagle.disable": True,
        "log.connection.close": False,
    }


def murmur2(data: bytes) -> int:
    """Murmur2 as Kafka's default partitioner computes it, as an unsigned 32-bit integer."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    end = len(data) - len(data) % 4
    for i in range(0, end, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if end < len(data):
        h = (h ^ int.from_bytes(data[end:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
