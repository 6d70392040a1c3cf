"""Whether all that was appended to a topic before a moment is in the lake's files.

Three facts together say so, and none of them is a guess about time:

1. No transaction is open that may still show a record appended before the moment: the last stable offset is beyond it.
2. The lake's job has read them all: behind the offsets it committed, which it does with a checkpoint, no record of
   before the moment is left.
3. Two more checkpoints have been completed since that was seen. A checkpoint's files become visible when the writers
   are told of it, which comes before they take part in the next one; one that fails in between takes the job back.
"""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from schemas import kafka

GROUP: Final = "lake"
TIMEOUT_S: Final = 10.0
LATER_CHECKPOINTS: Final = 2
LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class Watch:
    """Looks at topics through one consumer of its own, which commits nothing."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._bootstrap, self._client_id = bootstrap, client_id
        self._connect()

    def _connect(self) -> None:
        self._admin = AdminClient({"bootstrap.servers": self._bootstrap, "client.id": self._client_id})
        settings = kafka.consumer(self._bootstrap, f"{self._client_id}-look", self._client_id)
        self._consumer = Consumer({**settings, "enable.partition.eof": True, "fetch.message.max.bytes": 65_536})

    def begin_anew(self) -> None:
        """With new clients, after a KafkaException: after a broker's restart the old ones asked with the leader epochs
        of before, and were refused for ever (FENCED_LEADER_EPOCH).
        """
        self._consumer.close()
        self._connect()

    def close(self) -> None:
        """Leave."""
        self._consumer.close()

    def behind(self, topic: str) -> int:
        """Offsets of a topic that the lake's job has not put into files. Raises KafkaException."""
        places = self._places(topic)
        ends = self._offsets(places, LATEST)
        return sum(max(0, ends[p] - done) for p, done in self._committed(places).items())

    def has_read(self, topic: str, before_ms: int) -> bool:
        """Facts 1 and 2 of the moment `before_ms`, which has passed by the broker's clock. Raises KafkaException."""
        places = self._places(topic)
        at = self._offsets(places, OffsetSpec.for_timestamp(before_ms))
        ends = self._offsets(places, LATEST)
        stable = self._offsets(places, LATEST, IsolationLevel.READ_COMMITTED)
        # Without any record of later there is no such offset: all that is there has to be read.
        targets = {p: at[p] if at[p] >= 0 else ends[p] for p in at}
        if any(stable[p] < target for p, target in targets.items()):
            return False
        left = {p: done for p, done in self._committed(places).items() if done < targets[p]}
        return not left or self._only_markers(topic, left, targets)

    def _only_markers(self, topic: str, left: dict[int, int], targets: dict[int, int]) -> bool:
        """Whether no record is between where the job is and where it must be: markers of transactions are none."""
        self._consumer.assign([TopicPartition(topic, p, offset) for p, offset in left.items()])
        try:
            open_ = set(left)
            while open_:
                message = self._consumer.poll(TIMEOUT_S)
                if message is None:
                    return False
                partition, error = message.partition(), message.error()
                if error is None:
                    if partition in open_ and (message.offset() or 0) < targets[partition]:
                        return False
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                open_.discard(partition)
            return True
        finally:
            self._consumer.unassign()

    def _places(self, topic: str) -> list[TopicPartition]:
        found = self._consumer.list_topics(topic, TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return [TopicPartition(topic, partition) for partition in found.partitions]

    def _offsets(
        self, places: list[TopicPartition], spec: OffsetSpec, level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[int, int]:
        asked: Any = dict.fromkeys(places, spec)
        futures = self._admin.list_offsets(asked, isolation_level=level, request_timeout=TIMEOUT_S)
        return {place.partition: future.result().offset for place, future in futures.items()}

    def _committed(self, places: list[TopicPartition]) -> dict[int, int]:
        asked = [ConsumerGroupTopicPartitions(GROUP, places)]
        (future,) = self._admin.list_consumer_group_offsets(asked, request_timeout=TIMEOUT_S).values()
        found = future.result().topic_partitions
        return {place.partition: max(0, place.offset) for place in found}
