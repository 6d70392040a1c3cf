"""Publishes a folder of configuration: `python -m ingest.apply DIR`. It replaces what was published before.

Everything is checked before anything is published, the connectors by Kafka Connect itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException

from ingest import configuration, connectors, topic_admin
from ingest.connectors import Connect, ConnectError
from ingest.documents import DocumentError
from ingest.publication import TIMEOUT_S, Publication, PublicationError
from schemas import config, registry, topics
from schemas.addresses import Addresses
from schemas.config import Configuration
from schemas.wire import Codec


def needed_topics(c: Configuration) -> list[topics.Topic]:
    """Topics that this configuration needs beside the fixed ones."""
    work = [topics.work(pool, lane) for pool in c.pools for lane in topics.LANES]
    return [*topics.FIXED, *work, *(topics.intake(tenant) for tenant in c.tenants)]


def publish(addresses: Addresses, codec: Codec, c: Configuration) -> str:
    """Make topics, so that no record finds its topic missing, then publish; the version.

    Raises PublicationError, KafkaException.
    """
    topic_admin.create(addresses.kafka, needed_topics(c), TIMEOUT_S)
    document = config.document(c)
    with Publication(addresses.kafka, codec, "apply") as publication:
        publication.publish(document)
    return document.version


def _table(c: Configuration) -> str:
    rows = [("tenant", "keys", "limits", "moderation", "store")]
    rows += [(n, str(len(t.keys)), str(len(t.limits)), t.moderation or "-", t.store) for n, t in c.tenants.items()]
    rows += [("", "", "", "", ""), ("model", "route", "price in/out", "", "")]
    for name, model in c.models.items():
        route = " > ".join(model.route) or " | ".join(f"{s.model} {s.weight}" for s in model.split)
        rows.append((name, route, f"{model.price.input}/{model.price.output}", "", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


class FaultsError(Exception):
    """Lines of `file: what`."""


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


def main() -> int:
    """Entry point; the exit status."""
    if len(sys.argv) != 2:
        print("usage: python -m ingest.apply DIR", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    addresses = Addresses.of(os.environ)
    connect = Connect(addresses.connect)
    try:
        c = configuration.read(folder)
        wanted = connectors.read(folder, c.tenants)
        check(connect, folder, wanted)
    except (DocumentError, FaultsError) as error:
        print(error, file=sys.stderr)
        return 1
    except ConnectError as error:
        print(f"not applied: {error}", file=sys.stderr)
        return 1
    try:
        codec = registry.connect(addresses.registry)
        for tenant in c.tenants:
            registry.publish_intake(addresses.registry, tenant)
        version = publish(addresses, codec, c)
        topic_admin.create(addresses.kafka, connectors.needed_topics(wanted.values()), TIMEOUT_S)
    except (PublicationError, KafkaException) as error:
        print(f"not applied: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # the registry client raises its own, requests' and httpx's errors
        print(f"not applied: the schema registry at {addresses.registry} failed: {error}", file=sys.stderr)
        return 1
    print(f"{_table(c)}\n\napplied configuration {version}")
    try:
        if wanted or connect.running():
            connect.put(wanted)
            connect.settled(wanted)
    except ConnectError as error:
        print(f"the configuration is applied, but not all connectors are: {error}", file=sys.stderr)
        return 1
    if wanted:
        print(f"connectors: {', '.join(wanted)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
