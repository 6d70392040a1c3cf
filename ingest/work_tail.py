"""Watches the batch lanes' work topics: the requests that admission has let through."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from schemas import kafka, topics
from schemas.wire import HEADER

log = logging.getLogger(__name__)

MAX_READ: Final = 1_000


class WorkTail:
    """Reads from the end, only while somebody follows. Use it from one thread."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        settings = kafka.consumer(bootstrap, f"{client_id}-tail", f"{client_id}-tail")
        settings |= {"fetch.wait.max.ms": 500, "isolation.level": "read_uncommitted", "auto.offset.reset": "latest"}
        self._consumer = Consumer(settings)
        self._pools: frozenset[str] = frozenset()

    def follow(self, pools: Iterable[str]) -> None:
        """Watch the batch lanes of these pools from now on; none to rest."""
        wanted = frozenset(pools)
        if wanted == self._pools:
            return
        self._pools = wanted
        lanes = (topics.work(pool, "batch") for pool in sorted(wanted))
        places = [TopicPartition(t.name, p, OFFSET_END) for t in lanes for p in range(t.partitions)]
        try:
            self._consumer.assign(places) if places else self._consumer.unassign()
        except KafkaException as error:
            log.warning("work topics cannot be watched: %s", error)

    def read(self) -> list[str]:
        """Ids of requests that became work since the last call. Does not wait."""
        if not self._pools:
            return []
        try:
            messages = self._consumer.consume(MAX_READ, 0)
        except KafkaException as error:
            log.warning("work topics cannot be read: %s", error)
            return []
        values = (m.value() for m in messages if m.error() is None)
        return [request_id(value) for value in values if value]

    def close(self) -> None:
        """Stop."""
        self._consumer.close()


def request_id(value: bytes) -> str:
    """The request id of a Work record: the second of its strings, read without decoding the rest.

    Source: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding (strings, zig-zag lengths).
    """
    at, length = _length(value, HEADER.size)
    at, length = _length(value, at + length)
    return value[at : at + length].decode()


def _length(data: bytes, at: int) -> tuple[int, int]:
    shift = number = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return at, number >> 1
        shift += 7
