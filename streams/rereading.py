"""Reads a partition again, from an offset to its end: how a process learns what another knew before it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas import kafka

ASK_S: Final = 5.0
READ: Final = 1_000
# An end that is not reached within this, with nothing coming, is no end: whoever asked tries again.
SILENCE_S: Final = 30.0


class Line(NamedTuple):
    """A record, and when the log got it (ms UTC)."""

    offset: int
    at_ms: int
    value: bytes


def reread(bootstrap: str, client_id: str, topic: str, partition: int, start: int) -> tuple[list[Line], int]:
    """Records from `start` on, and the offset that follows the last one there was. Blocking.

    Raises KafkaException, TimeoutError.
    """
    settings = kafka.consumer(bootstrap, client_id, client_id) | {"enable.partition.eof": True, "log_level": 2}
    consumer = Consumer(settings)
    try:
        place = TopicPartition(topic, partition)
        low, high = consumer.get_watermark_offsets(place, timeout=ASK_S)
        consumer.assign([TopicPartition(topic, partition, min(max(start, low), high))])
        return list(_until(consumer, high)) if high > max(start, low) else [], high
    finally:
        consumer.close()


def _until(consumer: Consumer, high: int) -> Iterator[Line]:
    silent_since = time.monotonic()
    while True:
        for message in consumer.consume(READ, 0.5):
            silent_since = time.monotonic()
            error, offset = message.error(), message.offset()
            if error is None:
                assert offset is not None
                yield Line(offset, message.timestamp()[1], message.value() or b"")
                if offset + 1 >= high:
                    return
            elif error.code() == KafkaError._PARTITION_EOF:
                return  # what compaction left ends before `high`
            else:
                raise KafkaException(error)
        if time.monotonic() - silent_since > SILENCE_S:
            raise TimeoutError("the log does not go on")
