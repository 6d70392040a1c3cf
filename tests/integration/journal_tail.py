"""A topic, whole or from its present end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from schemas import kafka as settings
from schemas.wire import Codec

Record = dict[str, Any]


def everything(bootstrap: str, codec: Codec, topic: str) -> list[Record]:
    """All records of a topic."""
    consumer = Consumer(settings.consumer(bootstrap, "check", "check") | {"enable.partition.eof": True})
    count = len(consumer.list_topics(topic, 10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, p, 0) for p in range(count)])
    ends, found = 0, []
    while ends < count:
        message = consumer.poll(10)
        assert message is not None
        if message.error() is not None:
            ends += 1
        else:
            found.append(codec.decode(message.value() or b"")[1])
    consumer.close()
    return found


class Tail:
    """Everything that is written from now on."""

    def __init__(self, bootstrap: str, codec: Codec, topic: str) -> None:
        self._codec = codec
        self._consumer = Consumer(settings.consumer(bootstrap, "tail", "tail"))
        count = len(self._consumer.list_topics(topic, 10).topics[topic].partitions)
        self._places = [TopicPartition(topic, p) for p in range(count)]
        self._seen: list[tuple[str, Record]] = []
        self.skip()

    def skip(self) -> None:
        """Forget all that is there by now."""
        self._seen.clear()
        for place in self._places:
            place.offset = self._consumer.get_watermark_offsets(place, 10)[1]
        self._consumer.assign(self._places)

    def await_(
        self,
        name: str,
        wanted: Callable[[Record], bool],
        between: Callable[[], None] | None = None,
        limit_s: float = 30,
    ) -> Record:
        """The first record `name` that is `wanted` and was not given out yet; `between` is called while it waits."""
        end = time.monotonic() + limit_s
        while True:
            for i, (kind, record) in enumerate(self._seen):
                if kind == name and wanted(record):
                    del self._seen[i]
                    return record
            assert time.monotonic() < end, f"no such {name} within {limit_s} s among {self._seen[-20:]}"
            if between is not None:
                between()
            message = self._consumer.poll(0.2)
            if message is not None and message.error() is None:
                kind, record = self._codec.decode(message.value() or b"")
                if kind != "Tick":
                    self._seen.append((kind, record))
