"""The schema registry, through the client of confluent-kafka."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas import catalogue, topics
from schemas.wire import Codec

# Without it the client waits for ever on a registry that accepts a connection and says nothing.
TIMEOUT_S = 10


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
    """Register the schema of a tenant's intake topic under `intake.<tenant>-value`; its id."""
    return _register(_client(url), f"{topics.intake(tenant).name}-value", "Intake")


def connect(url: str) -> Codec:
    """A codec that knows this registry's ids, and asks it for those it meets later."""
    return codec(url, publish(url))


def codec(url: str, ids: Mapping[str, int]) -> Codec:
    """A codec with ids already known: it asks the registry only when it meets another one."""
    client = _client(url)

    def lookup(schema_id: int) -> Mapping[str, Any]:
        try:
            schema: dict[str, Any] = json.loads(client.get_schema(schema_id).schema_str or "{}")
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                raise KeyError(schema_id) from error
            raise
        return schema

    return Codec(ids, lookup)
