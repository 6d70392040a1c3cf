"""The declared topics on a real broker."""

from __future__ import annotations

from dataclasses import replace

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from infra.local import topics
from schemas.topics import Topic


def settings(bootstrap: str, topic: Topic) -> dict[str, str]:
    """The settings of a topic that its declaration names, as the broker has them."""
    resource = ConfigResource(ResourceType.TOPIC, topic.name)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    found = admin.describe_configs([resource])[resource].result()
    return {name: found[name].value for name in topic.settings()}


def test_every_topic_is_as_declared(kafka: str) -> None:
    present = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics
    for topic in topics.DECLARED:
        assert len(present[topic.name].partitions) == topic.partitions
        assert settings(kafka, topic) == topic.settings()


def test_making_them_again_brings_a_changed_one_to_its_declaration(kafka: str) -> None:
    declared = Topic("stack-parts", 2, ("Usage",), 60_000)
    topics.make(kafka, [declared])
    topics.make(kafka, [declared])
    changed = replace(declared, partitions=3, retention_ms=120_000)
    topics.make(kafka, [changed])
    assert settings(kafka, changed) == changed.settings()
    present = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics
    assert len(present["stack-parts"].partitions) == 3


def test_a_stack_without_a_configuration_is_known(kafka: str) -> None:
    topics.make(kafka)
    assert not topics.configured(kafka)
