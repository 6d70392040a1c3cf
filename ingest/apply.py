"""Publishes a folder of configuration: `python -m ingest.apply DIR`. It replaces what was published before.

Everything is checked before anything is published, the connectors by Kafka Connect itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import KafkaException

from ingest import configuration, connectors, kafka_users, topic_admin
from ingest.connectors import Connect, ConnectError
from ingest.documents import DocumentError
from ingest.kafka_users import UserError
from ingest.publication import TIMEOUT_S, Publication, PublicationError
from schemas import config, registry, topics
from schemas.addresses import Addresses
from schemas.config import Configuration
from schemas.wire import Codec


class NotApplied(Exception):
    """A configuration that is in order, but is not live as a whole; the message says what is not, and why."""


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


class FaultsError(NotApplied):
    """Lines of `file: what`."""


class Plan(NamedTuple):
    """A folder of configuration as read: what is published, and the configurations of connectors by name."""

    folder: Path
    configuration: Configuration
    connectors: dict[str, connectors.Config]


def read(folder: Path) -> Plan:
    """Read a folder. Raises DocumentError."""
    c = configuration.read(folder)
    return Plan(folder, c, connectors.read(folder, c.tenants))


def check(connect: Connect, folder: Path, wanted: Mapping[str, connectors.Config]) -> None:
    """Raises FaultsError with every fault in the files of connectors, ConnectError where Connect cannot be asked."""
    if wanted and not connect.running():
        count = f"{len(wanted)} connector{'s' if len(wanted) > 1 else ''}"
        raise ConnectError(
            f"{folder / connectors.FOLDER} has {count}, but Kafka Connect does not run: `make up CONNECT=1`"
        )
    faults = [
        str(DocumentError((str(folder / connectors.FOLDER / f"{name}.json"), 0), fault))
        for name, config in wanted.items()
        for fault in connect.faults(config)
    ]
    if faults:
        raise FaultsError("\n".join(faults))


def to(addresses: Addresses, plan: Plan) -> str:
    """Publish a plan to a running stack; its version. Raises NotApplied."""
    c, wanted, connect = plan.configuration, plan.connectors, Connect(addresses.connect)
    try:
        check(connect, plan.folder, wanted)
        codec = registry.connect(addresses.registry)
        for tenant in c.tenants:
            registry.publish_intake(addresses.registry, tenant)
        version = publish(addresses, codec, c, os.environ)
        topic_admin.create(addresses.kafka, connectors.needed_topics(wanted.values()), TIMEOUT_S)
    except FaultsError:
        raise
    except (ConnectError, PublicationError, KafkaException, UserError) as error:
        raise NotApplied(f"not applied: {error}") from None
    except Exception as error:  # the registry client raises its own, requests' and httpx's errors
        raise NotApplied(f"not applied: the schema registry at {addresses.registry} failed: {error}") from None
    try:
        if wanted or connect.running():
            connect.put(wanted)
            connect.settled(wanted)
    except ConnectError as error:
        raise NotApplied(f"the configuration is applied, but not all connectors are: {error}") from None
    return version


def main() -> int:
    """Entry point; the exit status."""
    if len(sys.argv) != 2:
        print("usage: python -m ingest.apply DIR", file=sys.stderr)
        return 2
    try:
        plan = read(Path(sys.argv[1]))
    except DocumentError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        version = to(Addresses.of(os.environ), plan)
    except NotApplied as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{table(plan.configuration)}\n\napplied configuration {version}")
    if plan.connectors:
        print(f"connectors: {', '.join(plan.connectors)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
