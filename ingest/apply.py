"""Publishes a folder of configuration: `python -m ingest.apply DIR`. It replaces what was published before."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from ingest import configuration, topic_admin
from ingest.documents import DocumentError
from schemas import config, kafka, registry, topics
from schemas.addresses import Addresses
from schemas.config import Configuration, PolicyDocument
from schemas.wire import Codec, WireError

TIMEOUT_S: Final = 10.0
KEY: Final = b"config"
# What fails is said by us, in one line; librdkafka's own lines about trying again would only worry people.
QUIET: Final[kafka.Settings] = {"log_level": 2}


class ApplyError(Exception):
    """The configuration is in order, but could not be published whole; applying it again is safe."""


def needed_topics(c: Configuration) -> list[topics.Topic]:
    """Topics that this configuration needs beside the fixed ones."""
    work = [topics.work(pool, lane) for pool in c.pools for lane in topics.LANES]
    return [*topics.FIXED, *work, *(topics.intake(tenant) for tenant in c.tenants)]


def policies(c: Configuration, before: Iterable[str]) -> list[PolicyDocument]:
    """One policy per tenant; those of `before` that are gone may send nothing any more."""
    gone = sorted(set(before) - set(c.tenants))
    document = config.document(c)
    return [config.policy_of(document, t) for t in sorted(c.tenants)] + [config.closed(document, t) for t in gone]


def published_tenants(bootstrap: str, codec: Codec) -> set[str]:
    """Tenants of every configuration that is still in the topic: none of them is forgotten by a failed apply."""
    consumer = Consumer(kafka.consumer(bootstrap, "apply", "apply") | QUIET | {"enable.partition.eof": True})
    place = TopicPartition(topics.CONFIG, 0, 0)
    tenants: set[str] = set()
    try:
        consumer.assign([place])
        while True:
            message = consumer.poll(TIMEOUT_S)
            if message is None:
                raise ApplyError(f"the topic {topics.CONFIG} could not be read within {TIMEOUT_S:.0f} s")
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return tenants
                raise ApplyError(f"the topic {topics.CONFIG} cannot be read: {error.str()}")
            tenants |= _tenants(codec, message.value() or b"")
    finally:
        consumer.close()


def _tenants(codec: Codec, value: bytes) -> set[str]:
    try:
        return set(config.decode_config(codec.decode(value)[1]["document"]).tenants)
    except (WireError, KeyError, msgspec.DecodeError):
        return set()  # one that nobody can read is live nowhere


def publish(addresses: Addresses, codec: Codec, c: Configuration) -> str:
    """Make topics, then write policies, then the configuration; its version. Raises ApplyError, KafkaException.

    In this order: (1) topics, so that no record finds its topic missing; (2) policies, so that admission knows a
    tenant before the gateway lets him in; (3) the configuration.
    """
    topic_admin.create(addresses.kafka, needed_topics(c), TIMEOUT_S)
    documents = policies(c, published_tenants(addresses.kafka, codec))
    document = config.document(c)
    writer = _Writer(addresses.kafka)
    for policy in documents:
        record = {"tenant": policy.tenant, "version": policy.version, "document": config.encode(policy)}
        writer.write(topics.JOURNAL, policy.tenant.encode(), codec.encode("Policy", record))
    writer.wait()
    record = {"version": document.version, "document": config.encode(document)}
    writer.write(topics.CONFIG, KEY, codec.encode("Config", record))
    writer.wait()
    return document.version


class _Writer:
    """Writes and waits until all of it is acknowledged."""

    def __init__(self, bootstrap: str) -> None:
        settings = kafka.producer(bootstrap, "apply") | QUIET | {"message.timeout.ms": int(TIMEOUT_S * 1000)}
        self._producer = Producer(settings)
        self._faults: list[str] = []

    def write(self, topic: str, key: bytes, value: bytes) -> None:
        self._producer.produce(topic, value, key, on_delivery=self._report)

    def wait(self) -> None:
        left = self._producer.flush(TIMEOUT_S + 1)
        if left or self._faults:
            raise ApplyError(f"Kafka did not take the configuration: {', '.join(self._faults) or 'no answer'}")

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._faults.append(f"{message.topic()}: {error.str()}")


def _table(c: Configuration) -> str:
    rows = [("tenant", "keys", "limits", "moderation", "store")]
    rows += [(n, str(len(t.keys)), str(len(t.limits)), t.moderation or "-", t.store) for n, t in c.tenants.items()]
    rows += [("", "", "", "", ""), ("model", "route", "price in/out", "", "")]
    for name, model in c.models.items():
        route = " > ".join(model.route) or " | ".join(f"{s.model} {s.weight}" for s in model.split)
        rows.append((name, route, f"{model.price.input}/{model.price.output}", "", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def main() -> int:
    """Entry point; the exit status."""
    if len(sys.argv) != 2:
        print("usage: python -m ingest.apply DIR", file=sys.stderr)
        return 2
    try:
        c = configuration.read(Path(sys.argv[1]))
    except DocumentError as error:
        print(error, file=sys.stderr)
        return 1
    addresses = Addresses.of(os.environ)
    try:
        codec = registry.connect(addresses.registry)
        for tenant in c.tenants:
            registry.publish_intake(addresses.registry, tenant)
        version = publish(addresses, codec, c)
    except (ApplyError, KafkaException) as error:
        print(f"not applied: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # the registry client raises its own, requests' and httpx's errors
        print(f"not applied: the schema registry at {addresses.registry} failed: {error}", file=sys.stderr)
        return 1
    print(f"{_table(c)}\n\napplied configuration {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
