"""The one way a configuration is published, whoever does it: `make apply`, or the controller that takes a canary back.

One at a time: two who write at once could leave some tenants with the policy of one and some with that of the other,
or undo each other unseen. Kafka itself keeps them apart: only the member of a group that holds the one partition of
`config` may write, and one that dies loses it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from schemas import config, kafka, topics
from schemas.config import ConfigDocument, PolicyDocument
from schemas.wire import Codec, WireError

TIMEOUT_S: Final = 30.0
# How long others wait for the place of one that was killed.
SESSION_MS: Final = 6_000
POLL_S: Final = 0.05
GROUP: Final = "config-writer"
KEY: Final = b"config"
# What fails is said by us, in one line; librdkafka's own lines about trying again would only worry people.
QUIET: Final[kafka.Settings] = {"log_level": 2}


class PublicationError(Exception):
    """What is in order could not be published whole; publishing it again is safe."""


def policies(document: ConfigDocument, before: Iterable[str]) -> list[PolicyDocument]:
    """One policy per tenant; those of `before` that are gone may send nothing any more."""
    gone = sorted(set(before) - set(document.tenants))
    return [config.policy_of(document, t) for t in document.tenants] + [config.closed(document, t) for t in gone]


def limits(policy: PolicyDocument, version: str, now_ms: int) -> list[dict[str, Any]]:
    """Limit rows of a tenant's policy, for those who compare what was used with what was allowed."""
    return [
        {
            "tenant": policy.tenant,
            "version": version,
            "limit_id": limit.id,
            "counts": limit.on,
            "per": limit.per or "",
            "model": limit.model,
            "key_id": limit.key,
            "most": limit.max,
            "at": now_ms,
        }
        for limit in policy.limits
    ]


class Publication:
    """The right to publish, from `with` on until its end. Raises PublicationError, KafkaException.

    The holder is not polled while it writes: so its place is taken only once it has left, or is dead.
    """

    def __init__(self, bootstrap: str, codec: Codec, client_id: str) -> None:
        self._bootstrap, self._codec, self._client_id = bootstrap, codec, client_id
        self._held = False

    def __enter__(self) -> Self:
        settings = kafka.consumer(self._bootstrap, GROUP, self._client_id) | QUIET
        self._consumer = Consumer(settings | {"session.timeout.ms": SESSION_MS, "enable.partition.eof": True})
        try:
            # With these callbacks a change of places waits for our next poll; without, it would pass us by.
            self._consumer.subscribe([topics.CONFIG], on_assign=self._take, on_revoke=self._leave)
            self._published = self._read()
        except BaseException:
            self._consumer.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._consumer.close()

    def _take(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._held = bool(places)
        consumer.assign([TopicPartition(p.topic, p.partition, OFFSET_BEGINNING) for p in places])

    def _leave(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        del places
        self._held = False
        consumer.unassign()

    def _read(self) -> list[ConfigDocument]:
        """Wait for the place, then read all that is there; anew if the place went away on the way."""
        waited_s, found = 0.0, list[ConfigDocument]()
        while waited_s < TIMEOUT_S:
            message = self._consumer.poll(POLL_S)
            if not self._held:
                found = []
            if message is None:
                waited_s += POLL_S
                continue
            error = message.error()
            if error is None:
                found += self._documents(message.value() or b"")
            elif error.code() == KafkaError._PARTITION_EOF:
                if self._held:
                    return found
            else:
                raise PublicationError(f"the topic {topics.CONFIG} cannot be read: {error.str()}")
        why = "it could not be read" if self._held else "another is publishing, or Kafka is away"
        raise PublicationError(f"the topic {topics.CONFIG} was not ours within {TIMEOUT_S:.0f} s: {why}")

    def _documents(self, value: bytes) -> list[ConfigDocument]:
        try:
            return [config.decode_config(self._codec.decode(value)[1]["document"])]
        except (WireError, KeyError, msgspec.DecodeError):
            return []  # one that nobody can read is live nowhere

    @property
    def latest(self) -> ConfigDocument | None:
        """The configuration that is live now."""
        return self._published[-1] if self._published else None

    @property
    def published(self) -> tuple[ConfigDocument, ...]:
        """Every configuration that is still in the topic, the latest last."""
        return tuple(self._published)

    def publish(self, document: ConfigDocument) -> None:
        """Write policies, then the configuration. Raises PublicationError.

        In this order, so that admission knows a tenant before the gateway lets him in. A tenant of any configuration
        that is still in the topic gets a policy: none is forgotten by a publication that failed.
        """
        if set(document.settings) != set(document.tenants):
            raise PublicationError(f"configuration {document.version} is of an older form: apply it once more")
        tenants = {tenant for published in self._published for tenant in published.tenants}
        writer = Writer(self._bootstrap, self._client_id, "the configuration")
        for policy in policies(document, tenants):
            record = {"tenant": policy.tenant, "version": policy.version, "document": config.encode(policy)}
            writer.write(topics.JOURNAL, policy.tenant.encode(), self._codec.encode("Policy", record))
            for row in limits(policy, document.version, time.time_ns() // 1_000_000):
                writer.write(topics.LIMITS, policy.tenant.encode(), self._codec.encode("Limit", row))
        writer.wait()
        record = {"version": document.version, "document": config.encode(document)}
        writer.write(topics.CONFIG, KEY, self._codec.encode("Config", record))
        writer.wait()
        self._published.append(document)


class Writer:
    """Writes, and waits until all of it is acknowledged; `what` names it to people."""

    def __init__(self, bootstrap: str, client_id: str, what: str) -> None:
        self._what = what
        settings = kafka.producer(bootstrap, client_id) | QUIET | {"message.timeout.ms": int(TIMEOUT_S * 1000)}
        self._producer = Producer(settings)
        self._faults: list[str] = []

    def write(self, topic: str, key: bytes | None, value: bytes, **more: Any) -> None:
        """Send a record in the background; `more` is as `produce` takes it, such as headers."""
        self._producer.produce(topic, value, key, on_delivery=self._report, **more)

    def wait(self) -> None:
        """Until all is acknowledged. Raises PublicationError."""
        left = self._producer.flush(TIMEOUT_S + 1)
        if left or self._faults:
            raise PublicationError(f"Kafka did not take {self._what}: {', '.join(self._faults) or 'no answer'}")

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._faults.append(f"{message.topic()}: {error.str()}")
