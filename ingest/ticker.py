"""Writes a tick to every partition of the journal, so that time passes there when nothing else does."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from confluent_kafka import KafkaException, Producer

from ingest.brokers import quiet
from schemas import kafka, topics
from schemas.wire import Codec

log = logging.getLogger(__name__)

PERIOD_S: Final = 0.25
REFRESH_S: Final = 30.0
# Ticks that Kafka has not taken yet. Old ones say nothing that a new one does not, so few are kept.
MAX_QUEUED: Final = 64
TICK_TIMEOUT_MS: Final = 5_000


class Ticker:
    """A thread of its own: time must pass also while the relay waits for the registry."""

    def __init__(self, bootstrap: str, client_id: str, codec: Codec) -> None:
        settings = kafka.producer(bootstrap, f"{client_id}-ticks") | {"message.timeout.ms": TICK_TIMEOUT_MS}
        self._producer = Producer({**settings, **quiet(f"{client_id}-ticks")})
        self._codec = codec
        self._partitions = 0
        self._refresh_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticks", daemon=True)

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def stop(self) -> None:
        """Tick no more."""
        self._stop.set()
        self._thread.join(2.0)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._tick()
            due = max(due + PERIOD_S, time.monotonic())

    def _tick(self) -> None:
        self._producer.poll(0)
        if time.monotonic() >= self._refresh_at:
            self._count_partitions()
        if len(self._producer) >= MAX_QUEUED:
            return
        for partition in range(self._partitions):
            value = self._codec.encode("Tick", {"tenant": "", "partition": partition})
            try:
                self._producer.produce(topics.JOURNAL, value, partition=partition)
            except (BufferError, KafkaException) as error:
                log.warning("a tick was not sent: %s", error)

    def _count_partitions(self) -> None:
        try:
            metadata = self._producer.list_topics(topics.JOURNAL, timeout=2.0).topics[topics.JOURNAL]
        except KafkaException as error:
            log.warning("the journal cannot be seen: %s", error)
            return
        if metadata.error is None:
            self._partitions = len(metadata.partitions)
            self._refresh_at = time.monotonic() + REFRESH_S
