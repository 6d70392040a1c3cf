"""Producers that write to their intake topic instead of calling the gateway."""

from functools import cache
from typing import Any

from confluent_kafka import Producer

from schemas import kafka, registry
from tests.e2e.stack import Stack


def produce(stack: Stack, tenant: str, *values: bytes) -> None:
    """Write these bytes to the tenant's intake topic, however long the broker is away (a minute at most)."""
    producer = Producer(kafka.producer(stack.kafka, "device"))
    for value in values:
        producer.produce(f"intake.{tenant}", value)
    assert producer.flush(60) == 0


@cache
def _schema_id(url: str, tenant: str) -> int:
    return registry.publish_intake(url, tenant)


def intake(stack: Stack, tenant: str, **more: Any) -> bytes:
    """A record as any Avro client of the registry writes it."""
    ids = {"Intake": _schema_id(f"http://127.0.0.1:{stack.ports['REGISTRY']}/apis/ccompat/v7", tenant)}
    record = {
        "id": "", "model": "echo", "messages": [], "max_tokens": None, "temperature": None, "parameters": "",
        "lane": "standard", "timeout_ms": 0, "correlation_id": "", **more,
    }  # fmt: skip
    return registry.codec("http://127.0.0.1:1", ids).encode("Intake", record)
