"""Reads a stack's topics whole, for the oracle and for replays."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import kafka
from tests.e2e.stack import Stack
from tests.oracle import Evidence

ONCE = {"enable.partition.eof": True, "fetch.wait.max.ms": 20}


def read(stack: Stack, topic: str) -> Iterator[list[tuple[bytes, bytes, int, int]]]:
    """Committed messages of a topic up to now: a list of (key, value, time, offset) per partition."""
    settings = kafka.consumer(stack.kafka, f"evidence-{uuid.uuid4().hex}", "evidence")
    consumer = Consumer({**settings, **ONCE})
    try:
        metadata = consumer.list_topics(topic, timeout=20).topics[topic]
        for partition in sorted(metadata.partitions):
            consumer.assign([TopicPartition(topic, partition, 0)])
            yield list(_partition(consumer))
    finally:
        consumer.close()


def messages(stack: Stack, *names: str) -> Iterator[Message]:
    """Every message of these topics as it lies there, also those that a transaction took back."""
    settings = {**kafka.consumer(stack.kafka, f"evidence-{uuid.uuid4().hex}", "evidence"), **ONCE}
    consumer = Consumer({**settings, "isolation.level": "read_uncommitted"})
    try:
        known = consumer.list_topics(timeout=20).topics
        places = [TopicPartition(name, partition, 0) for name in names for partition in known[name].partitions]
        consumer.assign(places)
        yield from _messages(consumer, len(places))
    finally:
        consumer.close()


def _partition(consumer: Consumer) -> Iterator[tuple[bytes, bytes, int, int]]:
    for message in _messages(consumer, 1):
        yield message.key() or b"", message.value() or b"", message.timestamp()[1], message.offset()


def _messages(consumer: Consumer, partitions: int) -> Iterator[Message]:
    """What lies in the assigned partitions, of which there are this many, until the end of each was seen."""
    ended = set[tuple[str, int]]()
    while len(ended) < partitions:
        for message in consumer.consume(500, timeout=0.1):
            if message.error() is None:
                yield message
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add((message.topic(), message.partition()))
            else:
                raise AssertionError(message.error())


def journal(stack: Stack) -> list[tuple[bytes, int]]:
    """(value, broker time) of the whole journal, by time; within a tenant that is its order in the log."""
    entries = [
        (at, partition, offset, value)
        for partition, messages in enumerate(read(stack, "journal"))
        for _, value, at, offset in messages
    ]
    return [(value, at) for at, _, _, value in sorted(entries)]


def records(stack: Stack, topic: str, tenants: set[str] | None = None) -> list[dict[str, Any]]:
    """Decoded records of a topic, of some tenants only if given."""
    codec = stack.codec()
    found = [codec.decode(value)[1] for part in read(stack, topic) for _, value, _, _ in part]
    return [r for r in found if tenants is None or r["tenant"] in tenants]


def topics(stack: Stack) -> list[str]:
    """Names of all topics."""
    return sorted(AdminClient({"bootstrap.servers": stack.kafka, "log_level": 2}).list_topics(timeout=20).topics)


def collect(stack: Stack) -> Evidence:
    """All that the oracle wants to see."""
    codec = stack.codec()
    decoded = [(*codec.decode(value), at) for value, at in journal(stack)]
    replies = [codec.decode(v) for part in read(stack, "replies.gateway") for _, v, _, _ in part]
    return Evidence(
        journal=decoded,
        usage=records(stack, "usage"),
        responses=records(stack, "responses"),
        waste=records(stack, "waste"),
        audit=records(stack, "audit"),
        batch_results=records(stack, "batch_results"),
        replies=[record for name, record in replies if name == "Reply"],
        answers=[(name, r) for name in topics(stack) if name.startswith("responses.") for r in records(stack, name)],
    )
