"""Records of a topic that were appended in a span of time, as far as they are committed; for commands, not for jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas import kafka
from schemas.wire import Codec, WireError

TIMEOUT_S: Final = 10.0
WAIT_S: Final = 0.1
READ: Final = 5_000


class Row(NamedTuple):
    """A record, the name of its schema, and when it was appended."""

    schema: str
    record: dict[str, Any]
    appended_ms: int


class Topic:
    """One topic, read without a group."""

    def __init__(self, bootstrap: str, topic: str, codec: Codec) -> None:
        self._topic, self._codec = topic, codec
        settings = kafka.consumer(bootstrap, f"look-{topic}", f"look-{topic}")
        self._consumer = Consumer({**settings, "enable.partition.eof": True})
        found = self._consumer.list_topics(topic, TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        self._partitions = sorted(found.partitions)
        self.unreadable = 0

    def close(self) -> None:
        """Leave."""
        self._consumer.close()

    def has_all_since(self, start_ms: int) -> bool:
        """Whether nothing appended from `start_ms` on can be gone by retention. Raises KafkaException."""
        for partition, first in zip(self._partitions, self._at(start_ms), strict=True):
            low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=TIMEOUT_S)
            # Where the oldest record left is of that time, others before it may have been, too.
            oldest = low == high if first.offset < 0 else first.offset <= low
            if low > 0 and oldest:
                return False
        return True

    def rows(self, start_ms: int, end_ms: int) -> Iterator[Row]:
        """Records appended from `start_ms` until before `end_ms`, each once. Raises KafkaException.

        Reads on to what is committed now; what an open transaction holds back is not seen. What is no record of ours is
        counted in `unreadable`.
        """
        places = self._at(start_ms)
        self._consumer.assign(places)
        open_ = {place.partition for place in places}
        heard = time.monotonic()
        while open_:
            # It returns at once only with READ of them, so it must not wait long for the last ones.
            messages = self._consumer.consume(READ, WAIT_S)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > TIMEOUT_S:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{self._topic} is silent"))
            for message in messages:
                error, at_ms = message.error(), message.timestamp()[1]
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    open_.discard(message.partition() or 0)
                elif start_ms <= at_ms < end_ms:
                    try:
                        yield Row(*self._codec.decode(message.value() or b""), at_ms)
                    except WireError:
                        self.unreadable += 1
        self._consumer.unassign()

    def _at(self, ms: int) -> list[TopicPartition]:
        """The first offsets appended from `ms` on; the end where there are none."""
        asked = [TopicPartition(self._topic, partition, max(0, ms)) for partition in self._partitions]
        return self._consumer.offsets_for_times(asked, TIMEOUT_S)
