"""The lake's job on a real Flink, Kafka and S3, rows for it, and questions to its files."""

from __future__ import annotations

import io
import json
import struct
import time
import uuid
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from parts import Parts
from samples import record

from infra.local.jobs import JOBS, Keeper
from schemas.addresses import Addresses
from schemas.wire import Codec, plain
from streams import lake_sql


@pytest.fixture
def keeper(parts: Parts, kafka: str, codec: Codec, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Flink cluster whose lake job is submitted, and submitted again when it is forgotten."""
    for name, value in parts.settings.environment("jobs").items():
        monkeypatch.setenv(name, value)
    for name in ("s3", "jobmanager", "taskmanager"):
        parts.start(name)
    stop = Event()
    (job,) = [job for job in JOBS if job.name == "lake"]
    thread = Thread(target=Keeper(parts.settings, job, stop).run)
    thread.start()
    yield
    stop.set()
    thread.join()
    for name in ("taskmanager", "jobmanager", "s3"):
        parts.stop(name, kill=True)


class Feed:
    """Writes usage and responses in transactions, some of which it takes back."""

    def __init__(self, kafka: str, codec: Codec) -> None:
        self._codec = codec
        self._producers = {end: self._producer(kafka) for end in ("commit", "abort")}
        self.committed: set[str] = set()

    @staticmethod
    def _producer(kafka: str) -> Producer:
        producer = Producer({"bootstrap.servers": kafka, "transactional.id": uuid.uuid4().hex})
        producer.init_transactions(30)
        return producer

    def write(self, rows: int, *, end: str = "commit", at_ms: int = 0, **fields: Any) -> None:
        """One transaction of `rows` requests, with `fields` of their usage; appended `at_ms` where topics allow it."""
        producer, ids = self._producers[end], [str(uuid.uuid4()) for _ in range(rows)]
        producer.begin_transaction()
        for request_id in ids:
            now_ms = at_ms or time.time_ns() // 1_000_000
            same = {"request_id": request_id, "tenant": "acme", "completed_at": now_ms}
            usage = record("Usage", input_tokens=5, output_tokens=7, **(same | fields))
            response = record("Response", body='{"text":"é"}', **same)
            _produce(producer, "usage", self._codec.encode("Usage", usage), now_ms)
            _produce(producer, "responses", self._codec.encode("Response", response), now_ms)
        if end == "abort":
            producer.flush(30)
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            self.committed |= set(ids)

    def write_as(self, client: SchemaRegistryClient, schema: dict[str, Any], usage: dict[str, Any]) -> None:
        """One row of usage, written with a schema of its own, in which it leaves the new fields to their defaults."""
        number = client.register_schema("usage-value", Schema(json.dumps(schema), "AVRO"))
        out = io.BytesIO()
        out.write(struct.pack(">bI", 0, number))
        fastavro.schemaless_writer(out, fastavro.parse_schema(plain(schema)), usage)
        producer = self._producers["commit"]
        producer.begin_transaction()
        producer.produce("usage", out.getvalue(), b"acme")
        producer.commit_transaction(30)
        self.committed.add(usage["request_id"])


def _produce(producer: Producer, topic: str, value: bytes, at_ms: int) -> None:
    """Hand over a record; wait while too many are on their way."""
    while True:
        try:
            producer.produce(topic, value, b"acme", timestamp=at_ms)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def query(parts: Parts, sql: str) -> list[tuple[object, ...]]:
    """Rows of a query over the lake as it is now."""
    rows: list[tuple[object, ...]] = lake_sql.ask(Addresses.of(parts.environment("sql")), sql).fetchall()
    return rows
