"""A producer without HTTP: Avro onto `intake.<tenant>`, answers on `responses.<tenant>`. `python examples/produce.py`.

It enters Kafka as a user of its tenant. The registry holds the schemas; the ids of the records are the producer's own.
"""

import os
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

KAFKA = os.environ.get("MILLRACE_KAFKA_USERS", "127.0.0.1:9144")
REGISTRY = SchemaRegistryClient(
    {"url": os.environ.get("MILLRACE_REGISTRY", "http://127.0.0.1:8081/apis/ccompat/v7"), "timeout": 10}
)


def user(tenant: str) -> dict[str, Any]:
    """How the tenant's user `demo` of config/tenants.yaml enters."""
    return {
        "bootstrap.servers": KAFKA,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": f"{tenant}.demo",
        "sasl.password": f"mr-{tenant}-demo",
    }


def send(tenant: str, requests: list[dict[str, Any]]) -> None:
    """Write requests (the fields of schemas/avro/intake.avsc) to the tenant's topic. Raises KafkaException."""
    topic = f"intake.{tenant}"
    serialize = AvroSerializer(REGISTRY, conf={"auto.register.schemas": False, "use.latest.version": True})
    producer = Producer({**user(tenant), "enable.idempotence": True, "message.timeout.ms": 20_000})
    for request in requests:
        value = serialize(request, SerializationContext(topic, MessageField.VALUE))
        producer.produce(topic, value, on_delivery=_delivered)
    producer.flush(30)


def _delivered(error: KafkaError | None, _message: Message) -> None:
    if error is not None:
        raise KafkaException(error)


def listen(tenant: str) -> Consumer:
    """A consumer at the present end of the tenant's answers; make it before you send."""
    topic = f"responses.{tenant}"
    consumer = Consumer({**user(tenant), "group.id": f"{tenant}.example", "enable.auto.commit": False})
    places = [TopicPartition(topic, p) for p in consumer.list_topics(topic, 10).topics[topic].partitions]
    consumer.assign([TopicPartition(p.topic, p.partition, consumer.get_watermark_offsets(p, 10)[1]) for p in places])
    return consumer


def answers(consumer: Consumer, ids: set[str], timeout_s: float) -> Iterator[dict[str, Any]]:
    """The answers to these ids as they arrive, each once; ends with the last of them or after the timeout."""
    deserialize, left, deadline = AvroDeserializer(REGISTRY), set(ids), time.monotonic() + timeout_s
    while left and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None or message.error() is not None:
            continue
        record = deserialize(message.value(), SerializationContext(message.topic() or "", MessageField.VALUE))
        if record["request_id"] in left:
            left.remove(record["request_id"])
            yield record


def main() -> int:
    """Ask one question; 0 when it was answered within a minute."""
    question = " ".join(sys.argv[1:]) or "Is 31 degrees too hot for a server room?"
    request_id, messages = str(uuid.uuid4()), [{"role": "user", "content": question}]
    consumer = listen("acme")
    send("acme", [{"id": request_id, "messages": messages, "max_tokens": 24, "correlation_id": "sensor-7"}])
    answer = next(answers(consumer, {request_id}, 60), None)
    consumer.close()
    print(f"{answer['status']} {answer['correlation_id']}: {answer['body']}" if answer else "no answer within 60 s")
    return 0 if answer else 1


if __name__ == "__main__":
    sys.exit(main())
