"""Reads replies.<gateway> in a thread and hands what it read to the event loop, a batch at a time."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from ingest import topic_admin
from ingest.brokers import quiet
from schemas import kafka, topics
from schemas.wire import Codec, WireError

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
BATCH: Final = 500
TIMEOUT_S: Final = 5.0

Deliver = Callable[[Iterable[tuple[str, dict[str, Any]]]], None]


class Replies:
    """The consumer of one gateway's replies. `ready` once it has its place in the topic."""

    def __init__(self, bootstrap: str, service: str, codec: Codec, deliver: Deliver) -> None:
        self.topic = topics.replies(service)
        self.ready = False
        self._bootstrap = bootstrap
        # Replies are written at least once, outside transactions, so there is nothing to wait for.
        settings = kafka.consumer(bootstrap, self.topic.name, service) | {"isolation.level": "read_uncommitted"}
        self._settings = {**settings, **quiet(self.topic.name)}
        self._codec = codec
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replies", daemon=True)

    def start(self) -> None:
        """Begin to read, at the end of the topic: what is there already was for callers who are gone."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, within about a second."""
        self._stop.set()
        self._thread.join(2 * POLL_S)

    def _run(self) -> None:
        consumer = Consumer(self._settings)
        try:
            while not self._stop.is_set() and not self._begin(consumer):
                self._stop.wait(1.0)
            while not self._stop.is_set():
                self._step(consumer)
        finally:
            consumer.close()

    def _begin(self, consumer: Consumer) -> bool:
        """Take a fixed place before the first request is sent, so that not even its reply can be missed."""
        place = TopicPartition(self.topic.name, 0)
        try:
            topic_admin.create(self._bootstrap, [self.topic], TIMEOUT_S)
            _, place.offset = consumer.get_watermark_offsets(place, TIMEOUT_S)
        except KafkaException as error:
            log.warning("%s cannot be read yet: %s", self.topic.name, error)
            return False
        consumer.assign([place])
        self.ready = True
        log.info("reading %s from offset %d", self.topic.name, place.offset)
        return True

    def _step(self, consumer: Consumer) -> None:
        first = consumer.poll(POLL_S)
        if first is None:
            return
        # consume() waits until a batch is full; with no time to wait it takes what is there.
        messages = [first, *consumer.consume(BATCH, 0)]
        records = [r for m in messages if (r := self._decode(m)) is not None]
        if records and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, records)

    def _decode(self, message: Message) -> tuple[str, dict[str, Any]] | None:
        error = message.error()
        if error is not None:
            log.warning("%s: %s", self.topic.name, error)
            self._stop.wait(0.1)
            return None
        try:
            return self._codec.decode(message.value() or b"")
        except WireError as fault:
            log.error("%s at offset %s is ignored: %s", self.topic.name, message.offset(), fault)
            return None
