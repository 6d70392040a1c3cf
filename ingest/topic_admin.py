"""Makes topics exist."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from schemas.topics import Topic


def create(bootstrap: str, wanted: Iterable[Topic], timeout_s: float) -> list[str]:
    """Create those topics that do not exist; names of the new ones. Raises KafkaException."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
    known = set(admin.list_topics(timeout=timeout_s).topics)
    # -1: as many replicas as the cluster's default says.
    new = [NewTopic(t.name, t.partitions, -1, config=t.settings()) for t in wanted if t.name not in known]
    if not new:
        return []
    for future in admin.create_topics(new, operation_timeout=timeout_s, request_timeout=timeout_s).values():
        try:
            future.result(timeout_s + 1)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return [t.topic for t in new]
