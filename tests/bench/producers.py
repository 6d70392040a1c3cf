"""Avro producers: records/s of one Python process into its intake topic, each acknowledged, on a broker of its own.

Twice: as docs/producers.md shows it for speed (fastavro, and the five bytes in front by hand), and with the serializer
that confluent-kafka brings.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas import kafka, registry, topics
from schemas.wire import Codec
from tests.bench.broker import broker
from tests.bench.driver import WORDS, Stack
from tests.bench.report import Result, Row, Unmeasured

TENANT: Final = "millrace-bench"
TOPIC: Final = topics.intake(TENANT)
RECORDS: Final = 300_000
SERIALIZED: Final = 50_000
TARGET: Final = 40_000.0
# Records handed over between two looks at what was delivered.
CHUNK: Final = 1_000
FLUSH_S: Final = 60.0

Encode = Callable[[dict[str, Any]], bytes]


async def measure(stack: Stack) -> Result:
    """Both. Raises Unmeasured."""
    return await asyncio.to_thread(drive, stack.addresses.registry)


def drive(url: str) -> Result:
    """The same, without an event loop; `url` is the registry's."""
    with broker([TOPIC]) as settings:
        codec = codec_of(url)
        fast, cpu_s = produce(settings.kafka, RECORDS, lambda record: codec.encode("Intake", record))
        slow, _ = produce(settings.kafka, SERIALIZED, serializer(url))
    note = f"acks=all, lz4; {cpu_s * 1e6 / RECORDS:.0f} µs of the process's CPU a record, librdkafka's threads included"
    return Result(
        [
            Row("Avro records of one Python process into its intake", RECORDS / fast, "/s", TARGET, ">=", note),
            Row("the same with confluent-kafka's AvroSerializer", SERIALIZED / slow, "/s", note="acks=all, lz4"),
        ]
    )


def codec_of(url: str) -> Codec:
    """A codec that writes Intake under the id it has in the registry."""
    return registry.codec(url, {"Intake": registry.publish_intake(url, TENANT)})


def serializer(url: str) -> Encode:
    """As clients of confluent-kafka use it."""
    client = SchemaRegistryClient({"url": url, "timeout": 10})
    serialize = AvroSerializer(client, conf={"auto.register.schemas": False, "use.latest.version": True})
    context = SerializationContext(TOPIC.name, MessageField.VALUE)

    def encode(record: dict[str, Any]) -> bytes:
        value = serialize(record, context)
        assert value is not None
        return value

    return encode


def records(count: int) -> Iterator[dict[str, Any]]:
    """Readings of 50 devices, every field of the schema given, as a client of its own language would."""
    for i in range(count):
        yield {
            "id": f"reading-{i}",
            "model": "echo",
            "messages": [{"role": "user", "content": WORDS}],
            "max_tokens": 24,
            "temperature": 0.0,
            "parameters": "",
            "lane": "standard",
            "timeout_ms": 0,
            "correlation_id": f"sensor-{i % 50}",
            "created_at": 0,
            "max_age_ms": 0,
            "order_key": "",
        }


def produce(bootstrap: str, count: int, encode: Encode) -> tuple[float, float]:
    """Seconds until Kafka has acknowledged all, and CPU seconds of this process. Raises Unmeasured."""
    faults: list[str] = []
    settings = kafka.producer(bootstrap, "bench-producer", linger_ms=5) | {"delivery.report.only.error": True}
    producer = Producer({**settings, "queue.buffering.max.messages": 1_000_000})
    began, cpu = time.perf_counter(), time.process_time()
    fill(producer, TOPIC.name, (encode(record) for record in records(count)), lambda e, _: faults.append(e.str()))
    left = producer.flush(FLUSH_S)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    if left or faults:
        raise Unmeasured(f"{left} records were not delivered; {faults[:1]}")
    return seconds, cpu_s


def fill(producer: Producer, topic: str, values: Iterable[bytes], report: Callable[[Any, Any], None]) -> None:
    """Hand over values; where the queue is full, wait for room."""
    for i, value in enumerate(values):
        while True:
            try:
                producer.produce(topic, value, on_delivery=report)
                break
            except BufferError:
                producer.poll(0.05)
        if i % CHUNK == 0:
            producer.poll(0)
