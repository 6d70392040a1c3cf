"""Reads a topic from its present end, by the names of its records."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from schemas import kafka as settings
from schemas.wire import Codec


class Reader:
    """Reads a topic from its present end."""

    def __init__(self, bootstrap: str, codec: Codec, topic: str) -> None:
        self._codec = codec
        self._consumer = Consumer(settings.consumer(bootstrap, "reader", "reader"))
        count = len(self._consumer.list_topics(topic, 10).topics[topic].partitions)
        places = [TopicPartition(topic, p) for p in range(count)]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, 10)[1]
        self._consumer.assign(places)
        self.seen: list[tuple[int, str, dict[str, Any]]] = []
        self._by_name: dict[str, list[dict[str, Any]]] = {}

    def take(self, name: str, count: int, timeout_s: float = 30) -> list[dict[str, Any]]:
        """All records called `name` so far, when there are `count`."""
        end = time.monotonic() + timeout_s
        while len(self.of(name)) < count:
            assert time.monotonic() < end, f"{len(self.of(name))} of {count} {name}"
            message = self._consumer.poll(0.2)
            if message is not None and message.error() is None:
                kind, record = self._codec.decode(message.value() or b"")
                self.seen.append((message.partition() or 0, kind, record))
                self._by_name.setdefault(kind, []).append(record)
        return self.of(name)

    def of(self, name: str) -> list[dict[str, Any]]:
        """What was seen so far."""
        return self._by_name.get(name, [])
