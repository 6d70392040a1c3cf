"""The schema registry, through the client of confluent-kafka."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas import catalogue, topics
from schemas.wire import Codec

# Without it the client waits for ever on a registry that accepts a connection and says nothing.
TIMEOUT_S = 10
MOST_REMEMBERED = 1_000


def _client(url: str) -> SchemaRegistryClient:
    # The client logs a line per request, two dozen at each start.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return SchemaRegistryClient({"url": url, "timeout": TIMEOUT_S})


def _register(client: SchemaRegistryClient, subject: str, name: str) -> int:
    return client.register_schema(subject, Schema(json.dumps(catalogue.raw(name)), "AVRO"))


def publish(url: str) -> dict[str, int]:
    """Register every schema under BACKWARD_TRANSITIVE; ids by schema name.

    Idempotent. Raises SchemaRegistryError (409) if a schema became incompatible with what is registered.
    """
    client = _client(url)
    client.set_compatibility(level="BACKWARD_TRANSITIVE")
    return {name: _register(client, subject, name) for name, subject in topics.subjects().items()}


def publish_intake(url: str, tenant: str) -> int:
    """Register the schemas of a tenant's intake topic, Avro under `<topic>-value` and JSON Schema under `<topic>-json`.

    Returns the id of the first.

    What a producer adds must leave both sides readable: the relay reads with the schema of this checkout, whatever was
    written with. So Avro is held to FULL_TRANSITIVE: fields come and go with defaults, and change no type.
    """
    client, topic = _client(url), topics.intake(tenant).name
    _compatible(client, f"{topic}-value", "FULL_TRANSITIVE")
    client.register_schema(f"{topic}-json", Schema(json.dumps(catalogue.json_schema("intake")), "JSON"))
    return _register(client, f"{topic}-value", "Intake")


def _compatible(client: SchemaRegistryClient, subject: str, level: str) -> None:
    try:
        known = client.get_compatibility(subject)
    except SchemaRegistryError as error:
        if error.http_status_code != 404:
            raise
        known = None
    if known != level:
        client.set_compatibility(subject, level)


def properties(url: str) -> Callable[[int], frozenset[str]]:
    """Tells the properties of a JSON Schema by its id in this registry; KeyError where there is no such JSON Schema."""
    client = _client(url)
    found: dict[int, frozenset[str]] = {}

    def lookup(schema_id: int) -> frozenset[str]:
        if schema_id not in found:
            schema = _schema(client, schema_id)
            if schema.schema_type != "JSON":
                raise KeyError(schema_id)
            declared = json.loads(schema.schema_str or "{}")
            names = declared.get("properties") if isinstance(declared, dict) else None
            if len(found) >= MOST_REMEMBERED:
                found.clear()
            found[schema_id] = frozenset(names if isinstance(names, dict) else ())
        return found[schema_id]

    return lookup


def _schema(client: SchemaRegistryClient, schema_id: int) -> Schema:
    """KeyError: there is none with this id."""
    try:
        return client.get_schema(schema_id)
    except SchemaRegistryError as error:
        if error.http_status_code == 404:
            raise KeyError(schema_id) from error
        raise


def connect(url: str) -> Codec:
    """A codec that knows this registry's ids, and asks it for those it meets later."""
    return codec(url, publish(url))


def codec(url: str, ids: Mapping[str, int]) -> Codec:
    """A codec with ids already known: it asks the registry only when it meets another one."""
    client = _client(url)

    def lookup(schema_id: int) -> Mapping[str, Any]:
        schema: dict[str, Any] = json.loads(_schema(client, schema_id).schema_str or "{}")
        return schema

    return Codec(ids, lookup)
