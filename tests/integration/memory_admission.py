"""Admission without Java: the memory engine, which is product code, between the topics of a real broker."""

from __future__ import annotations

import threading
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from schemas import kafka, topics
from schemas.wire import Codec
from streams.memory import MemoryEngine


class MemoryAdmission:
    """Runs in a thread: what comes on `journal` from now on is decided, and what is decided is written.

    `completions` are those that workers wrote, in order.
    """

    def __init__(self, bootstrap: str, codec: Codec) -> None:
        self.completions: list[dict[str, Any]] = []
        self._producer = Producer(kafka.producer(bootstrap, "memory", linger_ms=1))
        self.engine = MemoryEngine(codec, on_write=self._write)
        settings = kafka.consumer(bootstrap, "memory", "memory") | {"fetch.wait.max.ms": 10}
        self._consumer = Consumer(settings)
        places = [TopicPartition(topics.JOURNAL, p) for p in range(4)]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, 10)[1]
        self._consumer.assign(places)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join(5)
        self._consumer.close()
        self._producer.flush(5)

    def _write(self, _tenant: str, topic: str, key: str, value: bytes) -> None:
        self._producer.produce(topic, value, key.encode())

    def _run(self) -> None:
        while not self._stop.is_set():
            for message in self._consumer.consume(100, 0.05):
                self._take(message)
            self._producer.poll(0)

    def _take(self, message: Message) -> None:
        value = message.value()
        if message.error() is None and value is not None:
            kind, record = self.engine.codec.decode(value)
            if kind == "Completion":
                self.completions.append(record)
            self.engine.step(kind, record, message.timestamp()[1])
