"""What is written to a stack's topics from some moment on."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas import kafka, topics
from schemas.wire import Codec
from tests.e2e.stack import Stack
from tests.oracle import Evidence

FILES = {"Usage": "usage", "Response": "responses", "Waste": "waste", "Audit": "audit", "BatchResult": "batch_results"}
READ = (topics.JOURNAL, topics.USAGE, topics.RESPONSES, topics.WASTE, topics.AUDIT, topics.BATCH_RESULTS)

MANY = 500
Record = dict[str, Any]


class Tail:
    """Reads on from where the topics ended when it was made; what it has read is in `evidence`, in journal order."""

    def __init__(self, stack: Stack, names: Iterable[str] = (*READ, topics.replies("gateway").name)) -> None:
        self._codec: Codec = stack.codec()
        self._consumer = Consumer(kafka.consumer(stack.kafka, f"tail-{uuid.uuid4().hex}", "tail"))
        metadata = self._consumer.list_topics(timeout=20).topics
        places = [TopicPartition(name, partition) for name in names for partition in metadata[name].partitions]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=20)[1]
        self._consumer.assign(places)
        self.evidence = Evidence([], [], [], [])

    def close(self) -> None:
        """Read no more."""
        self._consumer.close()

    def read(self) -> Evidence:
        """What is there by now. A broker that is away has nothing new."""
        more = True
        while more:
            messages = self._consumer.consume(MANY, timeout=0.1)
            more = len(messages) == MANY
            for message in messages:
                if message.error() is None:
                    self._take(message.value() or b"", message.timestamp()[1])
                else:
                    assert message.error().retriable() or message.error().code() in PASSING, message.error()
        return self.evidence

    def _take(self, value: bytes, at: int) -> None:
        name, record = self._codec.decode(value)
        if name in FILES:
            getattr(self.evidence, FILES[name]).append(record)
        elif name == "Reply":
            self.evidence.replies.append(record)
        elif name not in ("Tick", "Chunk"):
            self.evidence.journal.append((name, record, at))

    def of(self, mine: Callable[[Record], bool]) -> Evidence:
        """The part of what was read that belongs to requests for which `mine(row or request)` holds."""
        found = self.read()
        ids = {r["request_id"] for r, _ in found.of("Request") if mine(r)}

        return part(found, lambda r: r.get("request_id") in ids)

    def of_tenant(self, tenant: str) -> Evidence:
        """The part of what was read that belongs to a tenant: also to lines that were taken back before they came."""
        return part(self.read(), lambda r: r.get("tenant") == tenant)


def part(found: Evidence, mine: Callable[[Record], bool]) -> Evidence:
    """The records for which `mine` holds."""

    def kept(records: Iterable[Any]) -> list[Any]:
        return [r for r in records if mine(r)]

    return Evidence(
        journal=[(name, r, at) for name, r, at in found.journal if mine(r)],
        usage=kept(found.usage),
        responses=kept(found.responses),
        waste=kept(found.waste),
        audit=kept(found.audit),
        batch_results=kept(found.batch_results),
        replies=kept(found.replies),
    )


PASSING = (
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
