"""Follows the compacted topic `config`: the configuration that is live now."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ingest.brokers import quiet
from schemas import kafka, topics
from schemas.config import ConfigDocument, decode_config
from schemas.wire import Codec, WireError

log = logging.getLogger(__name__)

POLL_S: Final = 0.5

Changed = Callable[[ConfigDocument], None]


class Follower:
    """Reads `config` from its beginning in a thread. `current` is None until the first configuration was read."""

    def __init__(self, bootstrap: str, client_id: str, codec: Codec, changed: Changed | None = None) -> None:
        settings = kafka.consumer(bootstrap, f"{client_id}-config", f"{client_id}-config")
        # Nobody waits for a fetch to end; half a second is well within the five that a change may take.
        self._settings = {**settings, "fetch.wait.max.ms": 500, "enable.partition.eof": True}
        self._settings.update(quiet(f"{client_id}-config"))
        self._codec = codec
        self._changed = changed
        self._stop = threading.Event()
        self._known = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config", daemon=True)
        self.current: ConfigDocument | None = None
        self.published_at = 0  # ms UTC

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether the configuration that is live now is known, waiting for it at most `timeout_s` seconds."""
        return self._known.wait(timeout_s)

    def stop(self) -> None:
        """End the thread, within about a second."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * POLL_S)

    def _run(self) -> None:
        consumer = Consumer(self._settings)
        try:
            consumer.assign([TopicPartition(topics.CONFIG, 0, 0)])
            while not self._stop.is_set():
                self._step(consumer)
        finally:
            consumer.close()

    def _step(self, consumer: Consumer) -> None:
        try:
            message = consumer.poll(POLL_S)
        except KafkaException as error:
            log.warning("config cannot be read: %s", error)
            self._stop.wait(POLL_S)
            return
        if message is None:
            return
        fault = message.error()
        if fault is None:
            self._apply(message)
        elif fault.code() != KafkaError._PARTITION_EOF:
            log.warning("config cannot be read: %s", fault)
            self._stop.wait(POLL_S)
        elif self.current is not None:
            # What came before was the past: compaction keeps some of it for a while.
            self._known.set()

    def _apply(self, message: Message) -> None:
        value = message.value()
        if value is None:
            return
        try:
            _, record = self._codec.decode(value)
            document = decode_config(record["document"])
        except (WireError, KeyError, msgspec.DecodeError) as error:
            # The one before stays live: a broken configuration must not take a running system down.
            log.error("config at offset %s is ignored: %s", message.offset(), error)
            return
        self.current, self.published_at = document, message.timestamp()[1]
        age_ms = int(time.time() * 1000) - self.published_at
        log.info("config %s is live (%d tenants), published %d ms ago", document.version, len(document.tenants), age_ms)
        if self._changed is not None:
            self._changed(document)
