"""Publishes a folder of configuration: `python -m ingest.apply DIR`. It replaces what was published before.

All of it is checked before anything is published, the connectors by Kafka Connect itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException

from ingest import configuration, connectors, kafka_users, topic_admin
from ingest.connectors import Connect, ConnectError, Connectors
from ingest.documents import DocumentError
from ingest.kafka_users import UserError
from ingest.publication import TIMEOUT_S, Publication, PublicationError
from schemas import config, registry, topics
from schemas.addresses import Addresses
from schemas.config import Configuration
from schemas.wire import Codec


class NotApplied(Exception):
    """A configuration that is in order, but is not live; the message says why."""


def needed_topics(c: Configuration) -> list[topics.Topic]:
    """Topics that this configuration needs beside the fixed ones."""
    work = [topics.work(pool, lane) for pool in c.pools for lane in topics.LANES]
    own = [topic for tenant in c.tenants for topic in (topics.intake(tenant), topics.answers(tenant))]
    return [*topics.FIXED, *work, *own]


def publish(addresses: Addresses, codec: Codec, c: Configuration, env: Mapping[str, str]) -> str:
    """Publish a configuration; its version. Raises PublicationError, KafkaException, UserError.

    (1) Make topics, so that no record finds its topic missing; (2) take away users that are gone; (3) publish; (4) make
    users. So what is published names every user there may be, wherever this is broken off.
    """
    passwords = kafka_users.passwords(c, env)
    topic_admin.create(addresses.kafka, needed_topics(c), TIMEOUT_S)
    document = config.document(c)
    users = kafka_users.Users(addresses.kafka, TIMEOUT_S)
    with Publication(addresses.kafka, codec, "apply") as publication:
        users.remove(kafka_users.former(publication.published) - set(passwords))
        publication.publish(document)
        users.make(passwords)
    return document.version


def table(c: Configuration) -> str:
    """What was applied, for a person."""
    rows = [("tenant", "keys", "limits", "moderation", "store", "users of Kafka")]
    for name, t in c.tenants.items():
        users = " ".join(f"{name}.{user.name}" for user in t.kafka_users)
        rows.append((name, str(len(t.keys)), str(len(t.limits)), t.moderation or "-", t.store, users))
    rows += [("",) * 6, ("model", "route", "price in/out", "", "", "")]
    for name, model in c.models.items():
        route = " > ".join(model.route) or " | ".join(f"{s.model} {s.weight}" for s in model.split)
        rows.append((name, route, f"{model.price.input}/{model.price.output}", "", "", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def read(addresses: Addresses, folder: Path) -> tuple[Configuration, Connectors]:
    """What is in a folder, checked. Raises DocumentError, and NotApplied where Kafka Connect is needed and away."""
    c = configuration.read(folder)
    wanted = connectors.read(folder, c.tenants)
    try:
        Connect(addresses.connect).check(folder, wanted)
    except ConnectError as error:
        raise NotApplied(str(error)) from None
    return c, wanted


def to(addresses: Addresses, c: Configuration, wanted: Connectors) -> str:
    """Publish a configuration to a running stack, then let exactly these connectors run; its version.

    Raises NotApplied.
    """
    version = _to_kafka(addresses, c, wanted)
    try:
        Connect(addresses.connect).apply(wanted)
    except ConnectError as error:
        raise NotApplied(f"all but the connectors is live as {version}: {error}") from None
    return version


def _to_kafka(addresses: Addresses, c: Configuration, wanted: Connectors) -> str:
    try:
        codec = registry.connect(addresses.registry)
        for tenant in c.tenants:
            registry.publish_intake(addresses.registry, tenant)
        topic_admin.create(addresses.kafka, connectors.needed_topics(wanted.values()), TIMEOUT_S)
        return publish(addresses, codec, c, os.environ)
    except (PublicationError, KafkaException, UserError) as error:
        raise NotApplied(str(error)) from None
    except Exception as error:  # the registry client raises its own, requests' and httpx's errors
        raise NotApplied(f"the schema registry at {addresses.registry} failed: {error}") from None


def main() -> int:
    """Entry point; the exit status."""
    if len(sys.argv) != 2:
        print("usage: python -m ingest.apply DIR", file=sys.stderr)
        return 2
    addresses = Addresses.of(os.environ)
    try:
        c, wanted = read(addresses, Path(sys.argv[1]))
        version = to(addresses, c, wanted)
    except DocumentError as error:
        print(error, file=sys.stderr)
        return 1
    except NotApplied as error:
        print(f"not applied: {error}", file=sys.stderr)
        return 1
    print(f"{table(c)}\n\napplied configuration {version}")
    if wanted:
        print(f"connectors: {', '.join(wanted)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
