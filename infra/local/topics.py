"""Makes the topics that schemas/topics.py declares, and brings those that exist to their declaration."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewPartitions, NewTopic

from infra.local.settings import Trouble
from schemas import topics
from schemas.topics import Topic

TIMEOUT_S: Final = 30
POLL_S: Final = 0.1
LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
DECLARED: Final = (*topics.FIXED, topics.replies("gateway"))


def make(bootstrap: str, declared: Sequence[Topic] = DECLARED) -> None:
    """Create or alter topics; idempotent. Raises KafkaException. Partitions are added, never taken away."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    present = admin.list_topics(timeout=TIMEOUT_S).topics
    new = [NewTopic(t.name, t.partitions, 1, config=t.settings()) for t in declared if t.name not in present]
    if new:
        for future in admin.create_topics(new, request_timeout=TIMEOUT_S).values():
            _ignore_existing(future)
    grown = [
        NewPartitions(t.name, t.partitions)
        for t in declared
        if t.name in present and len(present[t.name].partitions) < t.partitions
    ]
    if grown:
        for future in admin.create_partitions(grown, request_timeout=TIMEOUT_S).values():
            future.result()
    old = [t for t in declared if t.name in present]
    if old:
        _alter(admin, old)
    if new or grown:
        _await_leaders(admin, declared)


def _ignore_existing(future: object) -> None:
    try:
        future.result()  # type: ignore[attr-defined]
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _await_leaders(admin: AdminClient, declared: Sequence[Topic]) -> None:
    """Wait until every partition can be read: a topic is there before its partitions have leaders."""
    request = {TopicPartition(t.name, partition): LATEST for t in declared for partition in range(t.partitions)}
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        admin.list_topics(timeout=TIMEOUT_S)  # else it goes on with what it knew before it made them
        waiting = [p.topic for p, future in admin.list_offsets(request).items() if future.exception() is not None]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise Trouble(f"topic {waiting[0]} has no leader after {TIMEOUT_S} s: see the log of kafka")
        time.sleep(POLL_S)


def _alter(admin: AdminClient, declared: Sequence[Topic]) -> None:
    resources = [ConfigResource(ResourceType.TOPIC, t.name) for t in declared]
    current = {r.name: future.result() for r, future in admin.describe_configs(resources).items()}
    changed = []
    for topic in declared:
        wanted = {k: v for k, v in topic.settings().items() if current[topic.name][k].value != v}
        if wanted:
            entries = [
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in wanted.items()
            ]
            changed.append(ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries))
    if changed:
        for future in admin.incremental_alter_configs(changed).values():
            future.result()


def configured(bootstrap: str) -> bool:
    """Whether any configuration was ever published."""
    admin, partition = AdminClient({"bootstrap.servers": bootstrap}), TopicPartition(topics.CONFIG, 0)
    return bool(admin.list_offsets({partition: LATEST})[partition].result().offset)
